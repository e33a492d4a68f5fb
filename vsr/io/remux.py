"""Brings all streams but the upscaled one into the output, as the picture's packets come.

The source is opened a second time and read forward no further than the picture has come, so memory
does not depend on its length, and the output is interleaved as its packets are muxed.
"""

import logging
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Discard, Stream

from vsr.errors import SinkError
from vsr.io.color import fraction
from vsr.io.open import open_input
from vsr.io.plan import StreamPlan, is_cover
from vsr.io.tracks import (
    AnyPacket,
    AudioTrack,
    CopyTrack,
    TextTrack,
    Track,
    copied_stream,
    tick_of,
)

if TYPE_CHECKING:
    from av.container.core import Chapter  # known to the stubs only

_log = logging.getLogger(__name__)

type Trim = tuple[Fraction | None, Fraction | None]
"""Start and end in seconds of the source's own times; None where open."""

_PEEK_PACKETS: Final = 512
_PEEK_BYTES: Final = 16 << 20
_ATTEMPTS: Final = 100
"""Times that reading goes on after an error of the container."""
_BACK: Final = 20
"""Seconds before the start of a trim from which on the source is read."""
_MIMES: Final = {
    "mjpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "bmp": "image/bmp",
}
_STALE: Final = ("duration", "encoder", "vendor_id")
_STALE_PICTURE: Final = (
    "bps",
    "number_of_",
    "_statistics",
    "source_id",
    "variant_bitrate",
    "alpha_mode",
)
_STALE_FILE: Final = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")


class Remuxer:
    """The other streams of a source.

    Args:
        source: The file, or an address if `allow_url`.
        plans: What becomes of each of its streams.
        trim: Which part of it is wanted.
        allow_url: Whether addresses may be opened.
    """

    def __init__(
        self,
        source: Path | str,
        plans: tuple[StreamPlan, ...],
        trim: Trim,
        *,
        allow_url: bool = False,
    ) -> None:
        self._source, self._allow_url = source, allow_url
        self._plans = plans
        self._start, self._end = trim
        self._input: InputContainer = open_input(source, allow_url=allow_url)
        self._tracks: dict[int, Track] = {}
        self._shift = Fraction(0)
        wanted = {plan.index for plan in plans if plan.action in ("copy", "convert", "transcode")}
        self._wanted = [stream for stream in self._input.streams if stream.index in wanted]
        for stream in self._input.streams:
            if stream.index not in wanted:
                stream.discard = Discard.all
        self._opened: set[int] = set()
        self.run_ups: set[int] = set()
        self._queue: deque[AnyPacket] = deque()
        self._packets = self._demuxed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        self._queue.clear()
        self._tracks.clear()
        self._input.close()

    @property
    def input(self) -> InputContainer:
        """The source, for its tags and chapters."""
        return self._input

    def first_times(self) -> dict[int, Fraction]:
        """When each stream begins, in seconds, for those that do so near the start of the file.

        `run_ups` are then the streams whose first packets players decode and do not play.
        """
        times: dict[int, Fraction] = {}
        awaited = {s.index for s in self._wanted if s.type != "subtitle" and not is_cover(s)}
        size = 0
        for packet in self._packets:
            self._queue.append(packet)
            size += packet.size
            index = packet.stream.index
            ticks = packet.pts if packet.pts is not None else packet.dts
            if ticks is not None and not is_cover(packet.stream):
                time = ticks * tick_of(packet.stream)
                if index not in times and packet.is_discard:
                    self.run_ups.add(index)
                times[index] = min(times.get(index, time), time)
            awaited.discard(index)
            if not awaited or len(self._queue) >= _PEEK_PACKETS or size >= _PEEK_BYTES:
                break
        return times

    def add(
        self, plan: StreamPlan, output: OutputContainer, shift: Fraction, delay: Fraction
    ) -> Stream | None:
        """Adds one stream to the output as planned; None for what has no packets of its own.

        Args:
            plan: For the stream.
            output: The muxer.
            shift: Seconds by which all streams move.
            delay: Seconds by which this stream moves beyond that, which its track entry takes back.

        Raises:
            ContainerError: The muxer refuses it.
        """
        source = self._input.streams[plan.index]
        self._shift = shift
        track: Track
        match plan.action:
            case "copy":
                track = CopyTrack(source, copied_stream(source, output), shift + delay)
            case "convert":
                track = TextTrack(source, output, plan.target or "", shift)
            case "transcode":
                track = AudioTrack(source, output, plan.target or "", shift)
            case "attach":
                self._attach(source, plan, output)
                return None
            case _:
                return None
        self._tracks[plan.index] = track
        track.output.metadata.update(stream_tags(source))
        track.output.disposition = source.disposition
        return track.output

    def _attach(self, source: Stream, plan: StreamPlan, output: OutputContainer) -> None:
        if isinstance(source, AttachmentStream):
            name, mime, data = source.name, source.mimetype, source.data
        else:
            data = self._picture(source)
            ending = {"mjpeg": "jpg"}.get(plan.codec, plan.codec)
            name = source.metadata.get("filename") or f"cover.{ending}"
            mime = source.metadata.get("mimetype") or _MIMES.get(plan.codec)
        made = output.add_attachment(name or "attachment", mime or "application/octet-stream", data)
        made.metadata.update(
            {key: value for key, value in source.metadata.items() if key.lower() == "title"}
        )

    def _picture(self, source: Stream) -> bytes:
        """An attached picture; from the file opened anew, so as not to move our own position."""
        with open_input(self._source, allow_url=self._allow_url) as file:
            for packet in file.demux(file.streams[source.index]):
                if packet.size:
                    return bytes(packet)
        msg = f"stream #{source.index} is a cover without a picture: the source is damaged"
        raise SinkError(msg)

    def chapters(self, shift: Fraction) -> "list[Chapter]":
        """The chapters of the wanted part, in the output's times."""
        start, end = self._start, self._end
        kept: list[Chapter] = []
        for chapter in self._input.chapters():
            tick = fraction(chapter["time_base"]) or Fraction(1)
            first, last = chapter["start"] * tick, chapter["end"] * tick
            first = first if start is None else max(first, start)
            last = last if end is None else min(last, end)
            if first > last or (end is not None and first >= end):
                continue
            moved = {"start": round((first + shift) / tick), "end": round((last + shift) / tick)}
            kept.append(cast("Chapter", {**chapter, **moved}))
        return kept

    def until(self, time: Fraction) -> Iterator[AnyPacket]:
        """Gives packets for the muxer, up to a time of the output in seconds."""
        while (packet := self._next()) is not None:
            at = _seconds(packet)
            if at is not None and at + self._shift > time:
                self._queue.appendleft(packet)
                return
            yield from self._feed(packet)

    def rest(self) -> Iterator[AnyPacket]:
        """Gives all packets that are left."""
        while (packet := self._next()) is not None:
            yield from self._feed(packet)
        for track in self._tracks.values():
            yield from track.flush()

    def _feed(self, packet: AnyPacket) -> Iterator[AnyPacket]:
        yield from self._tracks[packet.stream.index].feed(packet)

    def _next(self) -> AnyPacket | None:
        if self._queue:
            return self._queue.popleft()
        return next(self._packets, None)

    def _demuxed(self) -> Iterator[AnyPacket]:
        if not self._wanted:
            return
        if self._start is not None and self._start > 2 * _BACK:
            # never to the very beginning: seeking there loses the first audio packet
            self._input.seek(int((self._start - _BACK) * av.time_base))
        errors = 0
        while errors < _ATTEMPTS:
            try:
                for packet in self._input.demux(self._wanted):
                    time = _seconds(packet)
                    if self._end is not None and time is not None and time > self._end + _BACK:
                        return
                    if packet.size and self._within(packet):
                        yield packet
            except av.error.FFmpegError as error:
                # as with the picture: what is damaged is left out, and reading goes on behind it
                errors += 1
                if errors == 1:
                    reason = error.strerror or error
                    _log.warning("%s: damaged between other streams: %s", self._source, reason)
            else:
                return

    def _within(self, packet: AnyPacket) -> bool:
        """Whether a packet lies within the wanted part."""
        if (self._start is None and self._end is None) or is_cover(packet.stream):
            return True
        tick = tick_of(packet.stream)
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return True
        begin, end = time * tick, (time + (packet.duration or 0)) * tick
        if self._end is not None and begin >= self._end:
            return False
        index = packet.stream.index
        if self._start is not None and end <= self._start and begin < self._start:
            return False
        if packet.stream.type == "video" and index not in self._opened:
            if not packet.is_keyframe:
                return False
            self._opened.add(index)
        return True


def _seconds(packet: AnyPacket) -> Fraction | None:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return None if ticks is None else ticks * tick_of(packet.stream)


def stream_tags(stream: Stream, *, encoded: bool = False) -> dict[str, str]:
    """A stream's tags without those that the muxer writes itself.

    Args:
        stream: Of the source.
        encoded: Whether the stream is encoded anew, so that statistics of the old one are wrong.
    """
    return {
        key: value
        for key, value in stream.metadata.items()
        if not key.lower().startswith(_STALE)
        and not (encoded and key.lower().startswith(_STALE_PICTURE))
    }


def file_tags(file: InputContainer) -> dict[str, str]:
    """A file's tags without those that speak of the old file only."""
    return {key: value for key, value in file.metadata.items() if key.lower() not in _STALE_FILE}
