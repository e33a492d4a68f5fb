"""Makes one page of all results, so that no figure anywhere is typed by hand.

    python scripts/bench/report.py            writes scripts/bench/results/README.md
    python scripts/bench/report.py --check    ends with an error if it would write another one

Every results/*.json becomes a section with the machine that it was measured on, a table, and the
pictures that lie beside it; what it is and how it was made are the first lines of its script.
Pictures that are not of these figures are drawn again, from the file alone: nothing is measured.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from _drawing import shown
from _report import RESULTS, draw, kind_of, machines, picture_of, table
from _sections import SECTIONS, anything

REPO = Path(__file__).resolve().parents[2]
PAGE = "README.md"
_SCRIPTS = {
    "training": "scripts/train_recipes.py",
    "fuzz": "scripts/fuzz.py",
    "soak": "scripts/soak.py",
}
_HEAD = """# Measured

This page is made by `python scripts/bench/report.py` from the files beside it. Each section says
what was measured, by which command, on which machine; figures of different machines do not compare.
"""


def page(folder: Path) -> str:
    """The whole text, from the result files of a folder."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.json")):
        kinds.setdefault(kind_of(path), []).append(path)
    order = [
        *(kind for kind in SECTIONS if kind in kinds),
        *(k for k in kinds if k not in SECTIONS),
    ]
    parts = [_HEAD, *(part for kind in order for part in _section(kind, kinds[kind]))]
    return "\n".join(parts)


def _section(kind: str, paths: list[Path]) -> Iterator[str]:
    """Heading and command of a kind, then every file of it."""
    script = _SCRIPTS.get(kind, f"scripts/bench/{kind}.py")
    what, command = described(REPO / script)
    yield f"## {kind.replace('_', ' ').capitalize()}\n\n{what}\n\n    {command}\n"
    for path in paths:
        facts = json.loads(path.read_text("utf-8"))
        yield f"[{path.name}]({path.name}): {'; '.join(machines(facts))}\n"
        for title, (head, rows) in SECTIONS.get(kind, anything)(facts):
            safe = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
            yield (f"{title}:\n\n" if title else "") + table(head, safe) + "\n"
        pictures = [path.with_suffix(".png"), *sorted(path.parent.glob(f"{path.stem}-*.png"))]
        there = [f"![{one.stem}]({one.name})" for one in pictures if one.exists()]
        if there:
            yield "\n".join(there) + "\n"


def old_pictures(folder: Path) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    """Pictures that are missing or of other figures, with kind and facts that they should be of."""
    for path in sorted(folder.glob("*.json")):
        facts, picture = json.loads(path.read_text("utf-8")), path.with_suffix(".png")
        expected = picture_of(kind_of(path), facts)
        if expected and (not picture.exists() or shown(picture) != expected):
            yield picture, kind_of(path), facts


def described(script: Path) -> tuple[str, str]:
    """First paragraph of a script's docstring, and the first command in it."""
    text = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    command = re.search(r"^    (python scripts/.*?)(?: {3,}.*)?$", text, re.MULTILINE)
    if command is None:
        msg = f"{script.name} has no command in its docstring: a line with `python scripts/…`"
        raise ValueError(msg)
    return " ".join(text.partition("\n\n")[0].split()), command[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    old = list(old_pictures(RESULTS))
    path = RESULTS / PAGE
    if not arguments.check:
        for picture, kind, facts in old:
            draw(picture, kind, facts)
        path.write_text(page(RESULTS), "utf-8")
        print(f"written to {path}")
    elif old:
        names = ", ".join(picture.name for picture, *_ in old)
        sys.exit(f"not drawn of these results: {names}: run python scripts/bench/report.py")
    elif not path.exists() or path.read_text("utf-8") != page(RESULTS):
        sys.exit(f"{path.name} is not made of these results: run python scripts/bench/report.py")


if __name__ == "__main__":
    main()
