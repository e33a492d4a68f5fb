"""Reads video files: `open_source` gives every presented frame with its exact time.

decoder      packets → FFmpeg's frames, errors concealed and counted
timeline     a time for every frame, trimmed to what was asked for
deinterlacer fields → progressive pictures, where there are any
planes       zero-copy views; turned or mirrored where asked for or where no tag can say it
"""

import logging
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Self

import av

from vsr.errors import SourceError, UnsupportedSourceError, UsageError
from vsr.io.color import read_color
from vsr.io.damage import Damage
from vsr.io.decoder import Decoder, DecoderOptions, Hardware
from vsr.io.deinterlace import Deinterlacer, container_parity
from vsr.io.facts import (
    declared_seconds,
    frame_rate,
    read_hdr,
    read_orientation,
    sample_aspect,
    synthetic_rate,
)
from vsr.io.formats import canonical_name, layout_of
from vsr.io.hardware import on_host, picture_of, samples_name
from vsr.io.orientation import Orientation
from vsr.io.streams import is_lossy
from vsr.io.times import Timeline
from vsr.types import ColorSpec, Frame, VideoInfo

_log = logging.getLogger(__name__)

_KEPT: Final = ("A53_CC", "DYNAMIC_HDR_PLUS", "DOVI_RPU_BUFFER")
"""Side data that belongs to single pictures, and whose loss the writer must speak of."""
SEEK_FROM: Final = 5
"""Seconds of `start` from which seeking beats decoding."""
MARGINS: Final = (1, 10, 60)
"""Seconds before the wanted time at which a key frame is looked for, in turn."""
_NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How to read a video.

    Attributes:
        hwaccel: `cuda` decodes on the device or fails; `auto` falls back to the processor.
        start: Keeps frames from this time on, in seconds after the first frame's time.
        end: Keeps frames before this time, likewise.
        deinterlace: `auto` filters frames that are interlaced, `on` all, `off` refuses them.
        strict: Raises at the first damage instead of concealing it.
        max_pixels: Larger pictures are refused before memory is taken for them.
        bake_rotation: Turns the frames themselves; `info.rotation` is then 0.
        stream: Index of the video stream; None chooses.
        allow_url: Whether the path may be an address.
        threads: Decoder threads; None leaves it to FFmpeg.
        keep_on: CUDA device whose decoder may leave frames in its memory, as `Frame.surface`.

    Raises:
        UsageError: A start before 0, or an end that is not after the start.
    """

    hwaccel: Hardware = "none"
    start: Fraction | None = None
    end: Fraction | None = None
    deinterlace: Literal["auto", "on", "off"] = "auto"
    strict: bool = False
    max_pixels: int = 1 << 27
    bake_rotation: bool = False
    stream: int | None = None
    allow_url: bool = False
    threads: int | None = None
    keep_on: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.start < 0:
            msg = f"the excerpt starts at {float(self.start):g} s; give a start of 0 or more"
            raise UsageError(msg)
        if self.end is not None and self.end <= (self.start or 0):
            msg = (
                f"the excerpt ends at {float(self.end):g} s, not after its start; give a later end"
            )
            raise UsageError(msg)


def open_source(path: str | Path, options: SourceOptions | None = None) -> "AvSource":
    """Opens a video or picture file.

    Args:
        path: A local file; or an address, if the options allow.
        options: How to read it.

    Raises:
        SourceNotFoundError: There is no such file.
        UnsupportedSourceError: No video, no frame that can be decoded, or too large a picture.
        DamagedSourceError: The beginning is broken and the options are strict.
        DeviceError: The decoding device that was asked for is missing.
        SourceError: The file cannot be read.
    """
    return AvSource(path, options or SourceOptions())


@dataclass(frozen=True, slots=True)
class _Facts:
    """What belongs to a decoded frame and does not pass through filters."""

    pts: int
    duration: int
    color: ColorSpec
    side_data: Mapping[str, bytes] = field(default=_NOTHING)


type _Decoded = tuple[av.VideoFrame, _Facts]


class AvSource:
    """A video file as a `FrameSource` and context manager; see `open_source`.

    The first frame is decoded on opening, so `info` describes what really comes.

    Attributes:
        path: The file.
        info: What is known of the video.
        damage: What was found broken so far; complete after the last frame.
        stream_index: Index of the video in the container.
        format_name: FFmpeg's name of the container format.
        codec_name: FFmpeg's name of the codec.
        decoder_name: FFmpeg's name of the decoder.
        hardware: Whether frames are decoded on a device.
        interlaced: Whether the first frame is interlaced.
        first_pts: Time of the film's first frame in ticks, before trimming.
    """

    def __init__(self, path: str | Path, options: SourceOptions) -> None:
        self.path = path
        self.options = options
        self.damage = Damage(strict=options.strict)
        self._decoder = self._opened()
        self._pictures: Generator[Frame] | None = None
        self._closed = False
        try:
            self._start()
            self._describe()
        except BaseException:
            self._decoder.close()
            raise

    def _opened(self) -> Decoder:
        options = DecoderOptions(
            stream=self.options.stream,
            max_pixels=self.options.max_pixels,
            allow_url=self.options.allow_url,
            hwaccel=self.options.hwaccel,
            keep_on=self.options.keep_on,
            threads=self.options.threads,
        )
        return Decoder(self.path, options, self.damage)

    def _start(self) -> None:
        """Decodes the first frame; then, for a late excerpt, goes near its start."""
        self._frames = self._decoder.frames()
        first = next(self._frames, None)
        if first is None:
            msg = (
                f"{self.path}: no frame of video stream {self._decoder.stream.index} can be "
                "decoded; the file is damaged"
            )
            raise UnsupportedSourceError(msg)
        self._head = first
        self.first_pts = first.pts if first.pts is not None else 0
        start = self.options.start or Fraction(0)
        if start >= SEEK_FROM and first.pts is not None and self._decoder.seekable:
            self._approach(first.pts + start / self._decoder.time_base)

    def _approach(self, target: Fraction) -> None:
        for margin in MARGINS:
            nearer = self._opened()
            try:
                nearer.seek(int(target - margin / nearer.time_base))
                frames = nearer.frames()
                head = next(frames, None)
            except av.error.FFmpegError:
                head = None
            except BaseException:
                nearer.close()
                raise
            if head is not None and head.pts is not None and head.pts <= target:
                self._decoder.close()
                self._decoder, self._frames, self._head = nearer, frames, head
                return
            nearer.close()

    def _describe(self) -> None:
        decoder, first = self._decoder, self._head
        self.damage.look(self.path)
        self.stream_index = decoder.stream.index
        self.format_name = decoder.container.format.name
        self.codec_name = decoder.stream.codec_context.codec.canonical_name
        self.decoder_name = decoder.context.name
        self.hardware = decoder.hardware
        self._parity = container_parity(decoder.stream.codec_context)
        self.interlaced = self._woven(first)
        self._refuse_fields(first, self.first_pts)
        self._layout = layout_of(samples_name(first))
        found = read_orientation(decoder.stream, first)
        baked = found if self.options.bake_rotation else Orientation(mirrored=found.mirrored)
        self._baked = baked
        kept = Orientation() if self.options.bake_rotation else Orientation(found.turns)
        step = 1 / (synthetic_rate(decoder.stream) * decoder.time_base)
        self._timeline = Timeline(decoder.time_base, step)
        self.info = self._read_info(kept)

    def _read_info(self, kept: Orientation) -> VideoInfo:
        stream, context = self._decoder.stream, self._decoder.context
        color = read_color(context, self._head, self._decoder.stream.codec_context)
        shown = self._picture(self._head, _Facts(self.first_pts, 0, color))
        rate = frame_rate(stream)
        return VideoInfo(
            width=shown.width,
            height=shown.height,
            format=shown.format,
            color=shown.color,
            time_base=self._decoder.time_base,
            frame_rate=rate,
            frame_count=self._estimated_count(rate),
            sample_aspect=self._baked.aspect(sample_aspect(stream)),
            rotation=kept.rotation,
            hdr=read_hdr(stream, context, self._head),
            lossy=is_lossy(stream) and not self.still,
        )

    def _estimated_count(self, rate: Fraction | None) -> int | None:
        """Frames by the headers, cut down to the excerpt; for progress only."""
        stream, container = self._decoder.stream, self._decoder.container
        count: int | None = stream.frames or None
        seconds = declared_seconds(stream) or Fraction(container.duration or 0, av.time_base)
        if count is None and rate and seconds:
            count = max(1, round(seconds * rate))
        if count is None or not seconds or (self.options.start or self.options.end) is None:
            return count
        until = min(seconds, self.options.end or seconds)
        share = max(Fraction(0), until - (self.options.start or 0)) / seconds
        return max(1, round(count * share))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Decodes from the start; one pass only.

        Raises:
            SourceError: A second pass, a closed source, or a picture size that changes midway.
            DamagedSourceError: Something is broken and the options are strict.
        """
        if self._closed or self._pictures is not None:
            msg = f"{self.path} has been read or closed; open it again for another pass"
            raise SourceError(msg)
        self._pictures = self._run()
        return self._pictures

    def close(self) -> None:
        """Frees everything; safe to call twice, not while another thread is iterating."""
        if self._closed:
            return
        self._closed = True
        if self._pictures is not None:
            self._pictures.close()
        self._frames = iter(())
        del self._head
        self._decoder.close()

    def _run(self) -> Generator[Frame]:
        for frame, facts in self._progressive():
            yield self._picture(frame, facts)
        self.damage.look(self.path)
        if self.damage:
            _log.warning("%s: %s", self.path, self.damage.message)

    def _picture(self, frame: av.VideoFrame, facts: _Facts) -> Frame:
        planes, surface = picture_of(frame, self._layout, stays=not self._baked)
        picture = Frame(
            planes=planes,
            surface=surface,
            format=self._layout,
            color=facts.color,
            pts=facts.pts,
            duration=facts.duration,
            time_base=self._decoder.time_base,
            side_data=facts.side_data,
        )
        return self._baked.apply(picture) if self._baked else picture

    def _progressive(self) -> Iterator[_Decoded]:
        """Lets progressive frames pass until the first interlaced one; then filters to the end."""
        deinterlacer: Deinterlacer | None = None
        waiting: deque[_Facts] = deque()
        for frame, facts in self._excerpt():
            self._refuse_fields(frame, facts.pts)
            if deinterlacer is None and not self._wants_filter(frame):
                yield frame, facts
                continue
            frame = on_host(frame)  # noqa: PLW2901
            if deinterlacer is None:
                every = self.options.deinterlace == "on" or self._parity is not None
                deinterlacer = Deinterlacer(frame, parity=self._parity, every=every)
            waiting.append(facts)
            for made in deinterlacer.push(frame):
                yield made, waiting.popleft()
        if deinterlacer is not None:
            for made in deinterlacer.finish():
                yield made, waiting.popleft()

    @property
    def still(self) -> bool:
        """Whether the file is one picture by its content, whatever its name."""
        return self.format_name.endswith("_pipe")

    def _woven(self, frame: av.VideoFrame) -> bool:
        """Whether a frame holds two fields; the passes of an Adam7 PNG are none to us."""
        fields = frame.interlaced_frame or self._parity is not None
        return fields and not self.still

    def _wants_filter(self, frame: av.VideoFrame) -> bool:
        return self.options.deinterlace == "on" or self._woven(frame)

    def _refuse_fields(self, frame: av.VideoFrame, pts: int) -> None:
        if self._woven(frame) and self.options.deinterlace == "off":
            msg = (
                f"{self.path} is interlaced at {self._seconds(pts):.3f} s and woven fields must "
                "not be upscaled; use --deinterlace auto"
            )
            raise UnsupportedSourceError(msg)

    def _seconds(self, pts: int) -> float:
        return float(pts * self._decoder.time_base)

    def _excerpt(self) -> Iterator[_Decoded]:
        """Gives every frame its time, and lets those of the excerpt pass."""
        start, end = self.options.start, self.options.end
        kept, at, changed = 0, Fraction(0), False
        for frame in self._all_frames():
            pts = self._timeline.place(frame.pts, frame.duration or 0)
            at = (pts - self.first_pts) * self._decoder.time_base
            if start is not None and at < start:
                continue
            if end is not None and at >= end:
                break
            changed = self._check_alike(frame, pts, warned=changed)
            kept += 1
            color = read_color(self._decoder.context, frame, self._decoder.stream.codec_context)
            yield frame, _Facts(pts, frame.duration or 0, color, _side_data(frame))
        if not kept:
            msg = f"{self.path} has no frame in the excerpt asked for; it ends at {float(at):.3f} s"
            raise UsageError(msg)

    def _all_frames(self) -> Iterator[av.VideoFrame]:
        yield self._head
        yield from self._frames

    def _check_alike(self, frame: av.VideoFrame, pts: int, *, warned: bool) -> bool:
        """Refuses another size; warns once of another format, which is converted to the first."""
        first = self._head
        if (frame.width, frame.height) != (first.width, first.height):
            msg = (
                f"{self.path}: the picture changes from {first.width}x{first.height} to "
                f"{frame.width}x{frame.height} at {self._seconds(pts):.3f} s, but an output has "
                "one size; process the parts with --start and --end"
            )
            raise SourceError(msg)
        names = samples_name(first), samples_name(frame)
        if not warned and canonical_name(names[0]) != canonical_name(names[1]):
            _log.warning(
                "%s: the pixel format changes from %s to %s at %.3f s; it is converted back",
                self.path,
                *names,
                self._seconds(pts),
            )
            return True
        return warned


def _side_data(frame: av.VideoFrame) -> Mapping[str, bytes]:
    present = frame.side_data
    if not len(present):
        return _NOTHING
    found = {name: present.get(name) for name in _KEPT}
    return MappingProxyType({k: bytes(data) for k, data in found.items() if data is not None})
