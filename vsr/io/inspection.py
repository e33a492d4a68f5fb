"""Reads a finished file for its judges: every packet's time and digest, and decoded pictures.

`vsr.io.decoder` rescues what it can of a damaged source; this reader does not share its code, so
that a fault there cannot hide itself. What libavformat and libavcodec give is taken as it is.
"""

import contextlib
import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Stream
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from vsr.errors import SourceError
from vsr.io.color import fraction, read_color
from vsr.io.facts import read_orientation
from vsr.io.formats import canonical_name, ffmpeg_name, pixel_format, to_planes
from vsr.io.open import open_input
from vsr.io.orientation import Orientation
from vsr.io.png_profile import without_profile
from vsr.types import ColorSpec, PixelFormat, Plane

UNTIMED: Final = -(1 << 63)
"""Stands for the time of a packet that has none."""
_DIGEST: Final = 8
_ATTEMPTS: Final = 100
"""Times that reading goes on after an error of the container."""
_MAX_PIXELS: Final = 1 << 27
"""Larger pictures are not decoded."""
_SEEKABLE: Final = frozenset({"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"})
"""Formats where a frame found by seeking has the time it has when all is read."""


@dataclass(slots=True, kw_only=True)
class PacketLog:
    """The packets of one stream that are presented, in the order of the file.

    Takes 16 bytes a packet for the upscaled video and 24 for others; subtitles keep their payload.

    Attributes:
        time_base: Seconds per tick.
        times: Presentation times in ticks; `UNTIMED` where there is none.
        durations: In ticks; 0 if unknown.
        digests: Eight bytes a packet, of payloads stripped of what containers wrap around them.
        size: Bytes of those payloads.
        payloads: Of subtitles and pictures; empty for others.
    """

    time_base: Fraction
    times: "array[int]" = field(default_factory=lambda: array("q"))
    durations: "array[int]" = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)
    size: int = 0
    payloads: list[bytes] = field(default_factory=list)
    _whole: "hashlib.blake2b" = field(default_factory=lambda: hashlib.blake2b(digest_size=_DIGEST))

    def __len__(self) -> int:
        return len(self.times)

    @property
    def whole(self) -> bytes:
        """Digest of all payloads together, wherever packets begin."""
        return self._whole.digest()

    def digest(self, index: int) -> bytes:
        """Of one packet."""
        return bytes(self.digests[index * _DIGEST : (index + 1) * _DIGEST])

    def find(self, digest: bytes, start: int = 0) -> int:
        """Index of the next packet with that digest, -1 if there is none."""
        at = self.digests.find(digest, start * _DIGEST)
        while at >= 0 and at % _DIGEST:
            at = self.digests.find(digest, at + 1)
        return at // _DIGEST if at >= 0 else -1

    def seconds(self, index: int) -> Fraction | None:
        """Time of a packet."""
        ticks = self.times[index]
        return None if ticks == UNTIMED else ticks * self.time_base

    @property
    def span(self) -> tuple[Fraction, Fraction] | None:
        """When the first packet begins and the last one ends, in seconds; None if untimed."""
        times = np.frombuffer(self.times, np.int64)
        timed = times != UNTIMED
        if not timed.any():
            return None
        ends = times[timed] + np.frombuffer(self.durations, np.int64)[timed]
        return int(times[timed].min()) * self.time_base, int(ends.max()) * self.time_base

    @property
    def last_duration(self) -> Fraction:
        """Of the latest packet, in seconds; 0 if unknown."""
        if not len(self):
            return Fraction(0)
        latest = int(np.frombuffer(self.times, np.int64).argmax())
        return self.durations[latest] * self.time_base

    def add(self, packet: "Packet[Stream]", payload: bytes | None, *, keep: bool) -> None:
        """Takes a packet; its payload is hashed if given, and kept if wanted."""
        self.times.append(UNTIMED if packet.pts is None else packet.pts)
        self.durations.append(packet.duration or 0)
        if payload is not None:
            self.digests += hashlib.blake2b(payload, digest_size=_DIGEST).digest()
            self.attach(payload)
        if keep and payload is not None:
            self.payloads.append(payload)

    def attach(self, payload: bytes) -> None:
        """Takes bytes that lie outside packets."""
        self._whole.update(payload)
        self.size += len(payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All packets of a file.

    Attributes:
        logs: By index of the stream.
        errors: How often the container could not be read on.
    """

    logs: dict[int, PacketLog]
    errors: int


def read_packets(path: str | Path, video: int, *, allow_url: bool = False) -> Contents:
    """Reads a whole file without decoding anything.

    Args:
        path: A local file, or an address if `allow_url`.
        video: Index of the upscaled video, whose payloads are not looked at.
        allow_url: Whether addresses may be opened.

    Raises:
        SourceError: The file cannot be opened.
    """
    errors = 0
    with open_input(path, allow_url=allow_url) as container:
        logs = {
            stream.index: PacketLog(time_base=fraction(stream.time_base) or Fraction(1, 1000))
            for stream in container.streams
        }
        for stream in container.streams:
            if isinstance(stream, AttachmentStream):
                logs[stream.index].attach(stream.data or b"")
        strippers = {stream.index: _Payload(stream) for stream in container.streams}
        ended = False
        while not ended and errors < _ATTEMPTS:
            try:
                for packet in container.demux():
                    index = packet.stream.index
                    if packet.size and not (packet.is_discard and packet.stream.type == "video"):
                        payload = None if index == video else strippers[index](bytes(packet))
                        logs[index].add(packet, payload, keep=strippers[index].small)
            except av.error.FFmpegError:
                errors += 1
            else:
                ended = True
    return Contents(logs=logs, errors=errors)


class _Payload:
    """Takes off what containers wrap around the packets of a stream."""

    def __init__(self, stream: Stream) -> None:
        context = cast(CodecContext | None, stream.codec_context)
        name = context.codec.canonical_name if context is not None else ""
        extra = (context.extradata or b"") if context is not None else b""
        self.small = stream.type == "subtitle"
        self._adts = name == "aac"
        self._units = name in ("h264", "hevc")
        # avcC and hvcC begin with a version; Annex B begins with zeros
        place = {"h264": 4, "hevc": 21}.get(name, 0)
        framed = extra[:1] == b"\1" and len(extra) > place
        self._prefix = (extra[place] & 3) + 1 if framed else 0

    def __call__(self, data: bytes) -> bytes:
        if self._adts:
            return _without_adts(data)
        return b"\0\0\1".join(self._nal_units(data)) if self._units else data

    def _nal_units(self, data: bytes) -> Iterator[bytes]:
        if not self._prefix:
            yield from (unit.rstrip(b"\0") for unit in data.split(b"\0\0\1") if unit.rstrip(b"\0"))
            return
        at = 0
        while at + self._prefix <= len(data):
            start = at + self._prefix
            at = start + int.from_bytes(data[at:start])
            yield data[start:at].rstrip(b"\0")


def _without_adts(data: bytes) -> bytes:
    """An AAC packet without the header that MPEG-TS and raw AAC repeat (ISO 13818-7, 6.2)."""
    if len(data) > 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        if length == len(data):
            return data[7 if data[1] & 1 else 9 :]
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A decoded picture, made small.

    Attributes:
        time: In seconds; None if the frame has none.
        planes: Of `format`, never subsampled: shape (H, W), Y U V, Y, or G B R; alpha last.
        format: Of the planes.
        color: As tagged, unspecified parts open.
        size: Width and height of the picture itself.
        orientation: How it must be turned to be upright; not done yet.
        interlaced: Whether it holds two fields.
        corrupt: Whether the decoder had to conceal parts.
    """

    time: Fraction | None
    planes: tuple[Plane, ...]
    format: PixelFormat
    color: ColorSpec
    size: tuple[int, int]
    orientation: Orientation
    interlaced: bool
    corrupt: bool


class FrameReader:
    """Decodes one video stream from the start, or from a key frame on.

    Args:
        path: A local file, or an address if `allow_url`.
        index: Of the stream.
        allow_url: Whether addresses may be opened.

    Attributes:
        errors: Packets that could not be read or decoded.
        corrupt: Frames with concealed parts.
        interlaced: Frames that hold two fields.

    Raises:
        SourceError: The file cannot be opened.
    """

    def __init__(self, path: str | Path, index: int, *, allow_url: bool = False) -> None:
        self.errors = self.corrupt = self.interlaced = 0
        self._container: InputContainer = open_input(path, allow_url=allow_url)
        streams = self._container.streams
        found = streams[index] if index < len(streams) else None
        # PyAV gives a stream without decoder no context, whatever its types say.
        context = cast(CodecContext | None, found.codec_context) if found is not None else None
        if not isinstance(found, VideoStream) or context is None:
            self._container.close()
            msg = f"stream {index} of {path} is no video that can be decoded"
            raise SourceError(msg)
        self._video = found
        self._context = found.codec_context
        self._context.options = {"max_pixels": str(_MAX_PIXELS)}
        self._context.thread_type = av.codec.context.ThreadType.AUTO
        try:
            self._context.open(strict=False)
        except (av.error.FFmpegError, ValueError) as error:
            self._container.close()
            msg = f"stream {index} of {path} is refused by its decoder: its header is damaged"
            raise SourceError(msg) from error
        self._tick = fraction(self._video.time_base) or Fraction(1, 1000)

    def close(self) -> None:
        """Frees the file; safe to call twice."""
        self._container.close()

    @property
    def seekable(self) -> bool:
        """Whether `seek` finds frames at the times that they have when all is read."""
        return self._container.format.name in _SEEKABLE

    def seek(self, time: Fraction) -> None:
        """Goes to a key frame at or before a time in seconds, or to the start."""
        with contextlib.suppress(av.error.FFmpegError):  # then reading begins at the start
            self._container.seek(int(time / self._tick), stream=self._video)
            self._context.flush_buffers()

    def times(self) -> Iterator[Fraction | None]:
        """The time of every frame in seconds, in presentation order."""
        for frame in self._frames():
            yield None if frame.pts is None else frame.pts * self._tick

    def thumbnails(self, size: tuple[int, int]) -> Iterator[Thumbnail]:
        """Every frame, brought down by area averages to a width and height."""
        for frame in self._frames():
            yield self._thumbnail(frame, size)

    def _frames(self) -> Iterator[av.VideoFrame]:
        ended = False
        while not ended and self.errors < _ATTEMPTS:
            try:
                for packet in self._container.demux(self._video):
                    # a packet without data would flush the decoder
                    if packet.size:
                        yield from self._decoded(without_profile(packet))
            except av.error.FFmpegError:
                self.errors += 1
            else:
                ended = True
        yield from self._decoded(None)

    def _decoded(self, packet: "Packet[VideoStream] | None") -> list[av.VideoFrame]:
        try:
            frames = self._context.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self.errors += 1
            return []
        self.corrupt += sum(frame.is_corrupt for frame in frames)
        self.interlaced += sum(frame.interlaced_frame for frame in frames)
        return frames

    def _thumbnail(self, frame: av.VideoFrame, size: tuple[int, int]) -> Thumbnail:
        name = canonical_name(frame.format.name)
        layout = pixel_format(name)
        if layout is None:  # canonical names all have a layout
            msg = f"pixel format {frame.format.name} cannot be read"
            raise SourceError(msg)
        whole = PixelFormat(family=layout.family, bits=layout.bits, alpha=layout.alpha)
        span = 2 if frame.format.name.startswith("yuvj") else frame.color_range
        small = frame.reformat(
            width=size[0],
            height=size[1],
            format=ffmpeg_name(whole),
            interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND,
            src_color_range=span,
            dst_color_range=span,
            threads=1,
        )
        return Thumbnail(
            time=None if frame.pts is None else frame.pts * self._tick,
            planes=to_planes(small, whole),
            format=whole,
            color=read_color(self._context, frame),
            size=(frame.width, frame.height),
            orientation=read_orientation(self._video, frame),
            interlaced=frame.interlaced_frame,
            corrupt=frame.is_corrupt,
        )
