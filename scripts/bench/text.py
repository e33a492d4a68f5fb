"""Measures what models do to text that H.264 has damaged: ringing, and drift of brightness, colour.

    python scripts/bench/text.py [--models bicubic lanczos vsr-video FILE.safetensors] [--scales 2]

Lines of letters of several sizes and colours stand on flat colours, and a window moves over them by
whole pixels, as in scripts/bench/codec.py. What is drawn is known everywhere, so faults are, too:

ringing     root of the mean square, in 8-bit levels of luma, by which a result is brighter or
            darker than everything drawn within a pixel of low resolution; around letters only
drift       how far the mean of luma, Cb or Cr is off, the worst of the three, in 8-bit levels

The figures and a picture are recorded in scripts/bench/results/text.json and text.png.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from _report import RESULTS, machine, table, write
from _sections import text as tables
from codec import STEP, Clip, window
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import vsr
from vsr.io.codec_damage import Encode, damaged
from vsr.judging.grid import enlarged, lowered

MODELS = ["bicubic", "lanczos", "vsr-fast", "vsr-video", "vsr-realtime"]
COLOURS = [
    ((16, 16, 16), (235, 235, 235)),
    ((240, 240, 230), (20, 20, 30)),
    ((20, 40, 120), (250, 220, 40)),
    ((170, 30, 30), (240, 240, 240)),
]
"""Of the ground and of the letters."""
SIZES = (14, 18, 24, 34)
WORDS = "Sphinx of black quartz, judge my vow 0123456789 &?%"
SIDE, FRAMES = 384, 5
REACH = 12
"""Pixels around a letter in which ringing is looked for."""
ZOOM = (slice(40, 104), slice(8, 140))

type Plane = NDArray[np.float64]


def drawn(ground: tuple[int, int, int], letters: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A page of text, (H, W, 3)."""
    page = Image.new("RGB", (SIDE + FRAMES * STEP[1] + 8, SIDE + FRAMES * STEP[0] + 8), ground)
    draw, y = ImageDraw.Draw(page), 6
    for turn in range(40):
        size = SIZES[turn % len(SIZES)]
        draw.text((6, y), WORDS[turn % 7 :], fill=letters, font=ImageFont.load_default(size=size))
        y += int(size * 1.4)
        if y > page.height:
            break
    return np.asarray(page)


def luma_chroma(picture: NDArray[np.uint8]) -> Plane:
    """(3, H, W): luma, Cb and Cr of BT.601 in 8-bit levels of full range (T.871)."""
    weights = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    return np.tensordot(np.array(weights), picture.astype(np.float64), axes=(1, 2))


def highest(plane: Plane, reach: int) -> Plane:
    """The greatest value within so many pixels."""
    pooled = F.max_pool2d(torch.from_numpy(plane)[None], 2 * reach + 1, 1, reach)
    return pooled[0].numpy()


def ringing(made: NDArray[np.uint8], truth: NDArray[np.uint8], scale: int) -> float:
    """See above."""
    ours, true = luma_chroma(made)[0], luma_chroma(truth)[0]
    high, low = highest(true, scale), -highest(-true, scale)
    around = highest(true, REACH) + highest(-true, REACH) > 1
    beyond = np.maximum(ours - high, 0) + np.maximum(low - ours, 0)
    return float(np.sqrt(np.mean(np.square(beyond[around]))))


def drift(made: Sequence[NDArray[np.uint8]], truth: Clip) -> float:
    """See above."""
    ours, true = (
        np.mean([luma_chroma(frame).mean((1, 2)) for frame in frames], axis=0)
        for frames in (made, truth)
    )
    return float(np.abs(ours - true).max())


def run(models: Sequence[str], scale: int, crfs: Sequence[int | None]) -> dict[str, object]:
    """By model and CRF the means over all pages, and strips of the picture by model."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    strips: dict[str, NDArray[np.uint8]] = {}
    clips = [window(drawn(*colours), FRAMES, SIDE, scale) for colours in COLOURS]
    for model in models:
        upscaler = vsr.load_model(model, scale=scale, device="cpu", precision="fp32")
        if upscaler.spec.scale != scale:
            continue
        for crf in crfs:
            scores, shown = [], []
            for truth in clips:
                lows = [lowered(frame, scale) for frame in truth]
                if crf is not None:
                    lows = damaged(lows, Encode(codec="h264", crf=crf, preset="medium"))
                made = [enlarged(upscaler, low) for low in lows]
                rung = [ringing(*two, scale) for two in zip(made, truth, strict=True)]
                scores.append((np.mean(rung), drift(made, truth)))
                shown.append(made[-1][ZOOM])
            values = zip(("ringing", "drift"), np.mean(scores, axis=0), strict=True)
            name = "none" if crf is None else str(crf)
            found.setdefault(model, {})[name] = {key: round(float(v), 3) for key, v in values}
            if crf == 28:
                strips[model] = np.hstack(shown)
        print(f"x{scale}: {model}", file=sys.stderr, flush=True)
    strips["original"] = np.hstack([truth[-1][ZOOM] for truth in clips])
    return {"scores": found, "strips": strips}


def picture(strips: dict[str, NDArray[np.uint8]]) -> Image.Image:
    """The strips under each other, named."""
    rows = []
    for model, strip in strips.items():
        label = Image.new("RGB", (90, strip.shape[0]), "white")
        ImageDraw.Draw(label).text((4, strip.shape[0] // 2 - 8), model, "black")
        rows.append(np.hstack([np.asarray(label), strip]))
    return Image.fromarray(np.vstack(rows)).quantize(24, dither=Image.Dither.NONE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--crf", nargs="+", type=int, default=[23, 28, 32])
    arguments = parser.parse_args()
    torch.set_grad_enabled(mode=False)
    crfs = [None, *arguments.crf]
    facts: dict[str, object] = {"machine": machine(), "scores": {}}
    for scale in arguments.scales:
        made = run(arguments.models, scale, crfs)
        facts["scores"][f"x{scale}"] = made["scores"]
        if scale == 2:
            picture(made["strips"]).save(RESULTS / "text.png", optimize=True)
    for title, (head, rows) in tables(facts):
        print(f"{title}\n\n{table(head, rows)}\n")
    write("text", facts)


if __name__ == "__main__":
    main()
