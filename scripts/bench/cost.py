"""What an hour of film costs where machines are paid by the hour, from measured rates.

    python scripts/bench/cost.py [--price 0.08] [--readme]

Reads the steady rates of scripts/bench/results/end_to_end-*.json. The price is that of a machine
like the one that was measured; 0.08 dollars is about what clouds ask for two cores. Segments share
no work, so many machines together cost as much as one alone, and a little for their start (see
scale.py). `--readme` puts the table into README.
"""

import argparse
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from _report import RESULTS, table

README = Path(__file__).resolve().parents[2] / "README.md"
PRICE = 0.08
RATE = 24
"""Frames of a second of film."""


def rows(facts: dict[str, Any], price: float) -> list[list[str]]:
    """A row for each case: hours of a machine for an hour of film, and what they cost.

    With the encoder as it is by default.
    """
    found = []
    for row in facts["rows"]:
        if row.get("preset", "fast") != "fast":
            continue
        hours = RATE / row["steady_fps"]
        width, height = (round(int(n) * Fraction(row["scale"])) for n in row["input"].split("×"))
        way = f"{row.get('model', 'auto')}, {row.get('precision', 'auto')}"
        case = [row["input"], f"{width}×{height}", way]
        found.append([*case, f"{row['steady_fps']:.1f}", f"{hours:.1f}", f"{hours * price:.2f}"])
    return found


def shown(price: float) -> str:
    """A table for each machine that was measured."""
    head = ["from", "to", "model, precision", "fps", "machine-hours", f"at ${price:g} an hour"]
    parts = []
    for path in sorted(RESULTS.glob("end_to_end-*.json")):
        facts = json.loads(path.read_text("utf-8"))
        parts.append(f"{facts['processor']}, {facts['threads']} threads:")
        parts.append(table(head, rows(facts, price)))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--price", type=float, default=PRICE)
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    arguments = parser.parse_args()
    text = shown(arguments.price)
    print(text)
    if arguments.readme:
        block = f"<!-- cost -->\n{text}\n<!-- /cost -->"
        found = README.read_text("utf-8")
        README.write_text(re.sub(r"(?s)<!-- cost -->.*<!-- /cost -->", block, found), "utf-8")


if __name__ == "__main__":
    main()
