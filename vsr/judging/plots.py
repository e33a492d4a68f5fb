"""Line plots of scores over time, as inline SVG that needs no script to be seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import Final

from vsr.judging.evaluation import Evaluation, clock
from vsr.judging.measures import MEASURES
from vsr.judging.tables import heading, written

COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito 2008, which colour-blind people can tell apart; reused beyond six."""

_WIDTH: Final = 900
_HEIGHT: Final = 220
_LEFT: Final = 58
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 26
_MOST: Final = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One measure of a film over time.

    Attributes:
        name: Of the measure.
        seconds: Of every point.
        series: Values by label, NaN where there is none.
        step: Frames a point stands for; it shows the worst of them.
        group: Which film, where there are several.
    """

    name: str
    seconds: tuple[float, ...]
    series: dict[str, tuple[float, ...]]
    step: int = 1
    group: str = ""

    @property
    def title(self) -> str:
        """For people."""
        film = f"{self.group}: " if self.group else ""
        text = f"{film}{heading(self.name)}  {MEASURES[self.name].about}"
        return f"{text}; the worst of every {self.step} frames" if self.step > 1 else text


def plots(found: Evaluation) -> list[Plot]:
    """The plots of every film of an evaluation; none for pictures and what was not measured."""
    return [plot for group in found.groups() for plot in _of_film(found, group)]


def _of_film(found: Evaluation, group: str) -> list[Plot]:
    scores = [score for score in found.scores if score.group == group]
    times = sorted({score.seconds for score in scores if score.seconds is not None})
    step = max(1, math.ceil(len(times) / _MOST))
    made = []
    for name in found.measures:
        series = {}
        for label in found.labels():
            values = {score.seconds: score.values[name] for score in found.of(group, label)}
            whole = [values.get(time, math.nan) for time in times]
            series[label] = tuple(
                _worst(whole[start : start + step], higher=MEASURES[name].higher)
                for start in range(0, len(whole), step)
            )
        if any(math.isfinite(value) for values in series.values() for value in values):
            seconds = tuple(float(time) for time in times[::step])
            plot = Plot(name=name, seconds=seconds, series=series, step=step, group=group)
            made.append(plot)
    return made


def _worst(values: Sequence[float], *, higher: bool) -> float:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan
    return min(known) if higher else max(known)


def svg(plot: Plot, number: int) -> str:
    """Draws a plot; infinite values lie at the upper edge."""
    low, high = _range(plot)
    begin, end = plot.seconds[0], plot.seconds[-1]

    def x(second: float) -> float:
        part = (second - begin) / (end - begin) if end > begin else 0.5
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        part = (min(value, high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    label = escape(plot.title, quote=True)
    head = f'<svg class="plot" data-plot="{number}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    parts = [head + f'aria-label="{label}">']
    parts += [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" '
        f'y2="{y(tick):.1f}"/><text class="tick" text-anchor="end" x="{_LEFT - 6}" '
        f'y="{y(tick) + 4:.1f}">{_short(tick)}</text>'
        for tick in ticks(low, high)
    ]
    parts += [
        f'<text class="tick" text-anchor="middle" x="{x(tick):.1f}" y="{_HEIGHT - 6}">'
        f"{_short(tick)} s</text>"
        for tick in ticks(begin, end)
    ]
    for place, values in enumerate(plot.series.values()):
        color = COLORS[place % len(COLORS)]
        points = [
            f"{x(s):.1f},{y(v):.1f}" if not math.isnan(v) else ""
            for s, v in zip(plot.seconds, values, strict=True)
        ]
        for run in _runs(points):
            if len(run) == 1:
                cx, cy = run[0].split(",")
                parts.append(f'<circle cx="{cx}" cy="{cy}" r="2.5" fill="{color}"/>')
            else:
                parts.append(f'<polyline points="{" ".join(run)}" stroke="{color}"/>')
    return "".join([*parts, '<line class="cursor" y1="12" y2="194" x1="-9" x2="-9"/></svg>'])


def told(plot: Plot) -> dict[str, object]:
    """What the page's script needs to read a plot aloud under the pointer."""
    return {
        "left": _LEFT / _WIDTH,
        "right": (_WIDTH - _RIGHT) / _WIDTH,
        "width": _WIDTH,
        "seconds": plot.seconds,
        "times": [_clock(second) for second in plot.seconds],
        "series": {
            label: [written(plot.name, value) for value in values]
            for label, values in plot.series.items()
        },
    }


def _clock(second: float) -> str:
    return clock(Fraction(second).limit_denominator(1000))


def _runs(points: Sequence[str]) -> list[list[str]]:
    """Splits a line where there is no value."""
    runs: list[list[str]] = [[]]
    for point in points:
        if point:
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _range(plot: Plot) -> tuple[float, float]:
    known = [v for values in plot.series.values() for v in values if math.isfinite(v)]
    low, high = min(known), max(known)
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as wanted.

    >>> ticks(0.0, 10.0)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(count * step, 10) for count in range(first, last + 1)]


def _short(value: float) -> str:
    return f"{value:.6g}"
