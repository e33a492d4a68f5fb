"""Which stream format a pipe gets, and the sink that writes it."""

import logging
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final, Literal

from vsr.errors import UsageError
from vsr.io.av_source import AvSource
from vsr.io.base import FrameSink
from vsr.io.ends import ByteSink, is_stream
from vsr.io.formats import ffmpeg_name
from vsr.io.rawvideo import RawSink, RawSource, RawSpec
from vsr.io.stream_sink import StreamSink
from vsr.io.stream_source import StreamSource
from vsr.io.y4m import Y4mSink, Y4mSource, header_for
from vsr.types import VideoInfo

_log = logging.getLogger(__name__)

type PipeFormat = Literal["y4m", "nut", "matroska", "rawvideo"]
type PipeSource = Y4mSource | RawSource | StreamSource | AvSource

_SUFFIXES: Final[dict[str, PipeFormat]] = {
    ".y4m": "y4m",
    ".nut": "nut",
    ".mkv": "matroska",
    ".yuv": "rawvideo",
    ".raw": "rawvideo",
}


def format_for(target: Path, asked: PipeFormat | None, source: PipeSource) -> PipeFormat:
    """The output's format: as asked, by its suffix, or as the input's.

    Raises:
        UsageError: A file whose suffix is that of none of them.
    """
    if asked is not None:
        return asked
    suffix = target.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix and not is_stream(str(target)):
        msg = (
            f"a pipe does not write {suffix}: name a file {', '.join(_SUFFIXES)}, or use "
            "`vsr upscale - -o`, which encodes"
        )
        raise UsageError(msg)
    if isinstance(source, StreamSource):
        return "nut" if source.container.format.name == "nut" else "matroska"
    return "rawvideo" if isinstance(source, RawSource) else "y4m"


def sink_for(
    name: PipeFormat, source: PipeSource, picture: VideoInfo, raw: RawSpec | None
) -> Callable[[ByteSink], FrameSink]:
    """Finds out whether the output can be written, and gives the function that begins it.

    Args:
        name: Its format.
        source: What comes in.
        picture: What goes out.
        raw: What the input's bytes stand for, if they are raw video.
    """
    if name in ("nut", "matroska"):
        streams = source if isinstance(source, StreamSource) else None
        return partial(StreamSink, format=name, picture=picture, source=streams)
    warn_of_losses(name, source, keeps_rotation=False)
    if name == "y4m":
        line = (
            source.header.answer(picture.width, picture.height, progressive=source.filtered)
            if isinstance(source, Y4mSource)
            else header_for(picture).line()
        )
        return partial(Y4mSink, line=line, rate=picture.frame_rate)
    spec = (
        replace(raw, width=picture.width, height=picture.height)
        if raw is not None
        else RawSpec(
            width=picture.width,
            height=picture.height,
            pix_fmt=ffmpeg_name(picture.format),
            rate=picture.frame_rate or Fraction(25),
        )
    )
    return partial(RawSink, spec=spec)


def warn_of_losses(name: str, source: PipeSource, *, keeps_rotation: bool) -> None:
    """Says what of the input will not be in the output."""
    if isinstance(source, StreamSource):
        others = [s for s in source.container.streams if s.index != source.video.index]
        if others:
            listed = ", ".join(f"#{stream.index} ({stream.type})" for stream in others)
            _log.warning("%s holds a picture only: left out is %s; -f nut keeps it", name, listed)
    if source.info.rotation and not keeps_rotation:
        _log.warning("%s cannot say that the picture is to be turned: turn it afterwards", name)
