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
  L2, and then with `--steady 1`, which makes two successive frames agree where they show the same,
  and more heavily encoded films; the header of each file holds the settings of its last run.
- **Hardware:** one core of a shared virtual machine for each, bfloat16, about an hour.
- **Limits:** trained for fidelity: what a codec has left out altogether is not invented. A film of
  very high quality, x264's CRF 14 or less, has more PSNR with `-n vsr-fast`. x3 is x4, reduced.

Measured by `scripts/bench/codec.py` on moving windows of Set5 and Set14 (PSNR in dB of luma / VMAF
/ warping error in grey levels, of which the windows themselves have that under `original`):
"""


REALTIME = """# vsr-realtime

Networks on luma for processors that are to keep up with the film: what `vsr-video` learns, for a
ninth (x2) and a quarter (x4) of its arithmetic. Architecture `folded`: a compact network that works
on the picture folded to half its size; chroma is resampled beside it. `-n vsr-realtime`.

- **Licence:** MIT.
- **Data:** as [vsr-video](vsr-video.md).
- **Recipe:** `scripts/train_embedded.py --fold 2 --video --steady 0.5`; x2 began from a run without
  `--video` that ended at 57 %. The header of each file holds the settings of its last run.
- **Hardware:** one core of a shared virtual machine for each, bfloat16, about a quarter of an hour.
- **Limits:** as vsr-video's; fine detail of clean sources is vsr-fast's strength.
  x3 is x4, reduced.

Measured by `scripts/bench/codec.py` and `scripts/bench/quality.py`, which see
[vsr-video](vsr-video.md) and [vsr-fast](vsr-fast.md); on text, by `scripts/bench/text.py`:
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


def on_text() -> str:
    """What `text.py` has measured: ringing / drift."""
    scores = json.loads((RESULTS / "text.json").read_text("utf-8"))["scores"]
    parts = []
    for scale, by_model in scores.items():
        columns = list(next(iter(by_model.values())))
        lines = [f"| {scale} | " + " | ".join(f"CRF {name}" for name in columns) + " |"]
        lines.append("|---" * (len(columns) + 1) + "|")
        for model, row in by_model.items():
            cells = (f"{v['ringing']:.2f} / {v['drift']:.2f}" for v in row.values())
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
    cards = (
        ("vsr-fast", FAST, figures()),
        ("vsr-video", VIDEO, damaged()),
        ("vsr-realtime", REALTIME, on_text()),
    )
    for family, head, measured in cards:
        text = f"{head}\n{measured}\n\n{networks(family)}\n"
        (EMBEDDED / f"{family}.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
