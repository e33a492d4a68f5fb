"""Decodes one video stream: every frame that libav presents, through damage, to the last one.

Two habits of FFmpeg and PyAV are worked around. With frame threads an error while draining takes
the frames behind it along, so a lost tail is decoded again on one thread. And PyAV swallows an
error that comes after a good frame of the same packet, so frames are matched against packets.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, Self

import av
from av.codec.hwaccel import HWAccel, HWDevice
from av.packet import Packet
from av.video.stream import VideoStream

from vsr.errors import DeviceError, UnsupportedSourceError
from vsr.io.color import fraction
from vsr.io.damage import Damage
from vsr.io.hardware import owning, works
from vsr.io.open import open_input, too_large
from vsr.io.png_profile import without_profile
from vsr.io.streams import choose_video, decoder_for

_log = logging.getLogger(__name__)

_SEEKABLE: Final = frozenset({"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "nut"})
"""Formats whose packets keep their times after a seek."""
_ONE_FRAME_A_PACKET: Final = frozenset({"h264", "hevc", "vvc", "prores", "mjpeg", "ffv1"})
_MANY_WAITING: Final = 256


type VideoPacket = Packet[VideoStream]
type Hardware = Literal["auto", "cuda", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderOptions:
    """How to open and decode.

    Attributes:
        stream: Index of the stream; None chooses.
        max_pixels: Larger pictures are refused.
        allow_url: Whether addresses may be opened.
        hwaccel: `cuda` decodes on the device or fails; `auto` falls back to the processor.
        keep_on: CUDA device in whose memory frames that it decodes stay, if that works; None brings
            them to the host's.
        threads: Decoder threads; None leaves it to FFmpeg.
        frame_threads: Whether several frames may be decoded at once.
    """

    stream: int | None = None
    max_pixels: int = 1 << 27
    allow_url: bool = False
    hwaccel: Hardware = "none"
    keep_on: int | None = None
    threads: int | None = None
    frame_threads: bool = True


class Decoder:
    """One stream of one file; `frames` may be called once.

    Args:
        path: The file.
        options: How to open and decode it.
        damage: Where broken things are counted.

    Raises:
        SourceError: The file cannot be opened or has no video that can be decoded.
    """

    def __init__(self, path: str | Path, options: DecoderOptions, damage: Damage) -> None:
        self.path, self.options, self.damage = path, options, damage
        accel = _accelerator(options.hwaccel, options.keep_on)
        self.container = open_input(
            path, allow_url=options.allow_url, hwaccel=accel, max_pixels=options.max_pixels
        )
        self._closed = False
        try:
            self.stream: VideoStream = choose_video(self.container, str(path), options.stream)
            self._check_size()
            self.context = decoder_for(
                self.stream,
                max_pixels=options.max_pixels,
                frame_threads=options.frame_threads and accel is None,
                threads=options.threads,
                hwaccel=accel,
            )
            self._open_codec()
        except BaseException:
            self.container.close()
            raise
        self.time_base = fraction(self.stream.time_base) or Fraction(1, 1000)
        self._since: int | None = None
        self._waiting: set[int] = set()
        self._first: int | None = None
        self._last: int | None = None
        self._errors = 0

    def _check_size(self) -> None:
        context = self.stream.codec_context
        if context.width * context.height > self.options.max_pixels:
            raise UnsupportedSourceError(
                too_large(self.path, context.width, context.height, self.options.max_pixels)
            )

    def _open_codec(self) -> None:
        name = self.context.name  # asking a context that failed to open for it crashes PyAV 19
        try:
            self.context.open(strict=False)
        except (av.error.FFmpegError, ValueError) as error:
            msg = f"{self.path}: the {name} decoder refuses this stream; its header is damaged"
            raise UnsupportedSourceError(msg) from error
        self.hardware: bool = self.context.is_hwaccel
        if self.options.hwaccel == "cuda" and not self.hardware:
            name = self.stream.codec_context.name
            msg = f"the device has no decoder for {name}; use --hwaccel auto or none"
            raise DeviceError(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the file and the decoder; safe to call twice."""
        if not self._closed:
            self._closed = True
            self.container.close()
            # The decoder's threads and pictures go with its last reference.
            del self.context, self.stream

    @property
    def seekable(self) -> bool:
        """Whether frames keep their times after a seek in this format."""
        return self.container.format.name in _SEEKABLE

    def seek(self, pts: int) -> None:
        """Goes to a key frame that is probably not later than a time; call it before `frames`.

        Damage before that time is not counted: it is not shown.

        Raises:
            FFmpegError: The container cannot.
        """
        self._since = pts
        self.container.seek(pts, stream=self.stream)
        self.context.flush_buffers()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Every presented frame once, in presentation order."""
        for packet in self._packets():
            yield from self._decoded(packet)
        yield from self._drained()
        yield from self._rescued()
        self._count_lost(ended=True)

    def _packets(self) -> Iterator[VideoPacket]:
        """Packets with data; an error of the container is counted and reading goes on behind it."""
        progress = True
        while progress:
            progress = False
            try:
                for packet in self.container.demux(self.stream):
                    # Empty ones are PyAV's flush, or a dropped frame of AVI which would flush too.
                    if packet.size:
                        progress = True
                        yield without_profile(packet)
            except av.error.FFmpegError:
                self._broken(self._last)
            else:
                return

    def _decoded(self, packet: VideoPacket) -> list[av.VideoFrame]:
        shown = not packet.is_discard
        if packet.pts is not None and shown:
            self._waiting.add(packet.pts)
        if packet.is_corrupt and shown:
            self._broken(packet.pts)
        try:
            frames = self.context.decode(packet)
        except av.error.BlockingIOError:
            # Swallowed errors filled the decoder's queue: empty it and start it anew.
            self._broken(packet.pts)
            frames = list(self._drained())
            self.context.flush_buffers()
            with contextlib.suppress(av.error.FFmpegError):
                frames += self.context.decode(packet)
        except av.error.FFmpegError:
            self._broken(packet.pts)
            frames = []
        return self._seen(frames)

    def _drained(self) -> list[av.VideoFrame]:
        try:
            return self._seen(self.context.decode(None))
        except av.error.EOFError:  # never opened, or drained already
            return []
        except av.error.FFmpegError:
            self._broken(self._last)
            return []

    def _seen(self, frames: list[av.VideoFrame]) -> list[av.VideoFrame]:
        for frame in frames:
            if frame.pts is not None:
                self._waiting.discard(frame.pts)
                self._first = frame.pts if self._first is None else self._first
                self._last = frame.pts if self._last is None else max(self._last, frame.pts)
            if frame.is_corrupt and self._counts(frame.pts):
                self.damage.frame(self._seconds(frame.pts))
        if len(self._waiting) > _MANY_WAITING:
            self._count_lost()
        return frames

    def _broken(self, pts: int | None) -> None:
        self._errors += 1
        if self._counts(pts):
            self.damage.packet(self._seconds(pts))

    def _counts(self, pts: int | None) -> bool:
        return self._since is None or pts is None or pts >= self._since

    def _seconds(self, pts: int | None) -> Fraction | None:
        return None if pts is None else pts * self.time_base

    def _rescued(self) -> Iterator[av.VideoFrame]:
        """Decodes again, on one thread, the frames that a failing drain has taken along."""
        last = self._last
        if last is None or not self.options.frame_threads or not self.seekable:
            return
        tail = [pts for pts in self._waiting if pts > last]
        fields = self.stream.codec_context.field_order > 1
        if not tail or (fields and not self._errors):
            return
        options = DecoderOptions(
            stream=self.stream.index,
            max_pixels=self.options.max_pixels,
            allow_url=self.options.allow_url,
            frame_threads=False,
        )
        with Decoder(self.path, options, Damage()) as again:
            with contextlib.suppress(av.error.FFmpegError):
                again.seek(last)
            for frame in again.frames():
                if frame.pts is not None and frame.pts > last:
                    self._waiting.discard(frame.pts)
                    yield frame

    def _count_lost(self, *, ended: bool = False) -> None:
        """Counts packets of which no frame came, where one packet is known to be one frame.

        Frames come in presentation order, so what is older than the last one comes no more.
        """
        first, last = self._first, self._last
        if first is None or last is None:
            return
        late = sorted(pts for pts in self._waiting if ended or pts < last)
        self._waiting.difference_update(late)
        progressive = self.stream.codec_context.field_order in {0, 1}
        if progressive and (self._errors or self.context.name in _ONE_FRAME_A_PACKET):
            for pts in late:
                # Leading pictures of an open first group were never meant to be shown.
                if pts > first and self._counts(pts):
                    self.damage.missing(self._seconds(pts))


def _accelerator(wanted: Hardware, keep_on: int | None) -> HWAccel | None:
    """Probes the device; PyAV downloads frames to host memory where they may not stay there.

    Raises:
        DeviceError: `cuda` is wanted and there is no such device.
    """
    if wanted == "none":
        return None
    try:
        HWDevice("cuda")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        # Without a driver this is a PermissionError.
        if wanted == "cuda":
            msg = "there is no CUDA device to decode with; use --hwaccel auto or none"
            raise DeviceError(msg) from error
        _log.info("no CUDA device to decode with; the processor decodes")
        return None
    if keep_on is not None and works(keep_on):
        return owning(keep_on)
    return HWAccel("cuda", allow_software_fallback=True)
