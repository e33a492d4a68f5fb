"""Figures as a picture: bars in groups and grids of words, one below the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

_WIDTH, _EDGE, _LINE, _GAP = 900, 14, 24, 10
_ROOM_FOR_VALUE = 96
_INK, _FAINT, _PAPER = "#1c2733", "#6b7785", "#ffffff"
_COLOURS = ("#3f7cac", "#e08e45", "#5b9a68", "#9a6fb0", "#b35c5c", "#8a8f98", "#c9a227", "#4fa3a5")
_GOOD, _BAD, _WORST = "#d5ead9", "#f6dcc6", "#e7b4b4"
_SHADES = 64
_OTHERWISE = str.maketrans(
    {"×": "x", "→": "-", "–": "-", "−": "-", "≤": "up to ", "≥": "at least ", "≈": "about "}
)
"""What the font of Pillow lacks, in what it has."""
_FIGURES = "figures"
"""The text chunk of a PNG that says what it was drawn of."""


class Part(Protocol):
    """A piece of a picture."""

    @property
    def height(self) -> int:
        """In pixels."""

    def draw(self, pen: ImageDraw.ImageDraw, top: int) -> None:
        """Draws it from a row on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A bar for every figure; equal labels have one colour.

    Attributes:
        title: What is shown, and whether more is better.
        unit: Written behind every figure.
        groups: By heading, which may be empty, the figures by label.
        digits: Decimals.
    """

    title: str
    unit: str
    groups: Mapping[str, Mapping[str, float]]
    digits: int = 1

    @property
    def height(self) -> int:
        lines = sum(len(group) for group in self.groups.values())
        headings = sum(1 for heading in self.groups if heading)
        return _LINE * (1 + headings + lines) + _GAP * (1 + len(self.groups))

    def draw(self, pen: ImageDraw.ImageDraw, top: int) -> None:
        _write(pen, (_EDGE, top), self.title, _INK, _font(16))
        top += _LINE + _GAP
        labels = list(dict.fromkeys(label for group in self.groups.values() for label in group))
        values = [value for group in self.groups.values() for value in group.values()]
        left = 2 * _EDGE + max(_wide(label) for label in labels) + _GAP
        least, most = min(0.0, *values), max(0.0, *values)
        pixels = (_WIDTH - _EDGE - _ROOM_FOR_VALUE - left) / ((most - least) or 1)
        zero = left - least * pixels
        one_each = len(labels) == len(values) or len(labels) > len(_COLOURS)
        for heading, group in self.groups.items():
            if heading:
                _write(pen, (_EDGE, top), heading, _FAINT, _font())
                top += _LINE
            for label, value in group.items():
                colour = _COLOURS[0 if one_each else labels.index(label)]
                end = zero + value * pixels
                box = (min(zero, end), top + 1, max(zero, end) + 1, top + _LINE - 5)
                _write(pen, (2 * _EDGE, top), label, _INK, _font())
                pen.rectangle(box, colour)
                told = f"{value:.{self.digits}f} {self.unit}".strip()
                _write(pen, (box[2] + 7, top), told, _INK, _font())
                top += _LINE
            top += _GAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Short words in a table whose cells are coloured by how good they are.

    Attributes:
        title: What is shown.
        head: A word for each column.
        rows: By label, a word and a grade for each column: 0 good, 1 bad, 2 worst, None nothing.
    """

    title: str
    head: Sequence[str]
    rows: Mapping[str, Sequence[tuple[str, int | None]]]

    @property
    def height(self) -> int:
        return _LINE * (3 + len(self.rows)) + 2 * _GAP

    def draw(self, pen: ImageDraw.ImageDraw, top: int) -> None:
        _write(pen, (_EDGE, top), self.title, _INK, _font(16))
        top += _LINE + _GAP
        left = 2 * _EDGE + max(map(_wide, self.rows)) + _GAP
        wide = (_WIDTH - _EDGE - left) / len(self.head)
        for number, words in enumerate(self.head):
            for line, word in enumerate(_two_lines(words, wide - 8)):
                place = left + number * wide + 4, top + line * (_LINE - 6)
                _write(pen, place, _cut(word, wide - 8), _FAINT, _font())
        top += _LINE - 4
        for label, cells in self.rows.items():
            top += _LINE
            _write(pen, (2 * _EDGE, top), label, _INK, _font())
            for number, (word, grade) in enumerate(cells):
                x = left + number * wide
                paint = _PAPER if grade is None else (_GOOD, _BAD, _WORST)[grade]
                pen.rectangle((x, top - 2, x + wide - 3, top + _LINE - 5), paint)
                _write(pen, (x + 4, top), _cut(word, wide - 8), _INK, _font())


def paint(path: Path, parts: Sequence[Part], about: str) -> None:
    """Draws parts below each other as a PNG of few colours.

    Args:
        path: Of the PNG.
        parts: From top to bottom.
        about: A line at the foot: what it was measured on.
    """
    height = _EDGE + sum(part.height + _GAP for part in parts) + _LINE
    picture = Image.new("RGB", (_WIDTH, height), _PAPER)
    pen, top = ImageDraw.Draw(picture), _EDGE
    for part in parts:
        part.draw(pen, top)
        top += part.height + _GAP
    _write(pen, (_EDGE, top - 4), _cut(about, _WIDTH - 2 * _EDGE), _FAINT, _font(13))
    text = PngInfo()
    text.add_itxt(_FIGURES, told(parts, about))
    picture.quantize(_SHADES).save(path, optimize=True, pnginfo=text)


def told(parts: Sequence[Part], about: str) -> str:
    """All that a picture shows, in words."""
    return repr((list(parts), about))


def shown(path: Path) -> str | None:
    """What a picture was drawn of, as `told` has it; None if it does not say."""
    with Image.open(path) as picture:
        return picture.info.get(_FIGURES)


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    ink: str,
    font: ImageFont.FreeTypeFont,
) -> None:
    pen.text(place, text.translate(_OTHERWISE), ink, font)


def _font(size: int = 15) -> ImageFont.FreeTypeFont:
    found = ImageFont.load_default(size)
    if not isinstance(found, ImageFont.FreeTypeFont):
        msg = "Pillow is built without FreeType: install its wheel"
        raise TypeError(msg)
    return found


def _wide(text: str) -> int:
    return int(_font().getlength(text.translate(_OTHERWISE))) + 1


def _two_lines(text: str, room: float) -> tuple[str, str]:
    """A text broken where its first line is full."""
    words = text.split()
    count = len(words)
    while count > 1 and _wide(" ".join(words[:count])) > room:
        count -= 1
    return " ".join(words[:count]), " ".join(words[count:])


def _cut(text: str, room: float) -> str:
    """As much of a text as there is room for."""
    if _wide(text) <= room:
        return text
    while text and _wide(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…"
