"""An evaluation as rows of text, as CSV and as JSON."""

import csv
import io
import json
import math
from typing import Any

from vsr.judging.evaluation import Evaluation, Score
from vsr.judging.measures import MEASURES


def written(name: str, value: float) -> str:
    """A figure with the decimals that mean something; a dash where there is none.

    >>> written("psnr", 31.4159), written("ssim", float("nan"))
    ('31.42', '–')
    """
    if math.isnan(value):
        return "–"
    return "inf" if math.isinf(value) else f"{value:.{MEASURES[name].digits}f}"


def heading(name: str) -> str:
    """A measure's title, with an arrow to the better side."""
    return f"{MEASURES[name].title} {'↑' if MEASURES[name].higher else '↓'}"


def worst(name: str, scores: list[Score]) -> float:
    """The worst figure of a measure; NaN if nobody has one."""
    known = [s.values[name] for s in scores if not math.isnan(s.values[name])]
    if not known:
        return math.nan
    return min(known) if MEASURES[name].higher else max(known)


def summary(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The means as a table.

    Returns:
        Head and rows, one a set and model or result, whose columns are named by the head.
    """
    grouped = any(found.groups())
    head = [*(["set"] if grouped else []), "what", "n", *map(heading, found.measures)]
    rows = []
    for group in found.groups():
        for label in found.labels():
            items = found.of(group, label)
            if not items:
                continue
            mean = found.mean(group, label)
            figures = [written(name, mean[name]) for name in found.measures]
            rows.append([*([group] if grouped else []), label, str(len(items)), *figures])
    return head, rows


def each(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Every picture or frame as a table; see `summary`."""
    grouped = any(found.groups())
    head = [*(["set"] if grouped else []), "item", "what", *map(heading, found.measures)]
    rows = [
        [
            *([score.group] if grouped else []),
            score.item,
            score.label,
            *(written(name, score.values[name]) for name in found.measures),
        ]
        for score in found.scores
    ]
    return head, rows


def as_csv(found: Evaluation) -> str:
    """Every picture or frame, comma-separated, with all digits; empty where there is no figure."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["set", "item", "what", "seconds", *found.measures])
    for score in found.scores:
        seconds = "" if score.seconds is None else str(score.seconds)
        figures = ["" if math.isnan(v := score.values[n]) else repr(v) for n in found.measures]
        writer.writerow([score.group, score.item, score.label, seconds, *figures])
    return file.getvalue()


def as_json(found: Evaluation) -> str:
    """Everything; no figure is `null`, an infinite one the text `inf`, times are fractions."""
    document = {
        "measures": {
            name: {"title": MEASURES[name].title, "higher_is_better": MEASURES[name].higher}
            for name in found.measures
        },
        "summary": [
            {
                "set": group,
                "what": label,
                "n": len(items),
                "mean": {n: plain(v) for n, v in found.mean(group, label).items()},
                "worst": {n: plain(worst(n, items)) for n in found.measures},
            }
            for group in found.groups()
            for label in found.labels()
            if (items := found.of(group, label))
        ],
        "scores": [
            {
                "set": score.group,
                "item": score.item,
                "what": score.label,
                "seconds": None if score.seconds is None else str(score.seconds),
                "values": {n: plain(v) for n, v in score.values.items()},
            }
            for score in found.scores
        ],
        "notes": list(found.notes),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def plain(value: float) -> Any:
    """A figure as JSON can say it."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"
