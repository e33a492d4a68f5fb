"""Reads still pictures, one or many, as frames."""

import logging
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, override

import av

from vsr.errors import SourceError, UnsupportedSourceError
from vsr.io.av_source import AvSource, SourceOptions
from vsr.io.damage import Damage
from vsr.io.folder import Stills
from vsr.io.formats import ffmpeg_name, from_planes, reformatted, to_planes
from vsr.io.workers import ordered
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

_log = logging.getLogger(__name__)

_ANIMATED: Final = frozenset({"gif", "apng", "webp_anim", "jpegxl_anim"})
"""Formats whose further pictures belong to a film, and are no thumbnails or second views."""
_FLOATING: Final = re.compile(r"f(16|32)(le|be)?$")
"""Names of FFmpeg's floating-point pixel formats end so."""
FLOAT_WARNING: Final = "floating-point samples become 16 bits, and what is above 1 becomes white"
READERS: Final = 2
"""Pictures decoded side by side if nobody says otherwise."""


class PictureSource(AvSource):
    """A file as `AvSource` reads it; of a still's file, only its picture."""

    @property
    def floating(self) -> bool:
        """Whether the file has floating-point samples, as EXR; `FLOAT_WARNING` is then due."""
        return _FLOATING.search(self._head.format.name) is not None

    @override
    def _start(self) -> None:
        try:
            super()._start()
        except UnsupportedSourceError as error:
            msg = f"{self.path} cannot be decoded: it is damaged, or of a kind that FFmpeg lacks"
            raise UnsupportedSourceError(msg) from error

    @override
    def _run(self) -> Generator[Frame]:
        """What follows the picture in a still's file is a thumbnail or a second view."""
        if not self.still:
            yield from super()._run()
            return
        yield next(super()._run())
        if self.damage:
            _log.warning("%s: %s", self.path, self.damage.message)


@dataclass(frozen=True, slots=True)
class Still:
    """A decoded picture, upright.

    Attributes:
        frame: Its samples.
        info: About it.
        floating: Whether its samples were floating-point numbers.
    """

    frame: Frame
    info: VideoInfo
    floating: bool


def read_still(path: Path, options: SourceOptions | None = None) -> Still:
    """Decodes a picture; its orientation is baked.

    Raises:
        SourceError: No picture, a damaged one, or an animation.
    """
    wanted = replace(
        options or SourceOptions(),
        bake_rotation=True,
        hwaccel="none",
        threads=1,
        deinterlace="auto",
    )
    with PictureSource(path, wanted) as source:
        frames = iter(source)
        frame = next(frames)
        if source.format_name in _ANIMATED and next(frames, None) is not None:
            msg = f"{path} is an animation, not a picture: upscale it by itself, as a video"
            raise UnsupportedSourceError(msg)
        if source.damage:
            msg = f"{path} is damaged: {source.damage.message}"
            raise SourceError(msg)
        return Still(frame, source.info, source.floating)


class StillsSource:
    """Pictures of one size as a `FrameSource`, decoded side by side.

    The layout is that of the first picture, gray as RGB, for a film often begins with black; the
    others are converted to it.

    Attributes:
        info: Of the film.
        damage: Always clean: a damaged picture is an error here.
        first_pts: 0.
        stream_index: None, there are no streams.
    """

    first_pts: Final = 0
    stream_index: Final = None

    def __init__(self, stills: Stills, options: SourceOptions, readers: int = READERS) -> None:
        self.path = stills.name
        self.damage = Damage()
        self._stills, self._options, self._readers = stills, options, readers
        still = read_still(stills.paths[0], options)
        if still.floating:
            _log.warning("%s: %s", stills.paths[0], FLOAT_WARNING)
        first = still.info
        layout = first.format
        if layout.family == "gray":
            layout = replace(layout, family="rgb")
        color = first.color if layout == first.format else _rgb(first.color)
        self.info = replace(
            first,
            format=layout,
            color=color,
            time_base=1 / stills.rate,
            frame_rate=stills.rate,
            frame_count=len(stills.paths),
        )
        self._told = False
        self._frames: Iterator[Frame] | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Decodes from the start; one pass only.

        Raises:
            SourceError: A picture that cannot be read or is of another size.
        """
        self._frames = self._run()
        return self._frames

    def _run(self) -> Iterator[Frame]:
        read: Callable[[Path], Still] = lambda path: read_still(path, self._options)  # noqa: E731
        stills = ordered(read, self._stills.paths, self._readers, "vsr-read")
        for index, (path, still) in enumerate(zip(self._stills.paths, stills, strict=True)):
            yield self._fitted(still.frame, index, path)

    def _fitted(self, frame: Frame, index: int, path: Path) -> Frame:
        info = self.info
        if (frame.width, frame.height) != (info.width, info.height):
            msg = (
                f"{path} is {frame.width}x{frame.height}, but {self._stills.paths[0].name} is "
                f"{info.width}x{info.height}: the frames of a video need one size"
            )
            raise SourceError(msg)
        if frame.format != info.format:
            frame = self._converted(frame, path)
        return replace(frame, pts=index, duration=1, time_base=info.time_base)

    def _converted(self, frame: Frame, path: Path) -> Frame:
        wanted = self.info.format
        if not self._told and frame.format.family != "gray":
            self._told = True
            names = ffmpeg_name(frame.format), ffmpeg_name(wanted)
            _log.warning("%s is %s: converted to %s, as the first picture is", path, *names)
        return _converted(frame, wanted, self.info.color)

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        self._frames = None


def _rgb(color: ColorSpec) -> ColorSpec:
    return replace(color, matrix=0, full_range=True, siting=0)


def _converted(frame: Frame, wanted: PixelFormat, color: ColorSpec) -> Frame:
    """Another layout of the same picture."""
    if frame.format.family == "yuv" or wanted.family == "yuv":
        resolved = frame.color.resolved(frame.width, frame.height, frame.format.family)
        made = _through_matrix(frame, wanted, resolved, color)
    else:
        made = reformatted(from_planes(frame), ffmpeg_name(wanted))
    return replace(frame, planes=to_planes(made, wanted), format=wanted, color=color)


def _through_matrix(
    frame: Frame, wanted: PixelFormat, source: ColorSpec, target: ColorSpec
) -> av.VideoFrame:
    goal = target.resolved(frame.width, frame.height, wanted.family)
    return from_planes(frame).reformat(
        format=ffmpeg_name(wanted),
        src_colorspace=source.matrix or None,
        dst_colorspace=goal.matrix or None,
        src_color_range=2 if source.full_range else 1,
        dst_color_range=2 if goal.full_range else 1,
    )
