"""Measures models on pictures that H.264 has damaged, beside the same pictures undamaged.

    python scripts/bench/codec.py [--models bicubic lanczos vsr-fast FILE.safetensors] [--scales 2]

Every picture of Set5 and Set14 becomes a short clip, a window that moves over it by whole pixels.
The clip is reduced as MATLAB does, encoded by x264 at every CRF as 4:2:0 and decoded again; every
model enlarges the frames, which are then compared with the moving window itself. `none` is the clip
as it was before the encoder. PSNR and SSIM are of luma, as many border pixels left out as the scale
is; the warping error is what remains along the motion of the window, and what the window itself
has of it stands under `original`.

The figures are recorded with the machine in scripts/bench/results/codec.json, where models that
were not run this time stay.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import RESULTS, machine, table, write
from numpy.typing import NDArray
from PIL import Image

import vsr
from vsr.io.codec_damage import Encode, damaged
from vsr.judging.grid import enlarged, lowered
from vsr.judging.measures import Judge, JudgingOptions
from vsr.judging.viewing import Pair, View, frame_of

REPO = Path(__file__).resolve().parents[2]
SETS = ("set5", "set14")
MODELS = ["bicubic", "lanczos", "vsr-fast", "vsr-video", "vsr-realtime"]
MEASURES = ("psnr", "ssim", "vmaf", "warp")
STEP = (1, 3)
"""Rows and columns of high resolution that the window moves by per frame."""
ORIGINAL = "original"

type Clip = list[NDArray[np.uint8]]


def opened(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a set, RGB."""
    paths = sorted((folder / "HR").glob("*.png"))
    if not paths:
        msg = f"no pictures in {folder / 'HR'}: give the folder of set5 and set14 with --images"
        raise SystemExit(msg)
    for path in paths:
        with Image.open(path) as picture:
            yield np.asarray(picture.convert("RGB"))


def window(picture: NDArray[np.uint8], frames: int, side: int, scale: int) -> Clip:
    """The clip: the window begins in the middle, as far as it will move."""
    room = [(frames - 1) * step for step in STEP]
    rows, columns = (
        min(side, extent - more) // scale * scale
        for extent, more in zip(picture.shape[:2], room, strict=True)
    )
    top, left = (
        (extent - length - more) // 2
        for extent, length, more in zip(picture.shape[:2], (rows, columns), room, strict=True)
    )
    places = [(top + n * STEP[0], left + n * STEP[1]) for n in range(frames)]
    return [np.ascontiguousarray(picture[y : y + rows, x : x + columns]) for y, x in places]


def judged(made: Clip, truth: Clip, scale: int) -> NDArray[np.float64]:
    """Means over a clip, in the order of the measures."""
    sitting = Judge(JudgingOptions(measures=MEASURES, crop=scale)).film()
    for ours, true in zip(made, truth, strict=True):
        sitting.push(Pair(View(frame_of(true)), View(frame_of(ours))))
    rows = [[row[name] for name in MEASURES] for row in sitting.finish()]
    return np.nanmean(np.array(rows), axis=0)


def run(
    models: Sequence[str], clips: Sequence[Clip], scale: int, crfs: Sequence[int | None]
) -> dict[str, dict[str, dict[str, float]]]:
    """By model and CRF, the means over all clips; models without the scale are left out."""
    loaded = {}
    for model in models:
        upscaler = vsr.load_model(model, scale=scale, device="cpu", precision="fp32")
        if upscaler.spec.scale == scale:
            loaded[Path(model).stem] = upscaler
    sums: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for number, truth in enumerate(clips, 1):
        small = [lowered(frame, scale) for frame in truth]
        steady = judged(truth, truth, scale)
        sums.setdefault((ORIGINAL, "none"), []).append(steady)
        for crf in crfs:
            name = "none" if crf is None else str(crf)
            lows = small
            if crf is not None:
                lows = damaged(small, Encode(codec="h264", crf=crf, preset="medium"))
            for model, upscaler in loaded.items():
                made = [enlarged(upscaler, low) for low in lows]
                sums.setdefault((model, name), []).append(judged(made, truth, scale))
        print(f"x{scale}: {number} of {len(clips)}", file=sys.stderr, flush=True)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (model, name), rows in sums.items():
        means = np.mean(rows, axis=0)
        values = {key: round(float(v), 4) for key, v in zip(MEASURES, means, strict=True)}
        if model == ORIGINAL:
            values = {"warp": values["warp"]}
        found.setdefault(model, {})[name] = values
    return found


def shown(found: dict[str, dict[str, dict[str, float]]], crfs: Sequence[int | None]) -> str:
    """PSNR / VMAF / warping error by model and CRF."""
    names = ["none" if crf is None else str(crf) for crf in crfs]
    rows = []
    for model, by_crf in found.items():
        cells = [
            f"{v['psnr']:.2f} / {v['vmaf']:.2f} / {v['warp']:.3f}"
            if (v := by_crf.get(name)) and "psnr" in v
            else f"– / – / {v['warp']:.3f}"
            if v
            else "–"
            for name in names
        ]
        rows.append([model, *cells])
    return table(["model", *(f"CRF {name}" for name in names)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=REPO.parent / "shared" / "data" / "images")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--scales", nargs="+", type=int, default=[2])
    parser.add_argument("--crf", nargs="+", type=int, default=[23, 28, 32])
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--side", type=int, default=192)
    arguments = parser.parse_args()
    torch.set_grad_enabled(mode=False)
    crfs = [None, *arguments.crf]
    known = RESULTS / "codec.json"
    facts: dict[str, Any] = json.loads(known.read_text("utf-8")) if known.exists() else {}
    settings = {"frames": arguments.frames, "side": arguments.side, "sets": arguments.sets}
    if facts.get("settings") != settings:
        facts = {"settings": settings, "scores": {}}
    facts["machine"] = machine()
    for scale in arguments.scales:
        pictures = [
            picture for name in arguments.sets for picture in opened(arguments.images / name)
        ]
        clips = [window(p, arguments.frames, arguments.side, scale) for p in pictures]
        found = run(arguments.models, clips, scale, crfs)
        print(f"x{scale}, PSNR in dB / VMAF / warping error\n\n{shown(found, crfs)}\n")
        scores = facts["scores"].setdefault(f"x{scale}", {})
        for model, by_crf in found.items():
            scores.setdefault(model, {}).update(by_crf)
        write("codec", facts)


if __name__ == "__main__":
    main()
