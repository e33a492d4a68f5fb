"""Gives every decoded frame an exact, strictly rising time in ticks of its stream."""

import logging
from dataclasses import dataclass
from fractions import Fraction

_log = logging.getLogger(__name__)

_REWIND = 1
"""Seconds: a step back of at least this is another clock, a smaller one a disordered stamp."""


@dataclass(slots=True)
class Timeline:
    """Hands out times; stamps of the container pass unchanged wherever they rise.

    A missing stamp continues the last frame by its duration. Where no frame at all has one (raw
    H.264), frame n lies at `n · step`, rounded once, so errors never add up. An equal or slightly
    earlier stamp moves to one tick after the last frame. Where the clock jumps back by a second or
    more, everything after continues from the last frame. Each kind is reported once.

    Attributes:
        time_base: Seconds per tick.
        step: Duration of a frame in ticks at the nominal rate.
    """

    time_base: Fraction
    step: Fraction
    _last: int | None = None
    _end: Fraction = Fraction(0)
    _shift: int = 0
    _synthesised: int = 0
    _moved: bool = False

    def place(self, pts: int | None, duration: int) -> int:
        """The time of the next frame.

        Args:
            pts: The container's stamp, None if it has none.
            duration: In ticks, 0 if unknown.
        """
        if pts is None:
            placed = round(self._end)
            self._synthesised += 1
        else:
            placed = pts + self._shift
        if self._last is not None and placed <= self._last:
            placed = self._repaired(placed)
        self._last = placed
        exact = self._end if pts is None else Fraction(placed)
        self._end = exact + (duration if pts is not None and duration else self.step)
        return placed

    def _repaired(self, placed: int) -> int:
        last = 0 if self._last is None else self._last
        back = (last - placed) * self.time_base
        if back >= _REWIND:
            target = max(round(self._end), last + 1)
            self._shift += target - placed
            _log.warning(
                "the clock of the video jumps back by %.3f s at %.3f s; it is continued",
                float(back),
                float(last * self.time_base),
            )
            return target
        if not self._moved:
            self._moved = True
            _log.warning(
                "frames with equal or disordered times at %.3f s; the later ones move by a tick",
                float(last * self.time_base),
            )
        return last + 1
