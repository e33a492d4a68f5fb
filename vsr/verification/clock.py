"""Compares the times of frames, exactly: integers in a unit that divides both ticks."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from vsr.io.inspection import UNTIMED, PacketLog
from vsr.verification.expected import Expected
from vsr.verification.report import Finding, fault, note, ok

_STAYS: Final = Fraction(0)
_SHOWN: Final = 4
"""Most wrong frames that are named."""
_REWIND: Final = 1
"""Seconds: a step back of at least this is another clock, which a film can only continue."""
_MOVED_TICKS: Final = 2
"""Ticks of the coarser clock that a frame with the time of another may have to move."""


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Times of frames in presentation order.

    Attributes:
        ticks: Shape (n,), int64.
        tick: Seconds.
    """

    ticks: NDArray[np.int64]
    tick: Fraction

    def __len__(self) -> int:
        return len(self.ticks)

    def seconds(self, index: int) -> Fraction:
        """Time of one frame."""
        return int(self.ticks[index]) * self.tick

    @classmethod
    def of_packets(cls, log: PacketLog) -> Self | None:
        """Of a stream whose packets all have times, in order of time; else None."""
        ticks = np.sort(np.array(log.times, np.int64))
        return None if len(ticks) and ticks[0] == UNTIMED else cls(ticks, log.time_base)

    @classmethod
    def of_frames(cls, seconds: Sequence[Fraction | None], tick: Fraction) -> Self | None:
        """Of decoded frames in their order; None if one has no time."""
        if any(time is None for time in seconds):
            return None
        ticks = [int(time / tick) for time in seconds if time is not None]
        return cls(np.array(ticks, np.int64), tick)

    def within(self, expected: Expected) -> Self:
        """The part that an excerpt keeps, counted from the first frame."""
        if not len(self) or not expected.trimmed:
            return self
        past = self.ticks - self.ticks[0]
        first = -((-(expected.start or Fraction(0))) // self.tick)
        kept = past >= first
        if expected.end is not None:
            kept &= past < -((-expected.end) // self.tick)
        return type(self)(self.ticks[kept], self.tick)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What comparing gave.

    Attributes:
        findings: For the report.
        shift: Seconds by which all frames move; 0 where they do not.
    """

    findings: tuple[Finding, ...]
    shift: Fraction = Fraction(0)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.level != "fault" for finding in self.findings)


def compare_times(source: Times, output: Times, *, movable: Fraction = _STAYS) -> Timing:
    """Compares the time of every frame.

    Each must be the source's, or the nearest that the output's tick can say. Where frames of the
    source have equal times the later ones may move by a tick or two.

    Args:
        source: In the order in which frames are presented.
        output: Likewise.
        movable: Seconds by which all streams may become later at most, as they must if one
            begins below zero.
    """
    if len(source) != len(output):
        return Timing(findings=(_miscounted(source, output),))
    if not len(source):
        return Timing(findings=(fault("frames", "there is no frame"),))
    count = ok("frames", f"{len(output)} frames", source=len(source), output=len(output))
    expected, moved = _continued(source)
    unit, left, right = _common(expected, output)
    tick = round(output.tick / unit)
    difference = right - left
    shift = 0
    middle = int(np.median(difference))
    if 2 * abs(middle) > tick:
        shift = middle
    error = np.abs(difference - shift)
    # what the output's tick can say must be said exactly; after a shift both ends are rounded
    exact = (left % tick == 0) if not shift else np.zeros(len(left), bool)
    coarse = max(tick, round(source.tick / unit))
    limit = np.where(exact, 0, tick if shift else tick / 2)
    limit = np.where(moved, _MOVED_TICKS * coarse, limit)
    wrong = np.flatnonzero(error > limit)
    found = [count, _times_finding(wrong, (expected, output), error, unit)]
    if shift:
        found.append(_shift_finding(shift * unit, movable=movable))
    found.append(_order(output, expected))
    return Timing(findings=tuple(found), shift=shift * unit)


def _times_finding(
    wrong: NDArray[np.intp], both: tuple[Times, Times], error: NDArray[np.int64], unit: Fraction
) -> Finding:
    source, output = both
    worst = _ms(int(error.max()) * unit)
    if not len(wrong):
        return ok("times", f"every time is the source's, to {worst:.3g} ms", worst_ms=worst)
    first = int(wrong[0])
    text = (
        f"{len(wrong)} of {len(output)} frames have another time: frame {first} is at "
        f"{float(output.seconds(first)):.4f} s, expected {float(source.seconds(first)):.4f} s"
    )
    frames = [int(index) for index in wrong[:_SHOWN]]
    return fault("times", text, worst_ms=worst, wrong=len(wrong), first=frames)


def _shift_finding(shift: Fraction, *, movable: Fraction) -> Finding:
    said = f"all frames are {_ms(shift):.3f} ms later than in the source"
    if 0 < shift <= movable:
        return note("shift", f"{said}, which begins below zero", shift_ms=_ms(shift))
    return fault("shift", said, shift_ms=_ms(shift))


def _order(output: Times, source: Times) -> Finding:
    """Times must rise; they may be equal only where the tick is too coarse to tell them apart."""
    steps = np.diff(output.ticks)
    close = np.diff(source.ticks) * source.tick <= output.tick
    bad = np.flatnonzero((steps < 0) | ((steps == 0) & ~close.astype(bool)))
    if len(bad):
        where = float(output.seconds(int(bad[0])))
        return fault("order", f"times do not rise after {where:.3f} s", count=len(bad))
    return ok("order", "times rise")


def _continued(times: Times) -> tuple[Times, NDArray[np.bool_]]:
    """Times that rise, made of times that may not, and which frames had to move for it."""
    steps = np.diff(times.ticks)
    moved = np.zeros(len(times), bool)
    if not len(steps) or steps.min() > 0:
        return times, moved
    usual = max(1, int(np.median(steps[steps > 0]))) if (steps > 0).any() else 1
    ticks, shift = times.ticks.copy(), 0
    for index in range(1, len(ticks)):
        ticks[index] += shift
        if ticks[index] <= ticks[index - 1]:
            moved[index:] |= (ticks[index - 1] - ticks[index]) * times.tick >= _REWIND
            if moved[index] and (ticks[index - 1] - ticks[index]) * times.tick >= _REWIND:
                shift += int(ticks[index - 1]) + usual - int(ticks[index])
                ticks[index] = ticks[index - 1] + usual
            else:
                moved[index] = True
                ticks[index] = ticks[index - 1] + 1
    return Times(ticks, times.tick), moved


def _common(one: Times, other: Times) -> tuple[Fraction, NDArray[np.int64], NDArray[np.int64]]:
    """Both in a unit that divides both ticks."""
    a, b = one.tick, other.tick
    unit = Fraction(
        gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator
    )
    factors = [round(times.tick / unit) for times in (one, other)]
    scaled = [
        times.ticks * factor
        if _fits(times, factor)
        else np.array([int(tick) * factor for tick in times.ticks], object)
        for times, factor in zip((one, other), factors, strict=True)
    ]
    return unit, scaled[0], scaled[1]


def _fits(times: Times, factor: int) -> bool:
    return int(np.abs(times.ticks).max(initial=0)) * factor < 1 << 62


def _miscounted(source: Times, output: Times) -> Finding:
    """Names the first frames that are missing or too many."""
    tolerance = max(source.tick, output.tick)
    wanted = [source.seconds(index) for index in range(len(source))]
    given = [output.seconds(index) for index in range(len(output))]
    missing = _absent(wanted, given, tolerance)
    extra = _absent(given, wanted, tolerance)
    text = f"{len(output)} frames, expected {len(source)}"
    if missing:
        text += f": missing at {_seconds(missing)}"
    if extra:
        text += f"{',' if missing else ':'} too many at {_seconds(extra)}"
    if missing and wanted[-1] == missing[-1] and given and len(missing) == len(source) - len(given):
        text += "; the end is missing (for an excerpt give --start and --end)"
    return fault("frames", text, source=len(source), output=len(output))


def _absent(
    times: Sequence[Fraction], among: Sequence[Fraction], tolerance: Fraction
) -> list[Fraction]:
    """Times that have no partner of their own; both lists rise."""
    absent, at = [], 0
    for time in times:
        while at < len(among) and among[at] < time - tolerance:
            at += 1
        if at < len(among) and among[at] <= time + tolerance:
            at += 1
        else:
            absent.append(time)
    return absent


def _seconds(times: Sequence[Fraction]) -> str:
    shown = ", ".join(f"{float(time):.3f}" for time in times[:_SHOWN])
    return f"{shown}{', ...' if len(times) > _SHOWN else ''} s"


def _ms(seconds: Fraction) -> float:
    return round(float(seconds * 1000), 4)


def compare_damaged(source: Times, output: Times, decoded: int, lost: int) -> Timing:
    """Compares with a damaged source, of which some frames cannot be had.

    Args:
        source: Of all its packets.
        output: Every frame must have the time of a packet.
        decoded: Frames that a plain decoder gives.
        lost: Packets it stumbles over.
    """
    tolerance = max(source.tick, output.tick)
    given = [output.seconds(index) for index in range(len(output))]
    wanted = [source.seconds(index) for index in range(len(source))]
    strange = _absent(given, wanted, tolerance)
    if strange:
        text = f"{len(strange)} frames have times that the source has not: at {_seconds(strange)}"
        return Timing(findings=(fault("times", text, wrong=len(strange)),))
    if len(output) < decoded - lost:
        text = f"{len(output)} frames, but the damaged source gives {decoded}"
        return Timing(findings=(fault("frames", text, source=decoded, output=len(output)),))
    text = f"{len(output)} frames of a damaged source with {len(source)} packets, times as there"
    return Timing(findings=(note("frames", text, source=len(source), output=len(output)),))


def compare_untimed(
    output: Times, count: int, rate: Fraction | None, *, still: bool = False
) -> Timing:
    """Judges times that had to be made: from a source without any.

    Args:
        output: The times.
        count: Frames of the source.
        rate: Its frames per second, where known.
        still: Whether the source is one picture.
    """
    if len(output) != count:
        text = f"{len(output)} frames, expected {count}"
        return Timing(findings=(fault("frames", text, source=count, output=len(output)),))
    found = [ok("frames", f"{count} frames", source=count, output=len(output))]
    steps = np.diff(output.ticks)
    spread = int(steps.max() - steps.min()) if len(steps) else 0
    step = Fraction(int(output.ticks[-1] - output.ticks[0]), max(1, len(steps))) * output.tick
    off = rate is not None and len(steps) and abs(step - 1 / rate) * len(steps) > output.tick
    if still or not (spread > 1 or off):
        found.append(ok("times", "the source has no times; those made are even"))
    else:
        text = f"the source has no times, and those made are uneven: steps of {_ms(step):.3f} ms"
        found.append(fault("times", text, spread_ticks=spread))
    return Timing(findings=tuple(found))


def delays(source: Times, output: Times) -> tuple[Fraction, NDArray[np.int64]]:
    """How much later each of two equally many times is: a unit in seconds, and numbers of it."""
    unit, left, right = _common(source, output)
    return unit, right - left
