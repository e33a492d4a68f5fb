"""One HTML file that shows an evaluation: table, slider between pictures, plots over time.

Everything is in the file (pictures as PNG, lossless), so it opens without a network and can be sent
on. Plots and tables are there without scripts; the slider and the figures under the pointer need
the script in it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from vsr.judging.evaluation import Evaluation
from vsr.judging.gallery import Exhibit
from vsr.judging.measures import MEASURES
from vsr.judging.plots import COLORS, Plot, plots, svg, told
from vsr.judging.stills import data_url
from vsr.judging.tables import each, heading, summary, worst, written
from vsr.judging.viewing import Rgb

_MOST_PIXELS: Final = 1280 * 960
"""Of one picture in the page; of larger ones the middle is shown."""
_MOST_ROWS: Final = 1000


def page(found: Evaluation, exhibits: Sequence[Exhibit], title: str, maker: str = "vsr") -> str:
    """Writes the page.

    Args:
        found: What was measured.
        exhibits: Pictures for the slider, perhaps none.
        title: For people.
        maker: Who says so, with a version.

    Returns:
        HTML.
    """
    drawn = plots(found)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(maker)} · {_legend(found)}</p>',
        *(f'<p class="soft">{escape(note)}</p>' for note in found.notes),
        _summary(found),
        slider() if exhibits else "",
        "<h2>Over time</h2>" if drawn else "",
        *(_figure(plot, number) for number, plot in enumerate(drawn)),
        _each(found),
    ]
    data = {
        "exhibits": [exhibit_data(e.title, e.pictures, e.values) for e in exhibits],
        "plots": [told(plot) for plot in drawn],
    }
    return document(title, "\n".join(filter(None, body)), data)


def document(title: str, body: str, data: object) -> str:
    """A whole HTML file with style and script in it; `data` is what the script reads."""
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text("utf-8")
    script = (folder / "page.js").read_text("utf-8")
    # `<` in names must not end the element that the data stand in.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="told">{text}</script>\n'
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _legend(found: Evaluation) -> str:
    return escape(" · ".join(f"{heading(n)} {MEASURES[n].about}" for n in found.measures))


def _summary(found: Evaluation) -> str:
    head, rows = summary(found)
    words = len(head) - len(found.measures) - 1
    lines = [_row(head, words, "th")]
    last = ""
    for row in rows:
        group = row[0] if words == 2 else ""
        rivals = [r for r in rows if words == 1 or r[0] == group]
        best = [
            _best(name, [r[words + 1 + i] for r in rivals]) for i, name in enumerate(found.measures)
        ]
        marks = [
            figure == top and len(rivals) > 1
            for figure, top in zip(row[words + 1 :], best, strict=True)
        ]
        lines.append(_row(row, words, "td", [False] * (words + 1) + marks, first=group != last))
        last = group
    return f'<h2>Means</h2>\n<div class="scroll"><table>{"".join(lines)}</table></div>'


def _best(name: str, figures: Sequence[str]) -> str:
    known = [figure for figure in figures if figure != "–"]
    choose = max if MEASURES[name].higher else min
    return choose(known, key=float) if known else ""


def _row(
    cells: Sequence[str],
    words: int,
    tag: str,
    best: Sequence[bool] = (),
    *,
    first: bool = False,
) -> str:
    made = []
    for place, cell in enumerate(cells):
        kind = "word" if place < words else "best" if best and best[place] else ""
        made.append(f"<{tag}{f' class="{kind}"' if kind else ''}>{escape(cell)}</{tag}>")
    return f"<tr{' class="first"' if first else ''}>{''.join(made)}</tr>"


def _each(found: Evaluation) -> str:
    if len(found.scores) > _MOST_ROWS:
        return _worst(found)
    head, rows = each(found)
    words = len(head) - len(found.measures)
    lines = [_row(head, words, "th"), *(_row(row, words, "td") for row in rows)]
    what = "frames" if found.film else "pictures"
    return (
        f"<details><summary>All {len(rows)} {what}</summary>"
        f'<div class="scroll"><table>{"".join(lines)}</table></div></details>'
    )


def _worst(found: Evaluation) -> str:
    lines = [_row(["what", *map(heading, found.measures)], 1, "th")]
    for group in found.groups():
        for label in found.labels():
            items = found.of(group, label)
            figures = [written(name, worst(name, items)) for name in found.measures]
            lines.append(_row([f"{group} {label}".strip(), *figures], 1, "td"))
    return f'<h2>Worst</h2>\n<div class="scroll"><table>{"".join(lines)}</table></div>'


def slider() -> str:
    """The slider's controls and stage; the script fills them."""

    def select(part: str, label: str, options: str = "") -> str:
        return f'<label>{label} <select data-part="{part}">{options}</select></label>'

    zooms = "".join(f'<option value="{v}">{t}</option>' for v, t in _ZOOMS)
    return (
        '<h2>Pictures</h2>\n<div id="slider"><div class="controls">'
        f"{select('item', 'picture')}{select('left', 'left')}{select('right', 'right')}"
        f"{select('zoom', 'size', zooms)}</div>"
        '<div class="stage"><div class="sheet" data-part="sheet">'
        '<img class="under" data-part="under" alt="left picture" draggable="false">'
        '<img class="over" data-part="over" alt="right picture" draggable="false">'
        '<div class="bar" data-part="bar"></div></div></div>'
        '<input type="range" data-part="range" min="0" max="100" step="0.1" value="50" '
        'aria-label="position of the slider">'
        '<div class="names"><span data-part="left-name"></span><span data-part="right-name">'
        "</span></div></div>"
    )


_ZOOMS: Final = (("fit", "fits the window"), ("1", "1:1"), ("2", "2:1"), ("4", "4:1"))


def _figure(plot: Plot, number: int) -> str:
    names = "".join(
        f'<span><i style="background:{COLORS[place % len(COLORS)]}"></i>{escape(label)} '
        f'<b data-label="{escape(label, quote=True)}"></b></span>'
        for place, label in enumerate(plot.series)
    )
    return (
        f"<figure><figcaption>{escape(plot.title)}</figcaption>{svg(plot, number)}"
        f'<div class="legend">{names}<span class="soft" data-part="time"></span></div></figure>'
    )


def exhibit_data(
    title: str, pictures: Mapping[str, Rgb], values: Mapping[str, Mapping[str, float]]
) -> dict[str, object]:
    """What the slider's script needs of one picture or moment; the last label is shown first."""
    shown = {label: middle(picture) for label, picture in pictures.items()}
    height, width = next(iter(shown.values())).shape[:2]
    return {
        "title": title,
        "size": [width, height],
        "pictures": {label: data_url(picture) for label, picture in shown.items()},
        "values": {
            label: {
                heading(name): written(name, value)
                for name, value in found.items()
                if not math.isnan(value)
            }
            for label, found in values.items()
        },
    }


def middle(picture: Rgb) -> Rgb:
    """The middle of a picture that is too large for a page; a smaller one as it is."""
    height, width = picture.shape[:2]
    if height * width <= _MOST_PIXELS:
        return picture
    shrink = (_MOST_PIXELS / (height * width)) ** 0.5
    rows, columns = round(height * shrink), round(width * shrink)
    top, left = (height - rows) // 2, (width - columns) // 2
    return picture[top : top + rows, left : left + columns]
