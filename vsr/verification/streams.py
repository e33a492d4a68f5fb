"""Compares what lies beside the picture: sound, subtitles, covers, attached files, further videos.

Packets that were to be copied must have the same bytes at the same times, but for the common shift.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from vsr.io.containers import Container
from vsr.io.inspection import UNTIMED, PacketLog
from vsr.io.probe import StreamFacts
from vsr.verification import cues
from vsr.verification.clock import Times, delays
from vsr.verification.expected import Expected
from vsr.verification.report import Finding, fault, note, ok
from vsr.verification.tags import stream_tags

SYNC: Final = Fraction(3, 2000)
"""Seconds by which sound may slide against the picture, beyond the output's tick."""
_REENCODED: Final = Fraction(1, 10)
"""Seconds by which sound encoded anew may begin or end at another time: frames and priming."""
_BITMAPS: Final = frozenset({"hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub"})
_SAME: Final = {"mp1": "mp3", "mp2": "mp3", "ssa": "ass", "text": "subrip"}
"""Names that containers take for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One stream of the source and what became of it."""

    source: StreamFacts
    output: StreamFacts
    packets: tuple[PacketLog, PacketLog]

    @property
    def name(self) -> str:
        """For people."""
        language = f", {self.source.language}" if self.source.language else ""
        return f"stream #{self.source.index} ({self.source.kind}, {self.source.codec}{language})"

    @property
    def alike(self) -> bool:
        """Whether both have one codec."""
        return _codec(self.source) == _codec(self.output)


def _codec(stream: StreamFacts) -> str:
    return _SAME.get(stream.codec, stream.codec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How the output's times lie to the source's.

    Attributes:
        shift: Seconds by which all streams move.
        start: The excerpt's start in the source's times; None if it begins with the source.
        end: Its end, likewise.
        damaged: Whether packets of the source may be missing.
    """

    shift: Fraction = Fraction(0)
    start: Fraction | None = None
    end: Fraction | None = None
    damaged: bool = False

    @property
    def trimmed(self) -> bool:
        """Whether the output is an excerpt."""
        return self.start is not None or self.end is not None


def judge_count(
    kind: str, source: Sequence[StreamFacts], output: Sequence[StreamFacts], *, kept: bool
) -> Finding | None:
    """Whether all streams of a kind are there, or none if none was to be kept."""
    wanted = len(source) if kept else 0
    if not source and not output:
        return None
    details = {"source": len(source), "output": len(output)}
    if len(output) == wanted:
        text = f"{wanted} {kind} streams" if kept else f"{kind} was left out"
        return (ok if kept else note)(f"{kind} streams", text, **details)
    named = ", ".join(f"#{s.index} {s.codec} {s.language or ''}".strip() for s in source)
    text = f"{len(output)} {kind} streams, expected {wanted}"
    return fault(f"{kind} streams", f"{text} ({named})" if named else text, **details)


def judge_pair(
    pair: Pair, window: Window, expected: Expected, container: Container
) -> Iterator[Finding]:
    """Compares one stream of sound, subtitles or further video with its source."""
    yield from stream_tags(pair.source, pair.output, container)
    kind = pair.source.kind
    if kind == "audio":
        yield from _layout(pair)
    if kind == "audio" and (expected.audio_codec not in (None, "copy") or not pair.alike):
        yield from _reencoded(pair, window)
    elif kind == "subtitle" and not pair.alike:
        yield _converted(pair, window)
    else:
        yield from _copied(pair, window)


def _layout(pair: Pair) -> Iterator[Finding]:
    one, other = pair.source.audio, pair.output.audio
    if one is None or other is None:
        return
    text = f"{pair.name}: {one.channels} channels at {one.sample_rate} Hz became "
    text += f"{other.channels} at {other.sample_rate} Hz"
    if one.channels != other.channels or (pair.alike and one.sample_rate != other.sample_rate):
        yield fault("audio layout", text)
    elif one.sample_rate != other.sample_rate:
        yield note("audio layout", text)


def _copied(pair: Pair, window: Window) -> Iterator[Finding]:
    source, output = pair.packets
    kind = pair.source.kind
    first = _first_index(source, output, window) if window.trimmed else 0
    if first is None:
        yield fault(f"{kind} packets", f"{pair.name}: its packets are not those of the source")
        return
    last = first + len(output)
    same = bytes(source.digests[first * 8 : last * 8]) == bytes(output.digests)
    whole = same and (window.trimmed or len(source) == len(output))
    if whole:
        yield ok(f"{kind} packets", f"{pair.name}: {len(output)} packets, bit by bit")
        if window.trimmed:
            yield from _ends(pair, window, first, last)
        yield from _in_time(pair, window, first)
    elif source.size == output.size and source.whole == output.whole:
        yield ok(f"{kind} packets", f"{pair.name}: the same bytes, cut into packets anew")
        yield from _spanning(pair, window, SYNC + source.time_base + output.time_base)
    elif pair.source.kind == "video" and window.trimmed and _among(source, output, first):
        # in decoding order an excerpt has gaps
        yield ok(f"{kind} packets", f"{pair.name}: {len(output)} packets of the excerpt")
    elif pair.source.codec.startswith("pcm_") and window.trimmed:
        yield note(f"{kind} packets", f"{pair.name}: cut within packets, so not compared")
    else:
        yield _different(pair, window, first)


def _different(pair: Pair, window: Window, first: int) -> Finding:
    source, output = pair.packets
    kind = f"{pair.source.kind} packets"
    limit = min(len(source) - first, len(output))
    at = next((k for k in range(limit) if source.digest(first + k) != output.digest(k)), limit)
    details = {"source": len(source), "output": len(output), "first_difference": at}
    if window.damaged and set(_digests(output)) <= set(_digests(source)):
        text = f"{pair.name}: {len(output)} of {len(source)} packets of a damaged source"
        return note(kind, text, **details)
    text = f"{pair.name}: {len(output)} packets, expected {len(source) - first}"
    if len(output) == len(source) - first:
        text = f"{pair.name}: {len(output)} packets"
    return fault(kind, f"{text}; the first that differs is packet {at}", **details)


def _among(source: PacketLog, output: PacketLog, first: int) -> bool:
    """Whether packets are some of the source's, in their order."""
    at = first - 1
    for index in range(len(output)):
        at = source.find(output.digest(index), at + 1)
        if at < 0:
            return False
    return True


def _digests(log: PacketLog) -> Iterator[bytes]:
    return (log.digest(index) for index in range(len(log)))


def _first_index(source: PacketLog, output: PacketLog, window: Window) -> int | None:
    """Which packet of the source an excerpt begins with; of equal ones that nearest in time."""
    if not len(output):
        return 0
    wanted = output.seconds(0)
    found, at = [], source.find(output.digest(0))
    while at >= 0:
        found.append(at)
        at = source.find(output.digest(0), at + 1)
    if wanted is None or not found:
        return found[0] if found else None

    def distance(index: int) -> Fraction:
        time = source.seconds(index)
        return abs(wanted - window.shift - time) if time is not None else Fraction(1 << 30)

    return min(found, key=distance)


def _ends(pair: Pair, window: Window, first: int, last: int) -> Iterator[Finding]:
    """Nothing that sounds or is read within the excerpt may be left out."""
    source, _ = pair.packets
    for index in range(len(source)):
        time = source.seconds(index)
        if first <= index < last or time is None:
            continue
        end = time + source.durations[index] * source.time_base
        after = window.start is None or end > window.start + SYNC
        before = window.end is None or time < window.end - SYNC
        if after and before and pair.source.kind != "video":
            text = f"{pair.name}: the packet at {float(time):.3f} s is missing in the excerpt"
            yield fault(f"{pair.source.kind} packets", text)
            return


def _in_time(pair: Pair, window: Window, first: int) -> Iterator[Finding]:
    source, output = pair.packets
    check = f"{pair.source.kind} times"
    before = np.frombuffer(source.times, np.int64)[first : first + len(output)]
    after = np.frombuffer(output.times, np.int64)
    timed = (before != UNTIMED) & (after != UNTIMED)
    if not timed.any():
        return
    unit, moves = delays(
        Times(before[timed], source.time_base), Times(after[timed], output.time_base)
    )
    limit = SYNC + output.time_base
    middle = int(np.sort(moves)[len(moves) // 2]) * unit - window.shift
    worst = max(abs(int(move) * unit - window.shift) for move in (moves.min(), moves.max()))
    details = {"shift_ms": _ms(middle), "worst_ms": _ms(worst), "limit_ms": _ms(limit)}
    if abs(middle) > limit:
        text = f"{pair.name}: {_ms(middle):+.2f} ms against the picture"
        yield fault(check, text, **details)
    elif worst > limit + source.time_base + output.time_base:
        text = f"{pair.name}: packets slide by up to {_ms(worst):.2f} ms"
        yield fault(check, text, **details)
    else:
        yield ok(check, f"{pair.name}: in time to {_ms(worst):.2f} ms", **details)
    if pair.source.kind == "subtitle" and pair.source.codec not in _BITMAPS:
        yield from _lengths(pair, first)


def _lengths(pair: Pair, first: int) -> Iterator[Finding]:
    """How long each text stays."""
    source, output = pair.packets
    limit = SYNC + source.time_base + output.time_base
    for k in range(len(output)):
        one = source.durations[first + k] * source.time_base
        other = output.durations[k] * output.time_base
        if one and abs(one - other) > limit:
            text = f"{pair.name}: text {k} stays {float(other):.3f} s, expected {float(one):.3f} s"
            yield fault("subtitle times", text)
            return


def _reencoded(pair: Pair, window: Window) -> Iterator[Finding]:
    text = f"{pair.name}: encoded anew as {pair.output.codec}, so its packets are not compared"
    yield note("audio packets", text)
    if not window.trimmed:
        yield from _spanning(pair, window, _REENCODED)


def _spanning(pair: Pair, window: Window, limit: Fraction) -> Iterator[Finding]:
    """Whether it begins and ends when it should."""
    check = f"{pair.source.kind} times"
    source, output = (log.span for log in pair.packets)
    if source is None or output is None:
        if source is not None:
            yield fault(check, f"{pair.name}: it is empty")
        return
    for end, word in enumerate(("begins", "ends")):
        off = output[end] - source[end] - window.shift
        if abs(off) > limit and not (window.damaged and end):
            yield fault(check, f"{pair.name}: {word} {_ms(off):+.2f} ms off", off_ms=_ms(off))
            return
    yield ok(check, f"{pair.name}: begins and ends in time")


def _converted(pair: Pair, window: Window) -> Finding:
    source, output = pair.source.codec, pair.output.codec
    if source not in cues.TEXT or output not in cues.TEXT:
        return note("subtitles", f"{pair.name}: became {output}, which is not compared")
    wanted = cues.lines_of(pair.packets[0], source)
    if window.start is not None:
        wanted = [line for line in wanted if line.end > window.start]
    if window.end is not None:
        wanted = [line for line in wanted if line.start < window.end]
    given = cues.lines_of(pair.packets[1], output)
    lost = cues.missing(wanted, given, window.shift)
    if lost is not None:
        text = f"{pair.name}: {lost.text[:40]!r} of {float(lost.start):.3f} s is not as long there"
        return fault("subtitles", text)
    if given and not wanted:
        return fault("subtitles", f"{pair.name}: {given[0].text[:40]!r} is not in the source")
    return note("subtitles", f"{pair.name}: became {output}, same words at the same times")


def _ms(seconds: Fraction) -> float:
    return round(float(seconds * 1000), 4)
