"""Writes the cards in vsr/embedded from the headers of the networks and the measured quality.

python scripts/bench/quality.py && python scripts/bench/codec.py && python scripts/model_card.py
"""

import json
from pathlib import Path

from safetensors import safe_open

REPO = Path(__file__).resolve().parents[1]
EMBEDDED = REPO / "vsr" / "embedded"
RESULTS = REPO / "scripts" / "bench" / "results"

FAST = """# vsr-fast

Small networks on luma for clean sources: the default of `vsr` for pictures, raw video, lossless and
intermediate codecs. Architecture `compact`
(SRVGGNetCompact) with one channel and ReLU; chroma is resampled beside them.

- **Licence:** MIT.
- **Data:** 204 pictures with free licences: 168 of CID22 (CC-BY-SA-4.0), 15 photographs (CC0, one
  CC-BY-2.0, one CC-BY-SA-4.0), 21 illustrations (LGPLv3, CC-BY-SA-4.0). Set5 and Set14 only judge.
  Low resolution is the antialiased bicubic reduction of 8-bit RGB, as MATLAB makes it.
- **Recipe:** several runs after one another, each from the weights of the one before; the header
  of each file holds the settings of its last run. x2: `scripts/train_embedded.py` with Muon and
  crops drawn by how badly bicubic does on them, first alone, then towards the mean of its own
  results over the eight symmetries (`--start`, `--teacher`), and at last shortened from 12 hidden
  convolutions to 10 and taught by the longer one. x3 and x4: an earlier version of that
  script (Adam on over-parametrised convolutions, evenly drawn crops; commit f95b60c), likewise with
  distillation.
- **Hardware:** two cores of a shared virtual machine, bfloat16, at most 95 minutes a run.
- **Limits:** trained on clean bicubic reductions: it sharpens what is there, and does not remove
  compression damage, noise or interlacing.

Measured by `scripts/bench/quality.py` (PSNR in dB / SSIM on luma, border crop = scale):
"""


VIDEO = """# vsr-video

Small networks on luma for films as they are spread, H.264 and its like: the default of `vsr` where
the source's codec predicts pictures from each other and leaves out detail. Architecture `compact`
(SRVGGNetCompact) with one channel and ReLU, as fast as `vsr-fast`; chroma is resampled beside them.

- **Licence:** MIT.
- **Data:** the 204 pictures of [vsr-fast](vsr-fast.md), as moving windows of four frames that are
  reduced as MATLAB does and encoded as 4:2:0: three quarters by x264 at CRF 15 to 34, the rest by
  x265 at CRF 17 to 36 and as MPEG-2 at quantisers 1 to 7; one in eight stays as it was.
- **Recipe:** `scripts/train_embedded.py --video --start vsr-fast-xN.safetensors`, Muon, L1 and then
  L2; the header of each file holds all settings.
- **Hardware:** one core of a shared virtual machine for each, bfloat16, about half an hour.
- **Limits:** trained for fidelity: what a codec has left out altogether is not invented. A film of
  very high quality, x264's CRF 14 or less, has more PSNR with `-n vsr-fast`. x3 is x4, reduced.

Measured by `scripts/bench/codec.py` on moving windows of Set5 and Set14 (PSNR in dB of luma / VMAF
/ warping error in grey levels, of which the windows themselves have that under `original`):
"""


def figures() -> str:
    """What `quality.py` has measured."""
    measured = json.loads((RESULTS / "quality.json").read_text("utf-8"))["scores"]
    columns = list(next(iter(measured.values())))
    lines = ["| model | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, row in measured.items():
        cells = [f"{v['psnr']:.2f} / {v['ssim']:.4f}" if (v := row[c]) else "–" for c in columns]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def damaged() -> str:
    """What `codec.py` has measured."""
    scores = json.loads((RESULTS / "codec.json").read_text("utf-8"))["scores"]
    parts = []
    for scale, by_model in scores.items():
        columns = list(by_model["lanczos"])
        lines = [f"| {scale} | " + " | ".join(f"CRF {name}" for name in columns) + " |"]
        lines.append("|---" * (len(columns) + 1) + "|")
        for model, row in by_model.items():
            cells = (_cell(row.get(name)) for name in columns)
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(values: dict[str, float] | None) -> str:
    if values is None:
        return "–"
    if "psnr" not in values:
        return f"{values['warp']:.2f}"
    return f"{values['psnr']:.2f} / {values['vmaf']:.1f} / {values['warp']:.2f}"


def networks(family: str) -> str:
    """What the headers say."""
    lines = ["| file | parameters | layers | last run |", "|---|---|---|---|"]
    for path in sorted(EMBEDDED.glob(f"{family}-*.safetensors")):
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
        config, recipe = json.loads(header["config"]), json.loads(header["recipe"])
        told = ", ".join(f"{key} {value}" for key, value in recipe.items() if key != "scale")
        count = sum(tensor.numel() for tensor in tensors)
        lines.append(
            f"| {path.name} | {count:,} | {config['convs'] + 2} × {config['features']} | {told} |"
        )
    return "\n".join(lines)


def main() -> None:
    for family, head, measured in (("vsr-fast", FAST, figures()), ("vsr-video", VIDEO, damaged())):
        text = f"{head}\n{measured}\n\n{networks(family)}\n"
        (EMBEDDED / f"{family}.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
