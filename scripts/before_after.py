"""Makes examples/before_after.png, the picture in README, from the example clip.

    python scripts/before_after.py [examples/before_after.png]

Two cut-outs of one frame, fourfold: the pixels of the clip, bicubic, the embedded network, and the
drawing that the clip was shrunk from.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from make_example import drawing
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import vsr

REPO = Path(__file__).resolve().parents[1]
FRAME, SCALE = 70, 4
PANEL = (74, 42)
CUTS = ((206, 56), (48, 62))
LABEL = 26


def clip_frame(number: int) -> NDArray[np.uint8]:
    """One frame of the example clip as RGB."""
    source = vsr.open_source(REPO / "examples" / "clip.mkv")
    try:
        return vsr.to_rgb(next(itertools.islice(source, number, None)))
    finally:
        source.close()


def upscaled(model: str, frame: NDArray[np.uint8]) -> Image.Image:
    """The frame through a model, fourfold."""
    upscaler = vsr.load_model(model, scale=SCALE, device="cpu", precision="fp32")
    x = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)[None] / 255
    y = upscaler(x)[0].permute(1, 2, 0).numpy() * 255
    return Image.fromarray(np.rint(y).astype(np.uint8))


def sheet() -> Image.Image:
    """The labelled cut-outs: a column for each way of enlarging, a row for each cut-out."""
    frame = clip_frame(FRAME)
    columns = {
        "the clip": upscaled("nearest", frame),
        "bicubic": upscaled("bicubic", frame),
        "vsr": upscaled("vsr-fast", frame),
        "the drawing it came from": drawing(FRAME),
    }
    width, height = PANEL[0] * SCALE, PANEL[1] * SCALE
    size = (len(columns) * (width + 4) - 4, LABEL + len(CUTS) * (height + 4) - 4)
    page = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for column, (label, picture) in enumerate(columns.items()):
        left = column * (width + 4)
        pen.text((left + width // 2, LABEL // 2), label, fill="black", font=font, anchor="mm")
        for row, (x, y) in enumerate(CUTS):
            box = (x * SCALE, y * SCALE, x * SCALE + width, y * SCALE + height)
            page.paste(picture.crop(box), (left, LABEL + row * (height + 4)))
    return page


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else REPO / "examples" / "before_after.png")
    sheet().save(target, optimize=True)
    print(f"{target}: {target.stat().st_size} bytes")
