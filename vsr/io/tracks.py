"""How packets of other streams come into the output: copied, as other text, or encoded anew.

A track takes packets of its source and gives packets for the muxer. All tracks move by the same
`shift`, so nothing slides against anything else.
"""

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream

from vsr.errors import ContainerError, SinkError
from vsr.io.color import fraction
from vsr.io.mov_text import Cue, OneAtATime

_log = logging.getLogger(__name__)

type AnyPacket = Packet[Stream]

_WAITING = 64
"""Most packets of a copied video that wait for the first known decoding time."""


class Track(Protocol):
    """One stream on its way into the output."""

    @property
    def output(self) -> Stream:
        """The stream of the output."""
        ...

    def feed(self, packet: AnyPacket) -> Iterator[AnyPacket]:
        """Takes a packet of the source and gives those that can be muxed now."""
        ...

    def flush(self) -> Iterator[AnyPacket]:
        """Gives what is left after the last packet."""
        ...


def tick_of(stream: Stream) -> Fraction:
    """Seconds per tick of a stream's times."""
    tick = fraction(stream.time_base)
    if tick is None:
        msg = f"stream #{stream.index} has no time base: the source is damaged"
        raise SinkError(msg)
    return tick


def copied_stream(source: Stream, output: OutputContainer) -> Stream:
    """Adds a stream with the codec parameters of another.

    Raises:
        ContainerError: The muxer refuses them.
    """
    try:
        made = output.add_stream_from_template(source, opaque=True)
    except (ValueError, av.error.FFmpegError):
        made = _stream_by_parameters(source, output)
    made.time_base = source.time_base
    return made


def _stream_by_parameters(source: Stream, output: OutputContainer) -> Stream:
    """For codecs that Matroska holds under their AVI names, which the usual way refuses.

    A filter that does nothing copies the codec parameters as they are.
    """
    stand_in = {"audio": "flac", "video": "mjpeg", "subtitle": "subrip"}.get(source.type or "")
    try:
        if stand_in is None:
            msg = f"no way to copy a stream of type {source.type}"
            raise ValueError(msg)  # noqa: TRY301 - one message for all reasons
        made = output.add_mux_stream(stand_in)
        av.BitStreamFilterContext("null", in_stream=source, out_stream=made)
    except (ValueError, av.error.FFmpegError) as error:
        msg = (
            f"{output.format.name} refuses stream #{source.index} ({source.type}): {error}; "
            "use -o FILE.mkv"
        )
        raise ContainerError(msg) from error
    return made


class CopyTrack:
    """Copies packets bit by bit.

    Args:
        source: Stream of the source.
        output: Stream of the output.
        shift: Seconds by which all streams move.
    """

    def __init__(self, source: Stream, output: Stream, shift: Fraction) -> None:
        self.output = output
        self._tick = tick_of(source)
        self._ticks = round(shift / self._tick)
        self._reordered = source.type == "video"
        self._waiting: list[AnyPacket] = []
        self._last: int | None = None
        self._index = source.index
        self._warned = False

    def feed(self, packet: AnyPacket) -> Iterator[AnyPacket]:
        """Takes a packet of the source and gives those that can be muxed now."""
        if self._reordered and packet.dts is None and self._last is None:
            # Matroska tells no decoding times; libavformat knows them only after a few packets
            self._waiting.append(packet)
            if len(self._waiting) < _WAITING:
                return
            packet = self._waiting.pop()
        for waiting, dts in self._dated(packet):
            yield self._ready(waiting, dts)
        yield self._ready(packet, packet.dts)

    def flush(self) -> Iterator[AnyPacket]:
        """Gives what is left after the last packet."""
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            yield self._ready(packet, packet.dts)

    def _dated(self, packet: AnyPacket) -> Iterator[tuple[AnyPacket, int]]:
        """Counts back from the first known decoding time."""
        waiting, self._waiting = self._waiting, []
        first = packet.dts if packet.dts is not None else packet.pts or 0
        for number, early in enumerate(waiting):
            step = early.duration or 1
            yield early, first - step * (len(waiting) - number)

    def _ready(self, packet: AnyPacket, dts: int | None) -> AnyPacket:
        pts = packet.pts if packet.pts is not None else dts
        if pts is None:
            pts = 0 if self._last is None else self._last + 1
        dts = pts if dts is None else dts
        if self._last is not None and dts < self._last:
            if not self._warned:
                _log.warning("stream #%d: times jump back; put in order", self._index)
                self._warned = True
            dts = self._last
        self._last = dts
        packet.dts = dts + self._ticks
        packet.pts = max(pts, dts) + self._ticks
        packet.time_base = self._tick
        packet.stream = self.output
        return packet


class TextTrack:
    """Turns text subtitles into the text format of the container; same words, same times.

    Args:
        source: Stream of the source.
        container: The output.
        codec: FFmpeg's name of the new format.
        shift: Seconds by which all streams move.
    """

    def __init__(
        self, source: Stream, container: OutputContainer, codec: str, shift: Fraction
    ) -> None:
        self._decoder = cast("SubtitleCodecContext", source.codec_context)
        self._decoder.open(strict=False)
        encoder = "srt" if codec == "subrip" else codec
        self.output = cast("SubtitleStream", container.add_stream(encoder))
        self._encoder = self.output.codec_context
        self._encoder.subtitle_header = self._decoder.subtitle_header
        self._tick = tick_of(source)
        self._ticks = round(shift / self._tick)
        self.output.time_base = source.time_base
        self._cues = OneAtATime() if codec == "mov_text" else None

    def feed(self, packet: AnyPacket) -> Iterator[AnyPacket]:
        """Takes a packet of the source and gives those that can be muxed now."""
        pts, duration = packet.pts, packet.duration
        decoded = self._decoder.decode2(packet)
        if decoded is None or len(decoded) == 0 or pts is None:
            return  # a pause: mp4 writes those as empty texts
        made = self._encoder.encode_subtitle(decoded)
        start = pts + self._ticks
        cue = Cue(start=start, end=start + (duration or 0), payload=bytes(made))
        yield from map(self._packet, self._cues.push(cue) if self._cues else [cue])

    def flush(self) -> Iterator[AnyPacket]:
        """Gives what was waiting for the next text."""
        yield from map(self._packet, self._cues.flush() if self._cues else ())

    def _packet(self, cue: Cue) -> AnyPacket:
        made = Packet(cue.payload)
        made.stream, made.time_base = self.output, self._tick
        made.pts = made.dts = cue.start
        made.duration = cue.end - cue.start
        return made


class AudioTrack:
    """Encodes audio anew.

    Args:
        source: Stream of the source.
        container: The output.
        codec: FFmpeg's name of the audio encoder.
        shift: Seconds by which all streams move.
    """

    def __init__(
        self, source: Stream, container: OutputContainer, codec: str, shift: Fraction
    ) -> None:
        self._decoder = cast("AudioCodecContext", source.codec_context)
        self._shift = shift
        rate = _rate(codec, int(self._decoder.sample_rate))
        options = {"flags": "+bitexact"}
        self.output = cast("AudioStream", container.add_stream(codec, rate=rate, options=options))
        self._encoder = self.output.codec_context
        self._encoder.layout = _layout(self._decoder)
        self._encoder.open(strict=False)
        self._resampler = AudioResampler(
            self._encoder.format.name,
            self._encoder.layout.name,
            rate,
            frame_size=self._encoder.frame_size or 1024,
        )

    def feed(self, packet: AnyPacket) -> Iterator[AnyPacket]:
        """Takes a packet of the source and gives those that can be muxed now."""
        for frame in self._decoder.decode(packet):
            yield from self._resampled(frame)

    def flush(self) -> Iterator[AnyPacket]:
        """Gives what is left after the last packet."""
        for frame in self._decoder.decode(None):
            yield from self._resampled(frame)
        for piece in self._resampler.resample(None):
            yield from self._encoded(piece)
        yield from self.output.encode(None)

    def _resampled(self, frame: av.AudioFrame) -> Iterator[AnyPacket]:
        # in ticks as coarse as AVI's, the pieces of one frame would begin at the same time
        tick = fraction(frame.time_base) if frame.time_base is not None else None
        if frame.pts is not None and tick is not None:
            frame.pts = round(frame.pts * tick * frame.sample_rate)
            frame.time_base = Fraction(1, frame.sample_rate)
        for piece in self._resampler.resample(frame):
            yield from self._encoded(piece)

    def _encoded(self, piece: av.AudioFrame) -> Iterator[AnyPacket]:
        if piece.pts is not None and piece.time_base is not None:
            tick = fraction(piece.time_base) or Fraction(1, piece.sample_rate)
            piece.pts += round(self._shift / tick)
        yield from self.output.encode(piece)


def _layout(decoder: AudioCodecContext) -> str:
    """The channels' places; the usual ones where AVI and WAV tell only how many there are."""
    name, count = decoder.layout.name, decoder.layout.nb_channels
    return av.AudioLayout(f"{count}c").name if name == f"{count} channels" else name


def _rate(codec: str, wanted: int) -> int:
    """The encoder's sample rate nearest above the source's."""
    rates = av.codec.Codec(codec, "w").audio_rates
    if not rates or wanted in rates:
        return wanted
    return min((rate for rate in rates if rate > wanted), default=max(rates))
