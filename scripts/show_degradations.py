"""Draws a contact sheet of every degradation, to be looked at.

    python scripts/show_degradations.py IMAGE OUT.png [--scale 2] [--crop 256] [--draws 6]

One row a degradation: the clean crop first, then draws of different seeds, enlarged by whole pixels
so that nothing is smoothed away. Further rows: the parts that they are made of, by themselves, and
one codec a row, from a good to a bad quality.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vsr.io.codec_damage import CODECS, Encode, damaged
from vsr.io.stills import read_still
from vsr.train.degrade import degradations, kernels, open_degradation
from vsr.train.degrade.isp import camera_noise, drawn_camera
from vsr.train.degrade.jpeg import jpeg
from vsr.train.degrade.motion import Motion, moved
from vsr.train.degrade.noise import gaussian_noise, generator_for, poisson_noise
from vsr.train.degrade.resizes import matlab_reduced, rounded
from vsr.train.degrade.sharpen import sharpened

QUALITIES = {
    "h264": (18, 24, 30, 36, 42),
    "h265": (18, 24, 30, 36, 42),
    "mpeg2": (2, 4, 8, 14, 24),
    "vp9": (20, 32, 44, 54, 62),
}
LABEL = 14

type Cell = tuple[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--crop", type=int, default=256, help="side of the clean crop")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--network", type=Path, help="checkpoint for the row of `learned`")
    arguments = parser.parse_args()
    clean = middle(arguments.image, arguments.crop // arguments.scale * arguments.scale)
    rows = [*sources(clean, arguments), parts(clean), *codecs(clean, arguments.scale)]
    sheet(rows, clean.shape[-1]).save(arguments.out)
    print(f"{arguments.out}: {len(rows)} rows")


def middle(path: Path, side: int) -> Tensor:
    from vsr.api import to_rgb  # noqa: PLC0415 - after the arguments were understood

    picture = torch.from_numpy(to_rgb(read_still(path).frame)).permute(2, 0, 1).float() / 255
    top, left = ((extent - side) // 2 for extent in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def sources(clean: Tensor, arguments: argparse.Namespace) -> Iterator[list[Cell]]:
    for name in degradations():
        values: dict[str, object] = {}
        if name == "learned":
            if arguments.network is None:
                continue
            values["checkpoint"] = str(arguments.network)
        degrade = open_degradation(name, values, arguments.scale)
        target = degrade.target(clean)
        count = 1 if name == "bicubic" else arguments.draws
        draws = [degrade(clean, np.random.default_rng(seed)) for seed in range(count)]
        yield [(f"{name}: target", target), *((f"seed {k}", d) for k, d in enumerate(draws))]


def parts(clean: Tensor) -> list[Cell]:
    random, x = np.random.default_rng(0), clean[None]
    noise = generator_for(random, x.device)
    one, colour, gray = torch.tensor([1.0]), torch.tensor([False]), torch.tensor([True])
    cells = {
        "sinc": kernels.filtered(x, kernels.sinc(21, 1.2)[None]),
        "plateau": kernels.filtered(x, kernels.plateau(21, (3, 3), 1.5)[None]),
        "Gaussian 25": gaussian_noise(x, 25 * one, colour, noise),
        "gray Poisson 3": poisson_noise(x, 3 * one, gray, noise),
        "JPEG 30": jpeg(x, 30),
        "camera": camera_noise(clean, drawn_camera(random), random)[None],
        "sharpened": sharpened(x),
    }
    return [(name, rounded(y)[0]) for name, y in cells.items()]


def codecs(clean: Tensor, scale: int) -> Iterator[list[Cell]]:
    motion = Motion(right=2.3 * scale, down=-0.7 * scale, turn=0.004)
    clip = matlab_reduced(moved(clean, motion, range(-3, 4)), scale)
    shots = [(shot * 255).byte().permute(1, 2, 0).contiguous().numpy() for shot in clip]
    for codec in CODECS:
        row: list[Cell] = [(f"{codec}: source", clip[3])]
        for quality in QUALITIES[codec]:
            back = damaged(shots, Encode(codec=codec, crf=quality))[3]
            row.append((f"{quality}", torch.from_numpy(back.copy()).permute(2, 0, 1) / 255))
        yield row


def sheet(rows: list[list[Cell]], side: int) -> Image.Image:
    width = max(len(row) for row in rows)
    made = Image.new("RGB", (width * (side + 4), len(rows) * (side + LABEL + 4)), "white")
    draw = ImageDraw.Draw(made)
    for y, row in enumerate(rows):
        for x, (label, picture) in enumerate(row):
            place = (x * (side + 4), y * (side + LABEL + 4))
            levels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            cell = Image.fromarray(levels).resize((side, side), Image.Resampling.NEAREST)
            draw.text((place[0] + 2, place[1]), label, fill="black")
            made.paste(cell, (place[0], place[1] + LABEL))
    return made


if __name__ == "__main__":
    main()
