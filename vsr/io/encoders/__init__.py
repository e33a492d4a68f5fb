"""The encoders: one frozen specification a file, found by looking into this folder.

    x264 (default)  x265  svtav1  vp9  ffv1  prores  h264_nvenc  hevc_nvenc  av1_nvenc

`Encoder`, `Quality` and the format helpers live in `_base`; which format suits a picture is decided
in `_match`.
"""

import importlib
import os
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Final, cast

import av
from av.video.codeccontext import VideoCodecContext

from vsr.errors import EncoderError
from vsr.io.color import apply_color
from vsr.io.encoders._base import Encoder, Quality, Scale
from vsr.io.encoders._match import describe, losses, match_format
from vsr.io.encoders._threads import DECIDES, chosen_threads
from vsr.io.formats import ffmpeg_name, pixel_format
from vsr.types import ColorSpec, PixelFormat, VideoInfo

__all__ = [
    "Encoder",
    "Quality",
    "Scale",
    "available",
    "choose",
    "describe",
    "get",
    "losses",
    "match_format",
    "names",
    "open_context",
    "own_threads",
]

_FIRST: Final = ("x264", "x265", "svtav1", "vp9", "ffv1", "prores")
_AUTO: Final = ("h264_nvenc", "x264", "x265", "vp9", "prores")
_PROBE: Final = (256, 256)
"""Above the smallest size of every hardware encoder."""


@cache
def _encoders() -> dict[str, Encoder]:
    found = {
        module.name: cast("Encoder", importlib.import_module(f"{__name__}.{module.name}").ENCODER)
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")
    }
    order = [*_FIRST, *sorted(set(found) - set(_FIRST))]
    return {name: found[name] for name in order}


def names() -> tuple[str, ...]:
    """Ids of all encoders, the usual ones first."""
    return tuple(_encoders())


def get(name: str) -> Encoder:
    """Finds an encoder by its id, by FFmpeg's name (`libx264`) or by the codec's (`hevc`).

    Raises:
        EncoderError: There is none of that name.
    """
    for encoder in _encoders().values():
        if name.lower() in (encoder.id, encoder.codec.lower(), *encoder.aliases):
            return encoder
    msg = f"no encoder {name!r}; choose from: auto, {', '.join(names())}"
    raise EncoderError(msg)


@cache
def available(encoder: Encoder) -> bool:
    """Whether the encoder opens on this machine; tried once on a small picture."""
    form = encoder.formats[0]
    picture = VideoInfo(
        width=_PROBE[0],
        height=_PROBE[1],
        format=form,
        color=ColorSpec(),
        time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
    )
    try:
        open_context(encoder, picture, Quality())
    except EncoderError:
        return False
    return True


def choose(name: str, container: str, picture: PixelFormat | None = None) -> Encoder:
    """Resolves an encoder's name for a container.

    Args:
        name: Any name that `get` knows, or `auto`: NVENC's H.264 where a device offers it, else
            x264; VP9 where the container holds no H.264 (WebM). But what keeps more of the picture
            wins: x265 beyond 10 bits, and for a film with alpha VP9 or ProRes, where the container
            holds them.
        container: FFmpeg's name of the muxer.
        picture: Format of the picture to encode.

    Raises:
        EncoderError: Unknown, missing on this machine, or not for this container.
    """
    if name == "auto":
        working = (e for e in map(get, _AUTO) if container in e.containers and available(e))
        fitting = (encoder.within(container) for encoder in working)
        return next(fitting) if picture is None else _keeping_most(picture, fitting)
    encoder = get(name)
    if container not in encoder.containers:
        listed = ", ".join(encoder.containers)
        msg = f"{encoder.id} does not go into {container}; use one of: {listed}"
        raise EncoderError(msg)
    if not available(encoder):
        msg = f"{encoder.id} does not work on this machine; use -c auto or another encoder"
        raise EncoderError(msg)
    return encoder.within(container)


def _keeping_most(picture: PixelFormat, fitting: Iterable[Encoder]) -> Encoder:
    """The first that loses nothing, else the first that loses least; nothing later is tried."""
    if picture.family != "yuv":  # palettes and PNG have alpha as a rule, and mostly without use
        picture = replace(picture, alpha=False)
    best: tuple[tuple[int, int, int], Encoder] | None = None
    for encoder in fitting:
        form = match_format(picture, encoder, *_PROBE)
        cost = (
            picture.alpha - form.alpha,
            max(0, picture.bits - form.bits),
            len(losses(picture, form)),
        )
        if best is None or cost < best[0]:
            best = cost, encoder
        if not any(cost):
            break
    if best is None:
        msg = "no encoder of this FFmpeg works here; reinstall PyAV"
        raise EncoderError(msg)
    return best[1]


def native_format(encoder: Encoder, form: PixelFormat) -> str:
    """FFmpeg's name of the format that the encoder is given for our planar one."""
    name = ffmpeg_name(form)
    return encoder.native.get(name, name)


def configure(
    context: VideoCodecContext, encoder: Encoder, picture: VideoInfo, quality: Quality
) -> None:
    """Sets everything on an encoder's context that must be known before it opens."""
    if encoder.codec == "libsvtav1":
        # its log goes to stderr past FFmpeg's; 1 keeps errors
        os.environ.setdefault("SVT_LOG", "1")
    context.width, context.height = picture.width, picture.height
    context.pix_fmt = native_format(encoder, picture.format)
    # without the source's time base the encoder would round times to its frame rate
    context.time_base = picture.time_base
    context.framerate = picture.frame_rate or Fraction(25)
    context.sample_aspect_ratio = picture.sample_aspect
    apply_color(context, picture.color)
    # PyAV's default, slices, would have x264 cut every picture into pieces
    context.thread_type = "AUTO"
    context.options = encoder.settings(quality, picture)


def open_context(
    encoder: Encoder,
    picture: VideoInfo,
    quality: Quality,
    *,
    context: VideoCodecContext | None = None,
) -> VideoCodecContext:
    """Opens an encoder with its real settings, so that a bad one is found before any work.

    Args:
        encoder: Which.
        picture: Of the output; its `format` is what the sink will be given.
        quality: What the user asked.
        context: To open; a new one by default.

    Raises:
        EncoderError: Refused, or an option that the encoder does not know.
    """
    if min(picture.width, picture.height) < encoder.smallest:
        msg = (
            f"{encoder.id} takes no side under {encoder.smallest} pixels, and the picture has "
            f"{picture.width}x{picture.height}: use another encoder, such as -c x264"
        )
        raise EncoderError(msg)
    if context is None:
        try:
            context = cast("VideoCodecContext", av.CodecContext.create(encoder.codec, "w"))
        except ValueError as error:  # PyAV's UnknownCodecError
            msg = f"{encoder.id}: this FFmpeg was built without {encoder.codec}"
            raise EncoderError(msg) from error
    configure(context, encoder, picture, quality)
    try:
        with _own_priority():
            context.open()
    except (av.error.FFmpegError, ValueError) as error:
        asked = " ".join(f"{key}={value}" for key, value in sorted(quality.extra.items()))
        msg = (
            f"{encoder.id} refuses {picture.width}x{picture.height} {ffmpeg_name(picture.format)}"
            f"{f' with {asked}' if asked else ''}: {_reason(error)}"
        )
        raise EncoderError(msg) from error
    unknown = sorted(set(context.options) & set(quality.extra))
    if unknown:
        listed = ", ".join(unknown)
        msg = f"{encoder.id} has no option {listed}; see ffmpeg -h encoder={encoder.codec}"
        raise EncoderError(msg)
    return context


def own_threads(encoder: Encoder, picture: VideoInfo, quality: Quality) -> int | None:
    """How many threads an encoder would take here, for another machine to make the same bytes.

    Args:
        encoder: Which.
        picture: Of the output; its `format` is what the encoder will be given.
        quality: What the user asked.

    Returns:
        None where the bytes do not depend on it.

    Raises:
        EncoderError: It refuses the picture.
    """
    if encoder.codec not in DECIDES:
        return None
    return chosen_threads(encoder, open_context(encoder, picture, quality))


@contextmanager
def _own_priority() -> Iterator[None]:
    """Keeps this thread's priority: as root SVT-AV1 makes it a real-time one, before all others."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, given = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, given)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0]


def parse_format(name: str, encoder: Encoder) -> PixelFormat:
    """Checks a pixel format that the user chose by FFmpeg's name.

    Raises:
        EncoderError: Unknown, or not among those the encoder takes.
    """
    known = ", ".join(ffmpeg_name(form) for form in encoder.formats)
    spelled = name if name.endswith("le") or pixel_format(name) else f"{name}le"
    form = pixel_format(spelled)
    if form is None or form not in encoder.formats:
        msg = f"{encoder.id} does not take pixel format {name!r}; choose from: {known}"
        raise EncoderError(msg)
    return form
