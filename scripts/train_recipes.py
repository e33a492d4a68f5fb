"""Trains the small form of recipes end to end, and draws what they came to.

    python scripts/train_recipes.py --data DIR --judge DIR [NAMES ...] [--out runs]

Every recipe is run by `vsr train` as a user would, and validated on pictures that it does not learn
from, on the middle of each, before its first step and then now and again. A restoring network is
drawn beside bicubic enlargement, a network that damages beside the clean picture left as it is, by

    PSNR               dB, the more the better
    feature distance   of fixed random filters, a stand-in for LPIPS, the less the better
    spectral gap       dB between the power of made and true damage, the less the better

Writes scripts/bench/results/training.json, which keeps the recipes that were not run this time, and
training-<recipe>.png beside it. Ends with an error if a restoring recipe has lifted neither PSNR
nor feature distance over its start, or a damaging one has not narrowed the spectral gap: a network
that only learns to leave pictures as they are comes nearer to most targets, and learns no damage.
"""

import argparse
import json
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "scripts" / "bench"))

from _report import RESULTS, machine, write  # noqa: E402 - it lies with the benchmarks

SIDE = 128
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 250, 70, 44, 30
INK, GRAY, OURS, BEFORE = "#1c2733", "#8a949e", "#3f7cac", "#c8553d"
type Curve = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the log: its key, its name, and whether more is better."""

    key: str
    title: str
    higher: bool


PSNR = Figure("psnr", "PSNR, dB", higher=True)
FEATURES = Figure("features", "feature distance", higher=False)
SPECTRUM = Figure("spectrum", "spectral gap, dB", higher=False)
FIGURES = {
    "restore": (PSNR, FEATURES),
    "contrast": (PSNR, FEATURES),
    "translate": (PSNR, FEATURES, SPECTRUM),
    "cycle": (FEATURES, SPECTRUM),
    "noise": (FEATURES, SPECTRUM),
}
"""By task; what is damaged at random is nearer in no pixel, so PSNR says nothing about it."""


def trained(name: str, data: Path, judges: Path, folder: Path) -> float:
    """Runs a recipe; gives the seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "vsr", "train", name, "--data", str(data), "-o", str(folder)]
    every = recipe_of(name)["sample_every"]
    validation = f"{{folders=[{json.dumps(str(judges))}], every={every}, side={SIDE}}}"
    command += ["--set", f"validation={validation}", "--restart", "--progress", "line"]
    subprocess.run(command, check=True, cwd=REPO)
    return time.perf_counter() - began


def recipe_of(name: str) -> dict[str, Any]:
    """A recipe that ships."""
    path = REPO / "vsr" / "train" / "recipes" / f"{name}.toml"
    return tomllib.loads(path.read_text("utf-8"))


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


def curve(lines: list[dict[str, Any]], key: str) -> Curve:
    """A figure of validation over the steps."""
    return [(line["at"], line[f"valid_{key}"]) for line in lines if f"valid_{key}" in line]


def panel(pen: ImageDraw.ImageDraw, top: int, title: str, ours: Curve, before: Curve) -> None:
    """Draws a figure over the steps, and what it was without the network."""
    font = ImageFont.load_default(14)
    most = max(step for step, _ in ours) or 1
    values = [value for _, value in (*ours, *before)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    right, floor = WIDTH - 20, top + HEIGHT - BOTTOM

    def place(step: int, value: float) -> tuple[float, float]:
        x = LEFT + (right - LEFT) * step / most
        return x, floor - (floor - top - TOP) * (value - low) / span

    pen.text((LEFT, top + 8), title, INK, font)
    pen.line((LEFT, top + TOP, LEFT, floor, right, floor), GRAY)
    for value in (low, high):
        pen.text((8, place(0, value)[1] - 8), f"{value:.3g}", INK, font)
    pen.text((right - 90, floor + 8), f"{most} steps", INK, font)
    for points, colour in ((before, BEFORE), (ours, OURS)):
        if points:
            pen.line([place(*point) for point in points], colour, 2)


def draw(path: Path, title: str, lines: list[dict[str, Any]], figures: tuple[Figure, ...]) -> None:
    """A PNG with a panel for every figure."""
    picture = Image.new("RGB", (WIDTH, 40 + HEIGHT * len(figures)), "white")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    pen.text((LEFT, 12), title, INK, font)
    pen.text((WIDTH - 250, 12), "network", OURS, font)
    pen.text((WIDTH - 170, 12), "without network", BEFORE, font)
    for number, figure in enumerate(figures):
        before = curve(lines, f"{figure.key}_before")
        panel(pen, 40 + HEIGHT * number, figure.title, curve(lines, figure.key), before)
    picture.save(path)


def judged(lines: list[dict[str, Any]], figures: tuple[Figure, ...]) -> dict[str, Any]:
    """Every figure at the start, at the end and without the network; which ones were lifted."""
    found: dict[str, Any] = {}
    for figure in figures:
        ours, before = curve(lines, figure.key), curve(lines, f"{figure.key}_before")
        first, last = ours[0][1], ours[-1][1]
        better = last > first if figure.higher else last < first
        found[figure.title] = {"first": first, "last": last, "lifted": better}
        if before:
            found[figure.title]["without"] = before[-1][1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["bicubic-l1-small"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    known = RESULTS / "training.json"
    facts = json.loads(known.read_text("utf-8")) if known.exists() else {"runs": {}}
    flat = []
    for name in arguments.names:
        folder = arguments.out.absolute() / name
        figures = FIGURES[recipe_of(name)["stages"][-1].get("task", "restore")]
        seconds = trained(name, arguments.data.absolute(), arguments.judge.absolute(), folder)
        lines = lines_of(folder)
        draw(RESULTS / f"training-{name}.png", f"{name}, {seconds:.0f} s", lines, figures)
        found = judged(lines, figures)
        told = {
            "seconds": round(seconds),
            "judged on": "/".join(arguments.judge.absolute().parts[-2:]),
        }
        facts["runs"][name] = {**told, "figures": found, "machine": machine()}
        print(name, f"{seconds:.0f} s", json.dumps(found), flush=True)
        write("training", facts)
        deciding = [SPECTRUM] if SPECTRUM in figures else figures
        flat += [] if any(found[one.title]["lifted"] for one in deciding) else [name]
    if flat:
        sys.exit(f"nothing was lifted by {', '.join(flat)}")


if __name__ == "__main__":
    main()
