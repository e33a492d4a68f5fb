"""Writes vsr/embedded/vsr-fast.md from the headers of the networks and the measured quality.

python scripts/bench/quality.py && python scripts/model_card.py
"""

import json
from pathlib import Path

from safetensors import safe_open

REPO = Path(__file__).resolve().parents[1]
EMBEDDED = REPO / "vsr" / "embedded"
QUALITY = REPO / "scripts" / "bench" / "results" / "quality.json"

HEAD = """# vsr-fast

Small networks on luma for clean sources, the default of `vsr`. Architecture `compact`
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


def figures() -> str:
    measured = json.loads(QUALITY.read_text("utf-8"))["scores"]
    columns = list(next(iter(measured.values())))
    lines = ["| model | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for model, row in measured.items():
        cells = [f"{v['psnr']:.2f} / {v['ssim']:.4f}" if (v := row[c]) else "–" for c in columns]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def networks() -> str:
    lines = ["| file | parameters | layers | last run |", "|---|---|---|---|"]
    for path in sorted(EMBEDDED.glob("*.safetensors")):
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
    text = f"{HEAD}\n{figures()}\n\n{networks()}\n"
    (EMBEDDED / "vsr-fast.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
