"""Comparisons drawn: as one picture with enlarged crops, and as a page with a slider."""

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from vsr.judging.compare import Box, Moment, fitted
from vsr.judging.lettering import lettered, shortened
from vsr.judging.page import document, exhibit_data, slider
from vsr.judging.stills import data_url
from vsr.judging.viewing import Rgb

COLUMN: Final = 480
"""Pixels of width that each input gets."""
_GAP: Final = 12
_LINE: Final = 24
_PAPER: Final = (24, 26, 30)
_INK: Final = (236, 238, 240)
_MARKS: Final = ((255, 200, 0), (0, 190, 255), (255, 90, 160), (120, 230, 90))
"""Frames of the crops, in the picture and around the enlargement."""


def sheet(moments: Sequence[Moment]) -> Rgb:
    """Draws moments one below the other, the inputs side by side, crops below each.

    Returns:
        uint8 of shape (H, W, 3).
    """
    blocks = [_block(moment) for moment in moments]
    width = max(block.shape[1] for block in blocks)
    padded = [
        np.concatenate([block, _paper(block.shape[0], width - block.shape[1])], axis=1)
        for block in blocks
    ]
    return np.concatenate(padded, axis=0)


def _block(moment: Moment) -> Rgb:
    columns = []
    for label, picture in moment.pictures.items():
        text = f"{label} {moment.title}".strip()
        parts = [_text(shortened(text, COLUMN)), _overview(picture, moment.boxes)]
        for place, box in enumerate(moment.boxes):
            parts += [_paper(_GAP, COLUMN), _crop(picture, box, _mark(place))]
        columns.append(np.concatenate(parts, axis=0))
    gap = _paper(columns[0].shape[0], _GAP)
    row = [piece for column in columns for piece in (gap, column)]
    block = np.concatenate([*row, gap], axis=1)
    edge = _paper(_GAP, block.shape[1])
    return np.concatenate([edge, block, edge], axis=0)


def _mark(place: int) -> tuple[int, int, int]:
    return _MARKS[place % len(_MARKS)]


def _paper(height: int, width: int) -> Rgb:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _text(text: str) -> Rgb:
    line = _paper(_LINE, COLUMN)
    ink = lettered(text)[:, :COLUMN]
    line[2 : 2 + ink.shape[0], : ink.shape[1]][ink] = _INK
    return line


def _overview(picture: Rgb, boxes: Sequence[Box]) -> Rgb:
    """The whole picture as wide as its column, with the crops' frames in it."""
    height, width = picture.shape[:2]
    shrink = COLUMN / width
    made = fitted(picture, COLUMN, max(1, round(height * shrink)), "bicubic").copy()
    for place, box in enumerate(boxes):
        left, top = round(box.x * shrink), round(box.y * shrink)
        right, bottom = round((box.x + box.width) * shrink), round((box.y + box.height) * shrink)
        _frame(made[top:bottom, left:right], _mark(place), 2)
    return made


def _crop(picture: Rgb, box: Box, color: tuple[int, int, int]) -> Rgb:
    """The crop with whole pixels enlarged as far as the column allows."""
    part = box.of(picture)
    factor = COLUMN // box.width
    if factor == 0:
        made = fitted(
            part, COLUMN, max(1, round(box.height * COLUMN / box.width)), "bicubic"
        ).copy()
    else:
        made = part.repeat(factor, 0).repeat(factor, 1)
    line = np.concatenate([made, _paper(made.shape[0], COLUMN - made.shape[1])], axis=1)
    _frame(line[:, : made.shape[1]], color, 3)
    return line


def _frame(part: Rgb, color: tuple[int, int, int], thick: int) -> None:
    part[:thick], part[-thick:] = color, color
    part[:, :thick], part[:, -thick:] = color, color


def comparison_page(moments: Sequence[Moment], title: str) -> str:
    """Writes a page: a slider over the whole pictures, and the crops side by side.

    Returns:
        HTML of one self-contained file.
    """
    exhibits = [
        exhibit_data(moment.title or "whole picture", moment.pictures, {}) for moment in moments
    ]
    body = [f"<h1>{escape(title)}</h1>", slider()]
    for moment in moments:
        for box in moment.boxes:
            where = f"{box.width}×{box.height} pixels at {box.x}, {box.y}"
            heading = f"{moment.title}: {where}" if moment.title else where
            figures = "".join(
                f'<figure><figcaption>{escape(label)}</figcaption><img alt="{escape(label)}" '
                f'src="{data_url(box.of(picture))}"></figure>'
                for label, picture in moment.pictures.items()
            )
            body.append(f'<h2>{escape(heading)}</h2>\n<div class="row">{figures}</div>')
    return document(title, "\n".join(body), {"exhibits": exhibits, "plots": []})
