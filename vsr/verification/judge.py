"""`verify`: compares a finished output with its source.

The cheap part reads both files once without decoding: every packet's time, and digests of what was
copied. It decodes only a few pictures at key frames, and the source's times where packets do not
tell which frames are presented (hidden frames, fields, edit lists). With `full` it decodes all.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

from vsr.errors import UnsupportedSourceError
from vsr.io.containers import CONTAINERS, MATROSKA, Container
from vsr.io.inspection import Contents, FrameReader, PacketLog, Thumbnail, read_packets
from vsr.io.probe import MediaInfo, StreamFacts, VideoFacts, probe
from vsr.verification import clock, facts, streams, tags
from vsr.verification.clock import Times, Timing
from vsr.verification.expected import Expected
from vsr.verification.pictures import PictureJudge, pair_up
from vsr.verification.report import Finding, Report, fault, note, ok

SAMPLES: Final = 8
"""Most places at which the cheap part looks at pictures."""
_EVERY: Final = 250
"""Frames of output for each such place: the usual distance of key frames."""
_FOLLOWING: Final = 2
"""Pictures looked at in each place."""
_HEAD: Final = 64
"""Bytes within which a Matroska file says whether it is WebM (RFC 8794, DocType)."""
_SIDE: Final = 320
"""Longer side of the small pictures that are compared, where the source is larger."""
_PRIMING: Final = Fraction(1, 5)
"""Seconds that sound may begin before zero, as an encoder's run-up; and the coarsest rounding of a
movement of all streams."""
_TINY: Final = 16
"""Pixels of the shorter side below which every pixel is an edge, and limits are wider."""
_STEP: Final = Fraction(1, 100)
"""Seconds by which the end may always be off."""


@dataclass(frozen=True, slots=True)
class _File:
    """One of the two files."""

    path: Path | str
    info: MediaInfo
    main: StreamFacts
    video: VideoFacts
    contents: Contents
    allow_url: bool

    @property
    def log(self) -> PacketLog:
        """Packets of the picture."""
        return self.contents.logs[self.main.index]

    @property
    def still(self) -> bool:
        """Whether it is one picture, without times."""
        return self.info.container.endswith("_pipe")

    def of_kind(self, kind: str) -> list[tuple[StreamFacts, PacketLog]]:
        """Streams of a kind and their packets; videos without covers and the picture."""
        return [
            (stream, self.contents.logs[stream.index])
            for stream in self.info.streams
            if stream.kind == kind
            and stream.index != self.main.index
            and not (stream.video is not None and stream.video.cover)
        ]

    @property
    def covers(self) -> list[PacketLog]:
        """Cover pictures."""
        found = [s for s in self.info.streams if s.video is not None and s.video.cover]
        return [self.contents.logs[stream.index] for stream in found]

    def reader(self) -> FrameReader:
        """Decodes the picture."""
        return FrameReader(self.path, self.main.index, allow_url=self.allow_url)


def verify(
    source: Path | str, output: Path, expected: Expected | None = None, *, full: bool = False
) -> Report:
    """Compares an output with its source.

    Args:
        source: A video file or picture; an address only where `expected` allows.
        output: What was made of it; its name does not matter, its content does.
        expected: The changes that were planned. By default none but a scale, sound in another
            codec, and what the output's container forces.
        full: Decode and compare every frame, instead of a few.

    Returns:
        All findings; what is wrong does not raise.

    Raises:
        SourceError: The source cannot be read.
    """
    expected = expected or Expected()
    one = _opened(source, expected.stream, allow_url=expected.allow_url)
    try:
        other = _opened(output, None, allow_url=False)
    except UnsupportedSourceError as error:
        found = (fault("opens", str(error)),)
        return Report(source=str(source), output=str(output), full=full, findings=found)
    findings = tuple(_findings(one, other, expected, full=full))
    return Report(source=str(source), output=str(output), full=full, findings=findings)


def _opened(path: Path | str, stream: int | None, *, allow_url: bool) -> _File:
    info = probe(path, allow_url=allow_url)
    index = info.main_video if stream is None else stream
    found = [s for s in info.streams if s.index == index and s.video is not None]
    if not found or found[0].video is None:
        msg = f"{path} has no video stream{'' if stream is None else f' {stream}'} to compare"
        raise UnsupportedSourceError(msg)
    contents = read_packets(path, found[0].index, allow_url=allow_url)
    return _File(path, info, found[0], found[0].video, contents, allow_url)


def _findings(one: _File, other: _File, expected: Expected, *, full: bool) -> Iterator[Finding]:
    container = _container(other)
    yield from _whole(one, other)
    timing = _timing(one, other, expected)
    yield from timing.findings
    if expected.frames is not None and len(other.log) != expected.frames:
        text = f"{len(other.log)} frames, but the job wrote {expected.frames}"
        yield fault("frames", text, output=len(other.log), written=expected.frames)
    window = _window(one, timing.shift, expected)
    if timing.ok and not (one.still or other.still):
        yield from _duration(one, other, window)
    size = facts.judge_size(one.video, other.video, expected)
    yield size
    yield from facts.judge_shape(one.video, other.video, expected)
    yield from facts.judge_color(one.video, other.video, expected)
    hdr = facts.judge_hdr(one.video, other.video, other.main.codec, container)
    yield from _given(hdr)
    if not (one.still or other.still):
        yield from _beside(one, other, (window, expected), container)
    comparison = _Comparison(one, other, window, expected)
    yield from comparison.all_pictures() if full else comparison.samples()


def _given(finding: Finding | None) -> Iterator[Finding]:
    if finding is not None:
        yield finding


def _container(file: _File) -> Container:
    """What the output's container can say, by its content; anything, if it is no usual one."""
    names = file.info.container.split(",")
    if "mov" in names:
        names = ["mov" if file.info.tags.get("major_brand", "").startswith("qt") else "mp4"]
    elif "matroska" in names:
        with Path(file.path).open("rb") as opened:
            names = ["webm" if b"webm" in opened.read(_HEAD) else "matroska"]
    return next((container for container in CONTAINERS if container.name in names), MATROSKA)


def _whole(one: _File, other: _File) -> Iterator[Finding]:
    if other.info.truncated:
        yield fault("whole", "the output is cut short: its headers say that there is more")
    elif other.contents.errors:
        yield fault("whole", f"the output cannot be read: {other.contents.errors} errors")
    else:
        yield ok("whole", "the output can be read to its end")
    if _damaged(one):
        yield note("source", "the source itself is damaged, so less can be compared")


def _damaged(file: _File) -> bool:
    return file.info.truncated or file.contents.errors > 0


def _timing(one: _File, other: _File, expected: Expected) -> Timing:
    """Compares times as packets tell them; where they disagree, as the frames do."""
    given = Times.of_packets(other.log)
    if given is None:
        return Timing(findings=(fault("times", "the output has frames without a time"),))
    movable = _may_move(one)
    packets = Times.of_packets(one.log)
    if packets is not None and len(packets) and not _damaged(one):
        timing = clock.compare_times(packets.within(expected), given, movable=movable)
        if timing.ok:
            return timing
    with closing(one.reader()) as reader:
        seconds = list(reader.times())
        lost = reader.errors + reader.corrupt
    frames = Times.of_frames(seconds, one.log.time_base)
    if frames is None or one.still:
        rate = one.video.nominal_rate
        return clock.compare_untimed(given, len(seconds), rate, still=one.still)
    timing = clock.compare_times(frames.within(expected), given, movable=movable)
    if timing.ok or not (lost or _damaged(one)):
        return timing
    every = packets if packets is not None else frames
    decoded = frames.within(expected)
    return clock.compare_damaged(every, given, len(decoded), lost)


def _may_move(one: _File) -> Fraction:
    """By how much all streams may move at most: 0 unless something begins below zero.

    The run-up of an audio encoder does not count: players discard it.
    """
    spans = [
        (stream.kind, span[0])
        for stream in one.info.streams
        if (span := one.contents.logs[stream.index].span) is not None
    ]
    below = [first for kind, first in spans if first < (-_PRIMING if kind == "audio" else 0)]
    return _PRIMING - min(first for _, first in spans) if below else Fraction(0)


def _window(one: _File, shift: Fraction, expected: Expected) -> streams.Window:
    start = end = None
    if expected.trimmed:
        first = _first(one)
        start = None if expected.start is None else first + expected.start
        end = None if expected.end is None else first + expected.end
    return streams.Window(shift=shift, start=start, end=end, damaged=_damaged(one))


def _first(file: _File) -> Fraction:
    with closing(file.reader()) as reader:
        return next((time for time in reader.times() if time is not None), Fraction(0))


def _duration(one: _File, other: _File, window: streams.Window) -> Iterator[Finding]:
    """Whether the last frame ends when it should, and the header knows."""
    spans = one.log.span, other.log.span
    if spans[0] is None or spans[1] is None:
        return
    end, got = spans[0][1], spans[1][1]
    limit = max(one.log.last_duration, other.log.last_duration, _STEP)
    if not window.trimmed and not window.damaged and abs(got - end - window.shift) > limit:
        yield fault("duration", f"ends at {float(got):.3f} s, expected {float(end):.3f} s")
        return
    told = other.info.duration
    latest = max(log.span[1] for log in other.contents.logs.values() if log.span is not None)
    # mp4 sums up durations in decoding order there, and tells the true one in its edit list
    if (
        "matroska" in other.info.container
        and told is not None
        and told < latest - limit - spans[1][0]
    ):
        text = f"the header tells {float(told):.3f} s, but there are {float(latest):.3f} s"
        yield fault("duration", text)
        return
    yield ok("duration", f"ends at {float(got):.3f} s")


def _beside(
    one: _File,
    other: _File,
    how: tuple[streams.Window, Expected],
    container: Container,
) -> Iterator[Finding]:
    """Everything but the picture."""
    window, expected = how
    kept = {"audio": expected.audio, "subtitle": expected.subtitles, "video": True}
    for kind, keep in kept.items():
        had, has = one.of_kind(kind), other.of_kind(kind)
        count = streams.judge_count(kind, [s for s, _ in had], [s for s, _ in has], kept=keep)
        yield from _given(count)
        if not keep or len(had) != len(has):
            continue
        for (source, before), (output, after) in zip(had, has, strict=True):
            pair = streams.Pair(source=source, output=output, packets=(before, after))
            yield from streams.judge_pair(pair, window, expected, container)
    files = one.of_kind("attachment"), other.of_kind("attachment")
    yield from _given(tags.attachments(*files, container))
    yield from _given(tags.covers(one.covers, other.covers, container))
    if dropped := one.of_kind("data")[len(other.of_kind("data")) :]:
        yield note("data", f"{len(dropped)} data streams are not copied")
    part = window.start, window.end
    chapters = one.info.chapters, other.info.chapters
    yield from _given(tags.chapters(*chapters, window.shift, part, container))
    yield from tags.stream_tags(one.main, other.main, container)
    yield tags.file_tags(one.info, other.info, container)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Compares pictures of the two files."""

    one: _File
    other: _File
    window: streams.Window
    expected: Expected

    def all_pictures(self) -> Iterator[Finding]:
        """Decodes everything."""
        judge = PictureJudge(tiny=self._tiny)
        with closing(self.one.reader()) as source, closing(self.other.reader()) as output:
            pairs = pair_up(
                self._within(source.thumbnails(self._size(self.one))),
                output.thumbnails(self._size(self.other)),
                self.window.shift,
            )
            for picture, near in pairs:
                judge.add(picture, near)
            yield from _unbroken(output)
            if output.interlaced:
                yield fault("interlaced", f"{output.interlaced} frames hold woven fields")
        yield from judge.findings()
        if judge.frames != len(self.other.log):
            text = f"{judge.frames} frames could be decoded of {len(self.other.log)}"
            yield fault("decodes", text)

    def samples(self) -> Iterator[Finding]:
        """Decodes a few pictures, at key frames of the output."""
        judge = PictureJudge(tiny=self._tiny)
        times = Times.of_packets(self.other.log)
        count = len(self.other.log)
        with closing(self.one.reader()) as source, closing(self.other.reader()) as output:
            far = source.seekable and output.seekable and times is not None
            places = min(SAMPLES, 1 + count // _EVERY) if far else 1
            for place in range(places):
                if place and times is not None:
                    output.seek(times.seconds(place * count // places))
                seen = list(islice(output.thumbnails(self._size(self.other)), _FOLLOWING))
                judge.cut()
                for picture, near in pair_up(self._around(source, seen), seen, self.window.shift):
                    judge.add(picture, near)
            yield from _unbroken(output)
        yield from judge.findings()

    def _around(self, source: FrameReader, seen: Sequence[Thumbnail]) -> Iterator[Thumbnail]:
        """Frames of the source from before the first of some pictures to behind the last."""
        times = [picture.time - self.window.shift for picture in seen if picture.time is not None]
        if not times:
            return
        if source.seekable:
            source.seek(times[0])
        behind = 0
        for picture in self._within(source.thumbnails(self._size(self.one))):
            yield picture
            behind += picture.time is None or picture.time > times[-1]
            if behind > len(seen):
                return

    def _within(self, pictures: Iterator[Thumbnail]) -> Iterator[Thumbnail]:
        start, end = self.window.start, self.window.end
        for picture in pictures:
            time = picture.time
            if time is not None and end is not None and time >= end:
                return
            if time is None or start is None or time >= start:
                yield picture

    @property
    def _tiny(self) -> bool:
        return min(facts.shown_size(self.one.video)) < _TINY

    def _size(self, file: _File) -> tuple[int, int]:
        """Of small pictures as stored, equal for both files when upright."""
        width, height = facts.shown_size(self.one.video)
        longer = max(width, height, _SIDE)
        small = max(1, round(width * _SIDE / longer)), max(1, round(height * _SIDE / longer))
        return (small[1], small[0]) if file.video.rotation % 180 else small


def _unbroken(output: FrameReader) -> Iterator[Finding]:
    if output.errors or output.corrupt:
        text = f"{output.errors} packets cannot be decoded, {output.corrupt} frames are concealed"
        yield fault("decodes", text, errors=output.errors, concealed=output.corrupt)
