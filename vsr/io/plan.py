"""Decides everything about an output before any work, and what becomes of each stream.

What cannot be done is refused here, in one line that names the stream and the remedy; what is lost
is said here, as a warning. `AvSink` then only does what the plan says.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import av
from av.stream import Disposition, Stream

from vsr.errors import ContainerError, EncoderError, UnsupportedSourceError
from vsr.io import encoders
from vsr.io.atomic import check_target
from vsr.io.containers import Container, container_of
from vsr.io.encoders import Encoder, Quality
from vsr.io.open import is_url, open_input
from vsr.io.streams import choose_video
from vsr.types import ColorSpec, PixelFormat, VideoInfo

_log = logging.getLogger(__name__)

_DOVI_PROFILE: Final = 2
_DOVI_COMPATIBILITY: Final = 7
"""Places in FFmpeg's AVDOVIDecoderConfigurationRecord, all of whose fields are single bytes."""

type Action = Literal["encode", "copy", "convert", "transcode", "attach", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """What the user asked of the output.

    Attributes:
        encoder: Id or alias of an encoder, or `auto`.
        crf: Constant quality; the encoder's default if None.
        preset: Speed against size; the encoder's default if None.
        pix_fmt: FFmpeg's name of the pixel format to encode; the best match if None.
        extra: Further options of the encoder.
        overwrite: Whether an existing file may be replaced.
        audio: Whether audio streams are kept.
        subtitles: Whether subtitle streams are kept.
        audio_codec: Encode audio anew with this FFmpeg encoder; copy if None or `copy`.
        fragmented: Write a fragmented mp4, playable while it grows.
        faststart: Put the index of an mp4 in front.
        container: FFmpeg's name of the container; by the suffix of the file if None.
        allow_url: Whether the source of the other streams may be an address.
    """

    encoder: str = "auto"
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    overwrite: bool = False
    audio: bool = True
    subtitles: bool = True
    audio_codec: str | None = None
    fragmented: bool = False
    faststart: bool = True
    container: str | None = None
    allow_url: bool = False

    @property
    def quality(self) -> Quality:
        """The part that the encoder is asked for."""
        return Quality(crf=self.crf, preset=self.preset, extra=self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """What becomes of one stream of the source.

    Attributes:
        index: In the source.
        kind: `video`, `audio`, `subtitle`, `attachment` or `data`.
        codec: FFmpeg's codec name.
        action: `encode` is the upscaled picture; `convert` is text to other text; `attach` makes it
            a file within.
        target: Codec or encoder it becomes, where that differs.
        reason: Why it is not simply copied.
    """

    index: int
    kind: str
    codec: str
    action: Action
    target: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """Everything that was decided about an output.

    Attributes:
        path: Of the finished file.
        container: That it will be.
        encoder: Of the picture.
        format: That the sink takes.
        color: That the sink takes, and tags.
        bake_rotation: Whether the picture must be turned before, because the container cannot say
            it.
        streams: One entry for each stream of the source, in its order; empty without a source.
        options: What the user asked.
        tags: Further tags of the file, where its container holds any.
    """

    path: Path
    container: Container
    encoder: Encoder
    format: PixelFormat
    color: ColorSpec
    bake_rotation: bool
    streams: tuple[StreamPlan, ...]
    options: SinkOptions
    tags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def plan_output(
    path: Path,
    picture: VideoInfo,
    source: Path | str | None,
    options: SinkOptions,
    *,
    video: int | None = None,
) -> OutputPlan:
    """Plans an output, or refuses it.

    Args:
        path: Of the output.
        picture: Of the output: its size, and the source's format, resolved colour, times, rotation
            and HDR metadata.
        source: Where the other streams come from, an address if the options allow; None if there
            are none.
        options: What the user asked.
        video: Index of the source's stream that is upscaled; the one `open_source` chooses if None.

    Raises:
        SinkError: The file cannot be written; `SinkExistsError` if it exists.
        ContainerError: Unknown suffix, or a stream that the container cannot hold.
        EncoderError: The encoder is unknown or missing, or refuses its settings.
        SourceError: The source cannot be read.
    """
    container = container_of(path, options.container)
    local = None if source is None or is_url(source) else Path(source)
    check_target(path, overwrite=options.overwrite, source=local)
    encoder = encoders.choose(options.encoder, container.name, picture.format)
    form = _choose_format(picture, encoder, options)
    color = _encoded_color(picture.color, picture.format, form)
    encoders.open_context(encoder, replace(picture, format=form, color=color), options.quality)
    streams = _plan_streams(source, video, container, options) if source is not None else ()
    _warn_of_losses(picture, form, encoder, container)
    return OutputPlan(
        path=path,
        container=container,
        encoder=encoder,
        format=form,
        color=color,
        bake_rotation=picture.rotation != 0 and not container.rotation,
        streams=streams,
        options=options,
    )


def _choose_format(picture: VideoInfo, encoder: Encoder, options: SinkOptions) -> PixelFormat:
    if options.pix_fmt is None:
        return encoders.match_format(picture.format, encoder, picture.width, picture.height)
    form = encoders.parse_format(options.pix_fmt, encoder)
    odd = (picture.width % 2 and form.chroma_w) or (picture.height % 2 and form.chroma_h)
    if odd and encoder.even:
        msg = (
            f"{encoder.id} encodes no {options.pix_fmt} of odd size "
            f"{picture.width}x{picture.height}: leave out --pix-fmt or choose an even size"
        )
        raise EncoderError(msg)
    return form


def _encoded_color(color: ColorSpec, source: PixelFormat, form: PixelFormat) -> ColorSpec:
    """What the encoded samples mean; RGB that becomes YUV becomes BT.709 limited range."""
    if source.family == "rgb" and form.family != "rgb":
        return replace(color, matrix=1, full_range=False, siting=color.siting or 1)
    if form.family == "rgb":
        return replace(color, matrix=0, siting=0)
    return color if form.subsampled else replace(color, siting=0)


def _warn_of_losses(
    picture: VideoInfo, form: PixelFormat, encoder: Encoder, container: Container
) -> None:
    for loss in encoders.losses(picture.format, form):
        _log.warning("%s: %s; ffv1 keeps everything", encoder.id, loss)
    if picture.hdr and "hdr" not in encoder.carries and not container.hdr:
        _log.warning(
            "%s in %s cannot say HDR mastering metadata: it is dropped; use x265 or .mkv",
            encoder.id,
            container.name,
        )


def codec_of(stream: Stream) -> str:
    """FFmpeg's name of a stream's codec, not of the decoder that happens to be used."""
    context = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    return str(getattr(stream, "name", None) or "unknown")


def is_cover(stream: Stream) -> bool:
    """Whether a video stream is only a picture of the cover."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _plan_streams(
    source: Path | str, video: int | None, container: Container, options: SinkOptions
) -> tuple[StreamPlan, ...]:
    with open_input(source, allow_url=options.allow_url) as file:
        chosen = choose_video(file, str(source), video)
        _refuse_undecodable_color(source, chosen)
        return tuple(
            _plan_stream(stream, container, options, chapters=bool(file.chapters()))
            if stream.index != chosen.index
            else StreamPlan(
                index=stream.index, kind="video", codec=codec_of(stream), action="encode"
            )
            for stream in file.streams
        )


def _refuse_undecodable_color(source: Path | str, stream: Stream) -> None:
    """Refuses pictures whose colours only the metadata that gets lost could explain."""
    context = stream.codec_context
    config = context.coded_side_data.get("dovi_conf", b"") if context is not None else b""
    if len(config) > _DOVI_COMPATIBILITY and config[_DOVI_COMPATIBILITY] == 0:
        msg = (
            f"{source} is Dolby Vision profile {config[_DOVI_PROFILE]} without an HDR10, HLG or "
            "SDR base, so its colours would be lost: convert it first, as with FFmpeg's libplacebo"
        )
        raise UnsupportedSourceError(msg)


def _plan_stream(
    stream: Stream, container: Container, options: SinkOptions, *, chapters: bool
) -> StreamPlan:
    plan = StreamPlan(
        index=stream.index, kind=stream.type or "data", codec=codec_of(stream), action="copy"
    )
    match plan.kind:
        case "video" if is_cover(stream):
            return _plan_cover(plan, container)
        case "audio":
            return _plan_audio(plan, container, options)
        case "subtitle":
            return _plan_subtitle(plan, container, options)
        case "attachment":
            held = replace(plan, action="attach")
            reason = f"{container.name} holds no attached files"
            return held if container.attachments else _dropped(plan, reason)
        case "data":
            return _plan_data(plan, stream, container, chapters=chapters)
    return plan if _held(plan, container) else _refuse(plan, container, "-o FILE.mkv")


def _held(plan: StreamPlan, container: Container) -> bool:
    return container.holds(plan.kind, plan.codec)


def _plan_cover(plan: StreamPlan, container: Container) -> StreamPlan:
    if container.cover == "attachment":
        return replace(plan, action="attach")
    if container.cover == "stream" and _held(plan, container):
        return plan
    return _dropped(plan, f"{container.name} holds no cover picture of this kind")


def _plan_audio(plan: StreamPlan, container: Container, options: SinkOptions) -> StreamPlan:
    if not options.audio:
        return replace(plan, action="drop", reason="--no-audio")
    target = options.audio_codec
    if target not in (None, "copy"):
        try:
            codec = av.codec.Codec(target, "w")
        except ValueError as error:  # PyAV's UnknownCodecError
            msg = f"no audio encoder {target!r}; try aac, libopus, flac or ac3"
            raise EncoderError(msg) from error
        if codec.type != "audio" or not container.holds("audio", codec.canonical_name):
            msg = f"{container.name} holds no {target} audio; try --audio-codec aac, or -o FILE.mkv"
            raise ContainerError(msg)
        return replace(plan, action="transcode", target=target, reason="--audio-codec")
    if _held(plan, container):
        return plan
    fitting = "libopus" if container.name == "webm" else "aac"
    return _refuse(plan, container, f"-o FILE.mkv, --audio-codec {fitting} or --no-audio")


def _plan_subtitle(plan: StreamPlan, container: Container, options: SinkOptions) -> StreamPlan:
    if not options.subtitles:
        return replace(plan, action="drop", reason="--no-subs")
    if _held(plan, container):
        return plan
    if container.converts(plan.codec):
        _log.warning(
            "stream #%d (%s subtitles) becomes %s, the text format of %s; layout may change",
            plan.index,
            plan.codec,
            container.text,
            container.name,
        )
        return replace(plan, action="convert", target=container.text)
    return _refuse(plan, container, "-o FILE.mkv or --no-subs")


def _plan_data(
    plan: StreamPlan, stream: Stream, container: Container, *, chapters: bool
) -> StreamPlan:
    if chapters and plan.codec == "bin_data":
        # QuickTime keeps chapters in a text track; the muxer makes a new one from the chapters
        # themselves
        return replace(plan, action="drop", reason="kept as chapters")
    if "timecode" in stream.metadata:
        return replace(plan, action="drop", reason="kept as the timecode tag")
    return _dropped(plan, f"data streams are not copied into {container.name}")


def _dropped(plan: StreamPlan, reason: str) -> StreamPlan:
    _log.warning("stream #%d (%s, %s) is dropped: %s", plan.index, plan.kind, plan.codec, reason)
    return replace(plan, action="drop", reason=reason)


def _refuse(plan: StreamPlan, container: Container, remedy: str) -> StreamPlan:
    stream = f"stream #{plan.index} ({plan.kind}, {plan.codec})"
    msg = f"{container.name} cannot hold {stream}: use {remedy}"
    raise ContainerError(msg)
