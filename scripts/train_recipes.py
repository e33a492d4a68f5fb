"""Trains the small form of recipes end to end, and draws what they came to.

    python scripts/train_recipes.py --data DIR [NAMES ...] [--out runs]

Every recipe is run by `vsr train` as a user would. Of a restoring network the PSNR on the run's own
fixed samples is drawn beside that of bicubic enlargement; of the others their losses. Writes
scripts/bench/results/training.json, which keeps the recipes that were not run this time, and
training-<recipe>.png beside it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "scripts" / "bench"))

from _report import RESULTS, machine, write  # noqa: E402 - it lies with the benchmarks

SIZE, LEFT, TOP = (760, 360), 70, 40
COLOURS = ("#3f7cac", "#c8553d", "#588b8b", "#8e6c88")
type Curve = list[tuple[int, float]]


def trained(name: str, data: Path, folder: Path) -> float:
    """Runs a recipe; gives the seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "vsr", "train", name, "--data", str(data), "-o", str(folder)]
    subprocess.run([*command, "--progress", "line"], check=True, cwd=REPO)
    return time.perf_counter() - began


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """What a run has logged, steps counted over all of its stages."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    done, before, stage = 0, 0, 0
    for line in lines:
        if line["stage"] != stage:
            stage, before = line["stage"], before + done
        done = line["step"]
        line["at"] = before + done
    return lines


def curves_of(lines: list[dict[str, Any]]) -> dict[str, Curve]:
    """PSNR and bicubic's where they were measured, otherwise the losses."""
    names = {"psnr": "PSNR in dB", "psnr_before": "bicubic, dB"}
    if not any("psnr" in line for line in lines):
        names = {key: key for line in lines for key in line if key.startswith("loss_")}
    return {
        label: [(line["at"], float(line[key])) for line in lines if key in line]
        for key, label in names.items()
    }


def draw(path: Path, title: str, curves: dict[str, Curve]) -> None:
    font = ImageFont.load_default(14)
    picture = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(picture)
    points = [point for curve in curves.values() for point in curve]
    most = max(step for step, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = (high - low) or 1.0
    right, bottom = SIZE[0] - 20, SIZE[1] - 40

    def place(step: int, value: float) -> tuple[float, float]:
        x = LEFT + (right - LEFT) * step / most
        return x, bottom - (bottom - TOP) * (value - low) / span

    pen.text((LEFT, 10), title, "#1c2733", font)
    pen.line((LEFT, TOP, LEFT, bottom, right, bottom), "#8a949e")
    for value in (low, high):
        pen.text((8, place(0, value)[1] - 8), f"{value:.2f}", "#1c2733", font)
    pen.text((right - 90, bottom + 10), f"{most} steps", "#1c2733", font)
    for (label, curve), colour in zip(curves.items(), COLOURS * 4, strict=False):
        places = [place(*point) for point in curve]
        pen.line(places, colour, 2)
        for x, y in places if len(places) == 1 else ():
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        pen.text((places[-1][0] - 110, places[-1][1] - 18), label, colour, font)
    picture.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["bicubic-l1-small"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    known = RESULTS / "training.json"
    facts = json.loads(known.read_text("utf-8")) if known.exists() else {"runs": {}}
    for name in arguments.names:
        folder = arguments.out.absolute() / name
        seconds = trained(name, arguments.data.absolute(), folder)
        lines = lines_of(folder)
        curves = curves_of(lines)
        draw(RESULTS / f"training-{name}.png", f"{name}, {seconds:.0f} s", curves)
        first, last = ({k: c[n][1] for k, c in curves.items()} for n in (0, -1))
        run = {"seconds": round(seconds), "first": first, "last": last, "machine": machine()}
        facts["runs"][name] = run
        print(name, f"{seconds:.0f} s", first, "→", last, flush=True)
        write("training", facts)


if __name__ == "__main__":
    main()
