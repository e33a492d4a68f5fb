"""Trains the small form of recipes end to end, and draws what they came to.

    python scripts/train_recipes.py --data DIR --judge DIR [NAMES ...] [--out runs]

Every recipe is run by `vsr train` as a user would, and validated on pictures that it does not learn
from, on the middle of each, before its first step and then now and again. A restoring network is
drawn beside bicubic enlargement, a network that damages beside the clean picture left as it is, by

    PSNR               dB, the more the better
    feature distance   of fixed random filters, a stand-in for LPIPS, the less the better
    spectral gap       dB between the power of made and true damage, the less the better

Where an adversarial stage follows another one, what it did is told apart, from where it began: PSNR
falls in it as it must, and feature distance has to fall too.

Writes scripts/bench/results/training.json, which keeps the recipes that were not run this time, and
training-<recipe>.png beside it. Ends with an error if a restoring recipe has lifted neither PSNR
nor feature distance over its start, or its adversarial stage not the latter, or a damaging one has
not narrowed the spectral gap: a network that only learns to leave pictures as they are comes nearer
to most targets, and learns no damage.
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
    "cycle": (PSNR, FEATURES, SPECTRUM),
    "noise": (FEATURES, SPECTRUM),
}
"""By task; noise that is drawn is nearer in no pixel, so PSNR says nothing about it."""


def trained(name: str, data: Path, judges: Path, folder: Path) -> float:
    """Runs a recipe; gives the seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "vsr", "train", name, "--data", str(data), "-o", str(folder)]
    recipe = recipe_of(name)
    judge = {"folders": [str(judges)], "every": recipe["sample_every"], "side": SIDE}
    # all stages by the damage of the last one: a curve of two kinds of it would say nothing
    own = recipe["stages"][-1].get("data", {})
    judge |= {key: own[key] for key in ("degradation", "degradation_settings") if key in own}
    command += ["--set", f"validation={inline(judge)}", "--restart", "--progress", "line"]
    subprocess.run(command, check=True, cwd=REPO)
    return time.perf_counter() - began


def inline(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


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


def panel(
    pen: ImageDraw.ImageDraw, top: int, title: str, ours: Curve, before: Curve, stages: list[int]
) -> None:
    """Draws a figure over the steps, what it was without the network, and where stages begin."""
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
    for step in stages:
        x, _ = place(step, low)
        pen.line((x, top + TOP, x, floor), GRAY)
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
    begun = {line["stage"]: line["at"] for line in reversed(lines)}
    stages = [step for stage, step in begun.items() if stage > 0]
    for number, figure in enumerate(figures):
        before = curve(lines, f"{figure.key}_before")
        ours = curve(lines, figure.key)
        panel(pen, 40 + HEIGHT * number, figure.title, ours, before, stages)
    picture.save(path)


def compared(figure: Figure, ours: Curve, before: Curve) -> dict[str, Any]:
    """A figure at the start, at the end and without the network; whether it was lifted."""
    first, last = ours[0][1], ours[-1][1]
    better = last > first if figure.higher else last < first
    found: dict[str, Any] = {"first": first, "last": last, "lifted": better}
    return {**found, "without": before[-1][1]} if before else found


def judged(lines: list[dict[str, Any]], figures: tuple[Figure, ...], apart: str) -> dict[str, Any]:
    """Every figure over the whole run, and over its last stage if that is `apart`, by its name."""
    last = [line for line in lines if line["stage"] == lines[-1]["stage"]]
    parts = [("", lines), *([(apart, last)] if apart else [])]
    return {
        f"{figure.title}{end}": compared(
            figure, curve(part, figure.key), curve(part, f"{figure.key}_before")
        )
        for end, part in parts
        for figure in figures
    }


def adversarial(stages: list[dict[str, Any]]) -> str:
    """What figures of the last stage are called, if it has a gan and others came before it."""
    apart = len(stages) > 1 and "gan" in stages[-1]
    return f", stage {stages[-1]['name']} alone" if apart else ""


def flat(found: dict[str, Any], figures: tuple[Figure, ...], apart: str) -> bool:
    """Whether a recipe has not lifted what it should."""
    deciding = [SPECTRUM] if SPECTRUM in figures else figures
    whole = any(found[figure.title]["lifted"] for figure in deciding)
    return not whole or (bool(apart) and not found[f"{FEATURES.title}{apart}"]["lifted"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["bicubic-l1-small"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--beside", help="what else the machine did: seconds are then no measure")
    arguments = parser.parse_args()
    known = RESULTS / "training.json"
    facts = json.loads(known.read_text("utf-8")) if known.exists() else {"runs": {}}
    failed = []
    for name in arguments.names:
        folder = arguments.out.absolute() / name
        stages = recipe_of(name)["stages"]
        figures, apart = FIGURES[stages[-1].get("task", "restore")], adversarial(stages)
        seconds = trained(name, arguments.data.absolute(), arguments.judge.absolute(), folder)
        lines = lines_of(folder)
        draw(RESULTS / f"training-{name}.png", f"{name}, {seconds:.0f} s", lines, figures)
        found = judged(lines, figures, apart)
        told: dict[str, Any] = {
            "seconds": round(seconds),
            "judged on": "/".join(arguments.judge.absolute().parts[-2:]),
        }
        told |= {"beside": arguments.beside} if arguments.beside else {}
        facts["runs"][name] = {**told, "figures": found, "machine": machine()}
        print(name, f"{seconds:.0f} s", json.dumps(found), flush=True)
        write("training", facts)
        failed += [name] if flat(found, figures, apart) else []
    if failed:
        sys.exit(f"what should be lifted was not by {', '.join(failed)}")


if __name__ == "__main__":
    main()
