"""Reads NUT and Matroska from a pipe: exact times, and the packets of all other streams.

Nothing can be read twice there, so one pass gives the pictures and puts aside what else comes; a
sink takes it along. Nothing is read to guess rates from, or the first frame would wait for others.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vsr.errors import SourceError, UnsupportedSourceError
from vsr.io.color import fraction, read_color
from vsr.io.damage import Damage
from vsr.io.deinterlace import Deinterlacer, container_parity
from vsr.io.ends import ByteReader
from vsr.io.facts import frame_rate, read_hdr, read_orientation, sample_aspect, synthetic_rate
from vsr.io.formats import canonical_name, pixel_format, to_planes
from vsr.io.streams import choose_video, decoder_for, is_lossy
from vsr.io.times import Timeline
from vsr.io.tracks import AnyPacket
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

_log = logging.getLogger(__name__)

MAGICS: Final = {b"nut/multimedia container\0": "nut", b"\x1aE\xdf\xa3": "matroska"}
"""How the streams begin, and FFmpeg's names of their demuxers."""
_OPTIONS: Final = {
    "protocol_whitelist": "none",
    "format_whitelist": "nut,matroska,webm",
    "probesize": "32",
    "fpsprobesize": "0",
}
_BUFFER: Final = 4096
_MOST_ASIDE: Final = 64 << 20
"""Bytes of other streams between two pictures: seconds of uncompressed surround sound."""

type Deinterlacing = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What belongs to a decoded frame and does not pass through a filter."""

    pts: int
    duration: int
    color: ColorSpec


class StreamSource:
    """A stream of a container format as a `FrameSource`; its first frame is decoded on opening.

    Args:
        reader: At its beginning; stays open.
        name: FFmpeg's name of the format.
        deinterlace: `auto` filters streams that are interlaced, `on` all, `off` refuses them.
        strict: Raises at the first damage instead of concealing it.
        max_pixels: Larger pictures are refused.

    Attributes:
        info: What is known of the video.
        damage: What was found broken so far.
        container: For tags and the other streams.
        video: The stream that is decoded.

    Raises:
        UnsupportedSourceError: Not of that format, no video, or no frame that can be decoded.
    """

    def __init__(
        self,
        reader: ByteReader,
        name: str,
        *,
        deinterlace: Deinterlacing = "auto",
        strict: bool = False,
        max_pixels: int = 1 << 27,
    ) -> None:
        self._name, self._deinterlace = reader.name, deinterlace
        self.damage = Damage(strict=strict)
        self._aside: deque[AnyPacket] = deque()
        self._aside_bytes = 0
        self.container = _opened(reader, name, max_pixels)
        try:
            self.video: VideoStream = choose_video(self.container, reader.name)
            _check_size(self.video, reader.name, max_pixels)
            self._context = decoder_for(
                self.video, max_pixels=max_pixels, frame_threads=False, threads=2
            )
            self._open_codec()
            self.time_base = fraction(self.video.time_base) or Fraction(1, 1000)
            self._describe()
        except BaseException:
            self.container.close()
            raise

    def _open_codec(self) -> None:
        name = self._context.name  # asking a context that failed to open for it crashes PyAV 19
        try:
            self._context.open(strict=False)
        except (av.error.FFmpegError, ValueError) as error:
            msg = f"{self._name}: the {name} decoder refuses this stream; its header is damaged"
            raise UnsupportedSourceError(msg) from error

    def _describe(self) -> None:
        self._decoded = self._decode()
        head = next(self._decoded, None)
        if head is None:
            msg = f"{self._name}: no frame of its video can be decoded; it is empty or damaged"
            raise UnsupportedSourceError(msg)
        self._head = head
        self._parity = container_parity(self.video.codec_context)
        self._filtered = self._wants_filter(head)
        self._layout = _layout_of(head)
        self._timeline = Timeline(self.time_base, 1 / (synthetic_rate(self.video) * self.time_base))
        turned = read_orientation(self.video, head)
        if turned.mirrored:
            _log.warning("%s: the picture is mirrored by a tag, which is lost", self._name)
        self.info = VideoInfo(
            width=head.width,
            height=head.height,
            format=self._layout,
            color=read_color(self._context, head, self.video.codec_context),
            time_base=self.time_base,
            frame_rate=frame_rate(self.video),
            sample_aspect=sample_aspect(self.video),
            rotation=turned.rotation,
            hdr=read_hdr(self.video, self._context, head),
            lossy=is_lossy(self.video),
        )

    def _wants_filter(self, frame: av.VideoFrame) -> bool:
        woven = frame.interlaced_frame or self._parity is not None
        if woven and self._deinterlace == "off":
            msg = (
                f"{self._name} is interlaced and woven fields must not be upscaled; use "
                "--deinterlace auto"
            )
            raise UnsupportedSourceError(msg)
        return woven or self._deinterlace == "on"

    def __iter__(self) -> Iterator[Frame]:
        """Decodes to the end; one pass only.

        Raises:
            SourceError: The size of the picture changes, or reading failed.
            DamagedSourceError: Something is broken and the source is strict.
        """
        frames = self._timed()
        for picture, facts in self._progressive(frames) if self._filtered else frames:
            yield Frame(
                planes=to_planes(picture, self._layout),
                format=self._layout,
                color=facts.color,
                pts=facts.pts,
                duration=facts.duration,
                time_base=self.time_base,
            )
        if self.damage:
            _log.warning("%s: %s", self._name, self.damage.message)

    def aside(self) -> Iterator[AnyPacket]:
        """Takes the packets of the other streams that have been read meanwhile, in order."""
        while self._aside:
            packet = self._aside.popleft()
            self._aside_bytes -= packet.size
            yield packet

    def close(self) -> None:
        """Frees everything; safe to call twice, not while another thread is iterating."""
        self._decoded.close()
        self._aside.clear()
        self.container.close()

    def _progressive(
        self, frames: Iterator[tuple[av.VideoFrame, _Facts]]
    ) -> Iterator[tuple[av.VideoFrame, _Facts]]:
        every = self._deinterlace == "on" or self._parity is not None
        deinterlacer = Deinterlacer(self._head, parity=self._parity, every=every)
        waiting: deque[_Facts] = deque()
        for frame, facts in frames:
            waiting.append(facts)
            for made in deinterlacer.push(frame):
                yield made, waiting.popleft()
        for made in deinterlacer.finish():
            yield made, waiting.popleft()

    def _timed(self) -> Iterator[tuple[av.VideoFrame, _Facts]]:
        head = self._head
        for frame in self._all():
            if (frame.width, frame.height) != (head.width, head.height):
                msg = (
                    f"{self._name}: the picture changes from {head.width}x{head.height} to "
                    f"{frame.width}x{frame.height}, but an output has one size"
                )
                raise SourceError(msg)
            if not self._filtered and self._wants_filter(frame):
                msg = f"{self._name} turns interlaced midway: use --deinterlace on"
                raise SourceError(msg)
            pts = self._timeline.place(frame.pts, frame.duration or 0)
            color = read_color(self._context, frame, self.video.codec_context)
            yield frame, _Facts(pts, frame.duration or 0, color)

    def _all(self) -> Iterator[av.VideoFrame]:
        yield self._head
        yield from self._decoded

    def _decode(self) -> Generator[av.VideoFrame]:
        for packet in self._packets():
            try:
                frames = self._context.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                at = None if packet is None or packet.pts is None else packet.pts * self.time_base
                self.damage.packet(at)
                continue
            yield from frames

    def _packets(self) -> Iterator[AnyPacket | None]:
        """Packets of the video, then None to drain the decoder."""
        try:
            for packet in self.container.demux():
                if packet.size and packet.stream.index == self.video.index:
                    yield packet
                elif packet.size:
                    self._put_aside(packet)
        except av.error.FFmpegError:
            self.damage.packet(None)
        yield None

    def _put_aside(self, packet: AnyPacket) -> None:
        self._aside.append(packet)
        self._aside_bytes += packet.size
        if self._aside_bytes > _MOST_ASIDE:
            msg = (
                f"{self._name}: {_MOST_ASIDE >> 20} MiB of other streams come before the next "
                "picture; interleave them, or leave them out with `-map 0:v`"
            )
            raise SourceError(msg)


def _opened(reader: ByteReader, name: str, max_pixels: int) -> InputContainer:
    # without a callback FFmpeg's threads cannot wait for Python's lock (PyAV issue 751)
    av.logging.set_level(None)
    options = {**_OPTIONS, "max_pixels": str(max_pixels)}
    try:
        return av.open(reader, "r", format=name, options=options, buffer_size=_BUFFER)
    except av.error.FFmpegError as error:
        msg = f"{reader.name} begins as {name} does, but its header is damaged or cut off"
        raise UnsupportedSourceError(msg) from error


def _check_size(video: VideoStream, name: str, max_pixels: int) -> None:
    width, height = video.codec_context.width, video.codec_context.height
    if width * height > max_pixels:
        msg = f"{name} claims {width}x{height} pixels, more than the limit of {max_pixels}"
        raise UnsupportedSourceError(msg)


def _layout_of(frame: av.VideoFrame) -> PixelFormat:
    layout = pixel_format(canonical_name(frame.format.name))
    if layout is None:  # canonical names all have a layout
        msg = f"pixel format {frame.format.name} cannot be read"
        raise UnsupportedSourceError(msg)
    return layout
