"""Keeps a few pictures of an evaluation to be looked at: some evenly spaced, and the worst."""

from dataclasses import dataclass, field
from typing import Final

from vsr.judging.viewing import Pair, Rgb

ORIGINAL: Final = "original"
"""The label of the pictures that results are compared with."""


@dataclass(slots=True)
class Exhibit:
    """One picture or moment, as everybody shows it.

    Attributes:
        title: For people: a name, or a time.
        pictures: By label, the original under `ORIGINAL`; all of one size.
        values: Scores that were known at once, by label.
    """

    title: str
    pictures: dict[str, Rgb] = field(default_factory=dict)
    values: dict[str, dict[str, float]] = field(default_factory=dict)


class Gallery:
    """Collects exhibits while frames pass by; memory does not grow with the film.

    At most `most` of the places that are multiples of a stride are kept; when there are more, the
    stride doubles. Every result of one film is offered the same places, so all keep the same ones.

    Args:
        most: Exhibits of a film.
    """

    def __init__(self, most: int = 6) -> None:
        self._most = max(1, most)
        self._strides: dict[str, int] = {}
        self._kept: dict[tuple[str, int], Exhibit] = {}
        self._worst: dict[tuple[str, str], tuple[float, Exhibit]] = {}

    def offer(self, group: str, place: int, label: str, entry: "Entry") -> None:
        """Shows a pair.

        Args:
            group: What the place counts in: one film, or one set of pictures.
            place: Number of the pair in the group, from 0.
            label: Of the result.
            entry: The pair and what is known of it.
        """
        stride = self._strides.setdefault(group, 1)
        if place % stride == 0:
            exhibit = self._kept.setdefault((group, place), Exhibit(entry.title))
            _hang(exhibit, label, entry)
            self._thin(group)
        worst = self._worst.get((group, label))
        if entry.loss is not None and (worst is None or entry.loss > worst[0]):
            exhibit = Exhibit(f"{entry.title} (worst of {label})")
            _hang(exhibit, label, entry)
            self._worst[group, label] = (entry.loss, exhibit)

    def _thin(self, group: str) -> None:
        kept = [key for key in self._kept if key[0] == group]
        if len(kept) > self._most:
            self._strides[group] *= 2
            for key in kept:
                if key[1] % self._strides[group]:
                    del self._kept[key]

    def exhibits(self) -> list[Exhibit]:
        """What was kept, in order; the worst ones last."""
        return [*self._kept.values(), *(exhibit for _, exhibit in self._worst.values())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a gallery may keep of a pair.

    Attributes:
        title: For people.
        pair: Asked for its pictures only if they are kept.
        values: Scores that are known.
        loss: The greater, the worse; None where the worst is not looked for.
    """

    title: str
    pair: Pair
    values: dict[str, float]
    loss: float | None = None


def _hang(exhibit: Exhibit, label: str, entry: Entry) -> None:
    original, result = entry.pair.rgb
    exhibit.pictures.setdefault(ORIGINAL, original)
    exhibit.pictures[label] = result
    exhibit.values[label] = entry.values
