"""Measures picture quality on Set5 and Set14 and prints the table that README quotes.

    python scripts/bench/quality.py [--models bicubic vsr-fast "vsr-fast int8"] [--scales 2 3 4]

A precision may follow the name of a model; fp32 is the usual one.

As the papers do: low resolution by MATLAB's antialiased bicubic (the files of LR_bicubic), PSNR and
SSIM on the unrounded BT.601 luma of 8-bit results, as many border pixels cropped as the scale is,
gray pictures as gray, the mean over pictures. A run over everything is recorded with the machine in
scripts/bench/results/quality.json and .png, and in README.
"""

import argparse
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from _report import machine, write
from numpy.typing import NDArray
from PIL import Image

import vsr
from vsr.metrics import luma, psnr, ssim

REPO = Path(__file__).resolve().parents[2]
SETS = ("Set5", "Set14")
MODELS = ["bicubic", "lanczos", "vsr-fast", "vsr-fast int8", "vsr-realtime"]
SCALES = [2, 3, 4]


@dataclass(frozen=True, slots=True)
class Score:
    """Means over one set."""

    psnr: float
    ssim: float


def opened(path: Path) -> NDArray[np.uint8]:
    """Reads a picture: (H, W) if it is gray, else RGB (H, W, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))


def pairs(folder: Path, scale: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Low and high resolution of every picture of a set, the high one cropped to match."""
    found = []
    for path in sorted((folder / "HR").glob("*.png")):
        low = opened(folder / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png")
        high = opened(path)[: low.shape[0] * scale, : low.shape[1] * scale]
        if (low.ndim == 2) != (high.ndim == 2):  # a gray picture that was stored as RGB
            low, high = (p if p.ndim == 2 else p[..., 0] for p in (low, high))
        found.append((low, high))
    if not found:
        msg = f"no pictures in {folder / 'HR'}: give the folder of set5 and set14 with --images"
        raise SystemExit(msg)
    return found


def enlarged(upscaler: vsr.Upscaler, low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Upscales a picture as a program does that writes 8-bit pictures."""
    planes = low[None] if low.ndim == 2 else low.transpose(2, 0, 1)
    y = upscaler(torch.from_numpy(planes.astype(np.float32))[None] / 255)[0].double().numpy() * 255
    codes = np.rint(y).astype(np.uint8)
    return codes[0] if low.ndim == 2 else codes.transpose(1, 2, 0)


def score(model: str, folder: Path, scale: int) -> Score | None:
    """Evaluates a model on a set; None if it has no network of this scale."""
    name, _, precision = model.partition(" ")
    upscaler = vsr.load_model(name, scale=scale, device="cpu", precision=precision or "fp32")
    if upscaler.spec.scale != scale:
        return None
    results = []
    for low, high in pairs(folder, scale):
        ours, truth = luma(enlarged(upscaler, low)), luma(high)
        results.append((psnr(ours, truth, scale), ssim(ours, truth, scale)))
    mean = np.mean(results, axis=0)
    return Score(round(float(mean[0]), 3), round(float(mean[1]), 4))


def table(scores: dict[str, dict[str, Score | None]], columns: list[str]) -> str:
    """Formats PSNR / SSIM as Markdown."""
    lines = ["| model | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, row in scores.items():
        cells = [
            f"{value.psnr:.2f} / {value.ssim:.4f}" if (value := row[column]) else "–"
            for column in columns
        ]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def record(scores: dict[str, dict[str, Score | None]], columns: list[str]) -> None:
    """Writes the figures to scripts/bench/results and the table to README."""
    facts = {
        "metric": "PSNR in dB and SSIM on luma, border crop = scale, means",
        "machine": machine(),
        "scores": {
            model: {column: asdict(value) if value else None for column, value in row.items()}
            for model, row in scores.items()
        },
    }
    write("quality", facts)
    readme = REPO / "README.md"
    block = f"<!-- quality -->\n{table(scores, columns)}\n<!-- /quality -->"
    text = readme.read_text("utf-8")
    readme.write_text(re.sub(r"(?s)<!-- quality -->.*<!-- /quality -->", block, text), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=REPO.parent / "shared" / "data" / "images")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--scales", nargs="+", type=int, default=SCALES)
    arguments = parser.parse_args()
    columns = [f"{name} x{scale}" for scale in arguments.scales for name in SETS]
    scores: dict[str, dict[str, Score | None]] = {}
    for model in arguments.models:
        scores[model] = {
            f"{name} x{scale}": score(model, arguments.images / name.lower(), scale)
            for scale in arguments.scales
            for name in SETS
        }
        print(f"{model} done", file=sys.stderr)
    print(table(scores, columns))
    if set(arguments.models) >= set(MODELS) and set(arguments.scales) >= set(SCALES):
        record(scores, columns)


if __name__ == "__main__":
    main()
