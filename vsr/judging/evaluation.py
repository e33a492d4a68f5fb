"""Evaluations: folders of pictures by name, films by time. Models over data sets are in `grid`."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from vsr.errors import SourceError, UsageError
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.folder import is_picture, pictures_in
from vsr.judging.gallery import Entry, Gallery
from vsr.judging.measures import MEASURES, Judge
from vsr.judging.viewing import Alignment, Matching, Pair, View, matched, read_view

_CEILING: Final = 100.0
"""What a frame without error counts in a mean of decibels, as infinity would hide all others."""

type Report = Callable[[str], None]
"""Told what has been measured, once for each pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The figures of one picture or frame.

    Attributes:
        group: Data set and scale, or empty.
        item: Name of the picture, or time of the frame.
        label: Model, or name of the result.
        values: By measure; NaN where it has none.
        seconds: Time of a film's frame, exact; None for pictures.
    """

    group: str
    item: str
    label: str
    values: Mapping[str, float]
    seconds: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured.

    Attributes:
        measures: Names in the order of the table.
        scores: Of every picture or frame.
        notes: What people should know about them, one line each.
    """

    measures: tuple[str, ...]
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()

    @property
    def film(self) -> bool:
        """Whether the items are frames."""
        return any(score.seconds is not None for score in self.scores)

    def groups(self) -> list[str]:
        """Data sets, each once, in order."""
        return list(dict.fromkeys(score.group for score in self.scores))

    def labels(self) -> list[str]:
        """Models or results, each once, in order."""
        return list(dict.fromkeys(score.label for score in self.scores))

    def of(self, group: str, label: str) -> list[Score]:
        """The items of one mean."""
        return [s for s in self.scores if (s.group, s.label) == (group, label)]

    def mean(self, group: str, label: str) -> dict[str, float]:
        """The mean of each measure over the items that have it; see `mean_of`."""
        found = self.of(group, label)
        return {name: mean_of([s.values[name] for s in found]) for name in self.measures}


def mean_of(values: Sequence[float]) -> float:
    """The mean of what is not NaN; NaN if nothing is left.

    Infinite decibels count as 100 among finite ones, and stay infinite among themselves.
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan
    if all(value == math.inf for value in known):
        return math.inf
    return float(np.mean([_CEILING if value == math.inf else value for value in known]))


def label_of(path: Path, others: Sequence[Path]) -> str:
    """The shortest end of a path that no other path shares."""
    parts = path.absolute().parts
    for count in range(1, len(parts) + 1):
        end = parts[-count:]
        if sum(other.absolute().parts[-count:] == end for other in others) <= 1:
            return "/".join(end)
    return str(path)


def evaluate(
    reference: Path,
    results: Sequence[Path],
    judge: Judge,
    *,
    align: Alignment = "time",
    gallery: Gallery | None = None,
    report: Report = lambda _: None,
) -> Evaluation:
    """Compares results with their original: folders by name, pictures, or films by time.

    Args:
        reference: The original.
        results: Of the same kind, at least one.
        judge: What is measured.
        align: How films are matched.
        gallery: Keeps pictures to be shown.
        report: Told each item.

    Raises:
        UsageError: Nothing matches, sizes differ, or kinds are mixed.
        SourceError: Something cannot be read.
    """
    scores: list[Score] = []
    notes: list[str] = []
    for result in results:
        label = label_of(result, results)
        if reference.is_dir() != result.is_dir():
            msg = f"{reference} and {result}: give two folders, two pictures or two films"
            raise UsageError(msg)
        if reference.is_dir() or (is_picture(reference) and is_picture(result)):
            made = _stills(reference, result, label, judge, notes, gallery)
        else:
            made = _film(reference, result, label, judge, notes, gallery, align)
        for score in made:
            report(f"{label}: {score.item}")
            scores.append(score)
    if any("psnr" in name for name in judge.options.measures) and any(
        value == math.inf for score in scores for value in score.values.values()
    ):
        notes.append("pictures without any error count as 100 dB in means")
    return Evaluation(measures=judge.options.measures, scores=tuple(scores), notes=tuple(notes))


def _stills(
    reference: Path,
    result: Path,
    label: str,
    judge: Judge,
    notes: list[str],
    gallery: Gallery | None,
) -> Iterator[Score]:
    pairs = partners(reference, result, notes) if reference.is_dir() else [(reference, result)]
    for place, (original, judged) in enumerate(pairs):
        pair = Pair(read_view(original), read_view(judged), str(judged))
        values = judge.still(pair)
        if gallery is not None:
            gallery.offer("", place, label, Entry(title=original.stem, pair=pair, values=values))
        yield Score(group="", item=original.stem, label=label, values=values)


def partners(reference: Path, result: Path, notes: list[str]) -> list[tuple[Path, Path]]:
    """Finds for every original the result of its name.

    A result may have another suffix, and words after its name, as `baby_x4.png` for `baby.png`.

    Args:
        reference: Folder of originals.
        result: Folder of results.
        notes: Told how many were left over.

    Raises:
        UsageError: No names match, or more than one result has the name of an original.
    """
    originals, made = pictures_in(reference), pictures_in(result)
    names = [path.stem for path in originals]
    found: dict[str, list[Path]] = {name: [] for name in names}
    for path in made:
        # The longest name wins: `img_10_x2` belongs to `img_10`, not to `img_1`.
        fitting = [name for name in names if _belongs(path.stem, name)]
        if fitting:
            found[max(fitting, key=len)].append(path)
    pairs = []
    for original in originals:
        exact = [path for path in found[original.stem] if path.stem == original.stem]
        candidates = exact or found[original.stem]
        if len(candidates) > 1:
            shown = ", ".join(path.name for path in candidates[:3])
            msg = f"{original.name} has more than one partner in {result}: {shown}; keep one"
            raise UsageError(msg)
        pairs += [(original, path) for path in candidates]
    if not pairs:
        msg = (
            f"no picture of {result} has the name of one of {reference}: "
            f"{made[0].name} against {originals[0].name}"
        )
        raise UsageError(msg)
    if len(pairs) < len(originals):
        notes.append(f"{result}: {len(originals) - len(pairs)} of {len(originals)} are missing")
    return pairs


def _belongs(stem: str, name: str) -> bool:
    rest = stem.removeprefix(name)
    return stem.startswith(name) and (not rest or not rest[0].isalnum() or rest[0] in "xX")


def _film(
    reference: Path,
    result: Path,
    label: str,
    judge: Judge,
    notes: list[str],
    gallery: Gallery | None,
    align: Alignment,
) -> Iterator[Score]:
    options = SourceOptions(bake_rotation=True)
    sitting, counts, times = judge.film(), Matching(), []
    with ExitStack() as stack:
        ours = stack.enter_context(open_source(reference, options))
        theirs = stack.enter_context(open_source(result, options))
        for place, (seconds, a, b) in enumerate(matched(ours, theirs, counts, align)):
            pair = Pair(View(a, film=True), View(b, film=True), str(result))
            known = sitting.push(pair)
            times.append(seconds)
            if gallery is not None:
                entry = Entry(title=clock(seconds), pair=pair, values=known, loss=_loss(known))
                gallery.offer("", place, label, entry)
        damaged = [source for source in (ours, theirs) if source.damage]
        notes.extend(f"{source.path}: {source.damage.message}" for source in damaged)
    if note := counts.note(label):
        notes.append(note)
    if len(times) == 0:
        msg = f"{result} has no frame to compare"
        raise SourceError(msg)
    for seconds, values in zip(times, sitting.finish(), strict=True):
        yield Score(group="", item=clock(seconds), label=label, values=values, seconds=seconds)


def _loss(values: Mapping[str, float]) -> float | None:
    """How bad a frame is by the first measure that is known at once."""
    for name, value in values.items():
        if not math.isnan(value):
            return -value if MEASURES[name].higher else value
    return None


def clock(seconds: Fraction) -> str:
    """A time for people, rounded to milliseconds: `1:02.345`.

    >>> clock(Fraction(62345, 1000))
    '1:02.345'
    """
    whole = round(seconds * 1000)
    sign, whole = ("-" if whole < 0 else ""), abs(whole)
    minutes, rest = divmod(whole, 60_000)
    return f"{sign}{minutes}:{rest // 1000:02}.{rest % 1000:03}"
