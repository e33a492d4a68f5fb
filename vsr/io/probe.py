"""What is in a media file, as plain values: for `vsr info` and for decisions before work begins."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream

from vsr.errors import SourceError, UnsupportedSourceError
from vsr.io.color import fraction, read_color
from vsr.io.damage import Damage, is_cut_short
from vsr.io.decoder import Decoder, DecoderOptions
from vsr.io.facts import declared_seconds, frame_rate, read_hdr, read_orientation, sample_aspect
from vsr.io.open import is_url, open_input
from vsr.io.streams import choose_video, has_alpha_layer, is_picture
from vsr.types import ColorSpec, Hdr

type FieldOrder = Literal["unknown", "progressive", "tt", "bb", "tb", "bt"]
type Kind = Literal["video", "audio", "subtitle", "data", "attachment", "unknown"]

_FIELD_ORDERS: tuple[FieldOrder, ...] = ("unknown", "progressive", "tt", "bb", "tb", "bt")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """A video stream, from headers and, for the main one, from its first frame.

    Attributes:
        width: Stored width.
        height: Stored height.
        pixel_format: FFmpeg's name; empty if no frame could be looked at.
        color: Tags as found.
        sample_aspect: Width of a pixel over its height.
        rotation: Degrees anticlockwise to the upright picture.
        mirrored: Whether it must be mirrored first.
        average_rate: Frames per second over the whole stream.
        nominal_rate: libav's guess of the true rate.
        field_order: As FFmpeg names it: first letter coded first, second displayed first.
        interlaced: Whether the first frame is.
        hdr: Static HDR10 metadata.
        alpha: Whether there is an alpha channel.
        cover: Whether it is a picture (cover, thumbnails) and not a film.
    """

    width: int
    height: int
    pixel_format: str
    color: ColorSpec
    sample_aspect: Fraction
    rotation: int
    mirrored: bool
    average_rate: Fraction | None
    nominal_rate: Fraction | None
    field_order: FieldOrder
    interlaced: bool
    hdr: Hdr | None
    alpha: bool
    cover: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFacts:
    """An audio stream, from headers."""

    sample_rate: int
    channels: int
    layout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingFacts:
    """Counted facts about the times of a stream's packets.

    Attributes:
        packets: Number of packets that are presented.
        keyframes: How many of them are key frames.
        first: Earliest presentation time in seconds; None if packets have none.
        last: Latest.
        constant: Whether all steps are equal, up to the rounding of one tick.
        shortest: Shortest step between presented packets in seconds.
        longest: Longest step.
        gaps: Steps longer than three times the most frequent one.
        untimed: Packets without a time.
        repeated: Packets with the time of another.
    """

    packets: int
    keyframes: int
    first: Fraction | None
    last: Fraction | None
    constant: bool
    shortest: Fraction | None
    longest: Fraction | None
    gaps: int
    untimed: int
    repeated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """One stream.

    Attributes:
        index: In the container.
        kind: Its type.
        codec: FFmpeg's codec name; empty if unknown.
        language: ISO 639-2 code, or None.
        title: Title, or None.
        dispositions: FFmpeg's names of its flags.
        time_base: Seconds per tick.
        start: Its first time in seconds, or None.
        duration: As declared, in seconds, or None.
        tags: All its tags.
        video: For video.
        audio: For audio.
        timing: Where counting was asked for.
    """

    index: int
    kind: Kind
    codec: str
    language: str | None
    title: str | None
    dispositions: tuple[str, ...]
    time_base: Fraction
    start: Fraction | None
    duration: Fraction | None
    tags: Mapping[str, str]
    video: VideoFacts | None = None
    audio: AudioFacts | None = None
    timing: TimingFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A chapter; times in seconds."""

    start: Fraction
    end: Fraction
    title: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """A media file.

    Attributes:
        path: The file.
        container: FFmpeg's name of the format.
        description: The format in words.
        size: Bytes, None where unknown.
        duration: Seconds by the header, None where unknown.
        start: Earliest time in seconds, None where unknown.
        bit_rate: Bits per second, None where unknown.
        truncated: Whether the file is shorter than its own headers say.
        streams: In order.
        chapters: In order.
        tags: Global tags.
        main_video: Index of the stream that would be upscaled; None if there is none.
    """

    path: str
    container: str
    description: str
    size: int | None
    duration: Fraction | None
    start: Fraction | None
    bit_rate: int | None
    truncated: bool
    streams: tuple[StreamFacts, ...]
    chapters: tuple[Chapter, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    main_video: int | None = None


def probe(path: str | Path, *, count: bool = False, allow_url: bool = False) -> MediaInfo:
    """Describes a media file.

    Args:
        path: A local file, or an address if `allow_url`.
        count: Reads all packets, without decoding, for exact facts about times.
        allow_url: Whether addresses may be opened.

    Raises:
        SourceError: The file cannot be read.
    """
    with open_input(path, allow_url=allow_url) as container:
        main = _main_video(container)
        frame = None if main is None else _first_frame(path, main, allow_url=allow_url)
        timing = _counted(container) if count else {}
        return MediaInfo(
            path=str(path),
            container=container.format.name,
            description=container.format.long_name,
            size=container.size,
            duration=_microseconds(container.duration),
            start=_microseconds(container.start_time),
            bit_rate=container.bit_rate or None,
            truncated=not is_url(path) and is_cut_short(Path(path)),
            streams=tuple(
                _stream(stream, timing.get(stream.index), frame if stream.index == main else None)
                for stream in container.streams
            ),
            chapters=tuple(_chapters(container)),
            tags=dict(container.metadata),
            main_video=main,
        )


def _microseconds(value: int | None) -> Fraction | None:
    return None if value is None else Fraction(value, av.time_base)


def _main_video(container: InputContainer) -> int | None:
    with suppress(UnsupportedSourceError):
        return choose_video(container, container.name).index
    return None


def _first_frame(path: str | Path, index: int, *, allow_url: bool) -> av.VideoFrame | None:
    """HDR, alpha and interlacing often show in the bitstream only."""
    options = DecoderOptions(stream=index, allow_url=allow_url, frame_threads=False)
    with suppress(SourceError), Decoder(path, options, Damage()) as decoder:
        return next(decoder.frames(), None)
    return None


def _chapters(container: InputContainer) -> Iterator[Chapter]:
    for chapter in container.chapters():
        unit = fraction(chapter["time_base"]) or Fraction(0)
        yield Chapter(
            start=chapter["start"] * unit,
            end=chapter["end"] * unit,
            title=chapter["metadata"].get("title"),
        )


def _stream(stream: Stream, timing: TimingFacts | None, frame: av.VideoFrame | None) -> StreamFacts:
    context = cast(CodecContext | None, stream.codec_context)
    unit = fraction(stream.time_base) or Fraction(0)
    tags = dict(stream.metadata)
    video = _video(stream, frame) if isinstance(stream, VideoStream) and context else None
    audio = _audio(context) if isinstance(context, AudioCodecContext) else None
    if isinstance(stream, AttachmentStream):
        tags.setdefault("filename", stream.name or "")
        tags.setdefault("mimetype", stream.mimetype or "")
    return StreamFacts(
        index=stream.index,
        kind=stream.type,
        codec=context.codec.canonical_name if context else "",
        language=stream.language,
        title=tags.get("title"),
        dispositions=tuple(flag.name or "" for flag in Disposition(stream.disposition)),
        time_base=unit,
        start=None if stream.start_time is None else stream.start_time * unit,
        duration=_duration(stream, unit),
        tags=tags,
        video=video,
        audio=audio,
        timing=timing,
    )


def _duration(stream: Stream, unit: Fraction) -> Fraction | None:
    if isinstance(stream, VideoStream):
        return declared_seconds(stream)
    return None if stream.duration is None else stream.duration * unit


def _video(stream: VideoStream, frame: av.VideoFrame | None) -> VideoFacts:
    context = stream.codec_context
    name = frame.format.name if frame is not None else context.pix_fmt or ""
    parts = av.VideoFormat(name).components if name else ()
    orientation = read_orientation(stream, frame)
    return VideoFacts(
        width=frame.width if frame is not None else context.width,
        height=frame.height if frame is not None else context.height,
        pixel_format=name,
        color=read_color(context, frame),
        sample_aspect=sample_aspect(stream),
        rotation=orientation.rotation,
        mirrored=orientation.mirrored,
        average_rate=fraction(stream.average_rate),
        nominal_rate=fraction(stream.guessed_rate) or frame_rate(stream),
        field_order=_FIELD_ORDERS[context.field_order],
        interlaced=frame is not None and frame.interlaced_frame,
        hdr=read_hdr(stream, context, frame),
        alpha=has_alpha_layer(stream) or any(part.is_alpha for part in parts),
        cover=is_picture(stream),
    )


def _audio(context: AudioCodecContext) -> AudioFacts:
    return AudioFacts(
        sample_rate=int(context.sample_rate),
        channels=context.layout.nb_channels,
        layout=context.layout.name,
    )


def _counted(container: InputContainer) -> dict[int, TimingFacts]:
    """Reads every packet once; what is unreadable ends the count, as it ends playing."""
    times: dict[int, list[int | None]] = {stream.index: [] for stream in container.streams}
    keys: Counter[int] = Counter()
    with suppress(av.error.FFmpegError):
        for packet in container.demux():
            if packet.size and not packet.is_discard:
                times[packet.stream.index].append(packet.pts)
                keys[packet.stream.index] += packet.is_keyframe
    units = {stream.index: fraction(stream.time_base) for stream in container.streams}
    return {
        index: _timing(found, keys[index], units[index] or Fraction(0))
        for index, found in times.items()
    }


def _timing(found: list[int | None], keyframes: int, unit: Fraction) -> TimingFacts:
    timed = sorted(pts for pts in found if pts is not None)
    steps = [later - earlier for earlier, later in pairwise(timed)]
    usual = Counter(steps).most_common(1)[0][0] if steps else 0
    return TimingFacts(
        packets=len(found),
        keyframes=keyframes,
        first=timed[0] * unit if timed else None,
        last=timed[-1] * unit if timed else None,
        constant=not steps or max(steps) - min(steps) <= 1,
        shortest=min(steps) * unit if steps else None,
        longest=max(steps) * unit if steps else None,
        gaps=sum(step > 3 * usual for step in steps),
        untimed=len(found) - len(timed),
        repeated=steps.count(0),
    )
