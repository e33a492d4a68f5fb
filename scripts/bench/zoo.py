"""Measures trained checkpoints on Set5 and Set14 and prints ours beside what is published of them.

    python scripts/bench/zoo.py [--only vdsr lapsrn]

The protocol is that of scripts/bench/quality.py: PSNR on luma, border crop = scale, means; nothing
is told about a checkpoint but its path. `published` is the figure that its publisher, or whoever
checked it, gives for these very weights; `paper` that of the paper's own weights, trained by other
people with other pictures. Where a publisher measures otherwise, a row of its own does so too. What
is measured is put into scripts/bench/results/zoo.json, beside what zoo_train.py has trained.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from _three_channels import score_three_channels
from quality import REPO, SETS, Score, machine, score

RESULTS = REPO / "scripts" / "bench" / "results" / "zoo.json"
CLOSE = 0.05

type Figures = dict[str, float]
type Measure = Literal["luma", "three channels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A checkpoint to measure.

    Attributes:
        file: In the folder of weights, or a name of the catalogue.
        scale: To measure at.
        published: dB by set of these weights, empty if nobody gives any.
        paper: dB by set of the paper's weights, empty if the paper gives none.
        note: What must be known to compare.
        measure: `luma`, or that of the author of a checkpoint for luma and chroma.
    """

    file: str
    scale: int
    published: Figures
    paper: Figures
    note: str = ""
    measure: Measure = "luma"


def figures(set5: float | None = None, set14: float | None = None) -> Figures:
    """dB by set, without those that are unknown."""
    return {name: v for name, v in zip(SETS, (set5, set14), strict=True) if v is not None}


def as_author(file: str, known: Mapping[int, tuple[float, float]], more: str = "") -> list[Row]:
    """Rows of a checkpoint by its author's measure: dB of Set5 and Set14 by scale."""
    return [
        Row(
            file=file,
            scale=scale,
            published=figures(*told),
            paper={},
            note=f"as its author measures: three channels, low resolution blurred{more}",
            measure="three channels",
        )
        for scale, told in known.items()
    ]


THREE = "of luma and chroma; its author measures otherwise, see below"
REAL = "trained on damaged pictures: PSNR of clean ones is not its aim"
ROWS = (
    Row(file="bicubic", scale=2, published=figures(33.66, 30.24), paper={}),
    Row(file="bicubic", scale=3, published=figures(30.39, 27.55), paper={}),
    Row(file="bicubic", scale=4, published=figures(28.42, 26.00), paper={}),
    Row(file="vsr-fast-x2", scale=2, published={}, paper={}, note="ours"),
    Row(file="vsr-fast-x3", scale=3, published={}, paper={}, note="ours"),
    Row(file="vsr-fast-x4", scale=4, published={}, paper={}, note="ours"),
    Row(
        file="FSRCNN_x2.pb",
        scale=2,
        published=figures(34.85),
        paper=figures(37.00, 32.63),
        note="OpenCV's weights",
    ),
    Row(
        file="ESPCN_x2.pb",
        scale=2,
        published=figures(34.76),
        paper=figures(36.83, 32.40),
        note="OpenCV's weights",
    ),
    Row(
        file="VDSR_twtygqyy_epoch50_state_dict.pth",
        scale=2,
        published=figures(37.65),
        paper=figures(37.53, 33.03),
    ),
    Row(
        file="VDSR_twtygqyy_epoch50_state_dict.pth",
        scale=3,
        published=figures(33.77),
        paper=figures(33.66, 29.77),
    ),
    Row(
        file="VDSR_twtygqyy_epoch50_state_dict.pth",
        scale=4,
        published=figures(31.45),
        paper=figures(31.35, 28.01),
    ),
    Row(
        file="LapSRN_twtygqyy_epoch100_state_dict.pth",
        scale=4,
        published=figures(31.63),
        paper=figures(31.54, 28.19),
        note="its page says 31.65 (37.65 by a slip) / 28.27, in MATLAB",
    ),
    Row(
        file="DRCN_F96_D9.npz",
        scale=2,
        published={},
        paper=figures(37.63, 33.04),
        note="96 features; its author gives 37.31 for 128",
    ),
    Row(file="SRCNN-915_nhat.pt", scale=2, published={}, paper=figures(36.66, 32.45), note=THREE),
    Row(file="SRCNN-955_nhat.pt", scale=2, published={}, paper=figures(36.66, 32.45), note=THREE),
    Row(file="ESPCN-x2_nhat.pt", scale=2, published={}, paper=figures(36.83, 32.40), note=THREE),
    Row(file="ESPCN-x4_nhat.pt", scale=4, published={}, paper=figures(30.52, 27.42), note=THREE),
    *as_author("SRCNN-915_nhat.pt", {2: (37.26, 33.72), 4: (32.01, 29.58)}),
    *as_author("SRCNN-955_nhat.pt", {2: (36.80, 33.43), 4: (32.14, 29.67)}),
    *as_author(
        "ESPCN-x2_nhat.pt",
        {2: (38.28, 34.50)},
        "; it gives 38.78 for his own copy of Set5 too",
    ),
    *as_author(
        "ESPCN-x4_nhat.pt",
        {4: (32.06, 29.29)},
        "; his Set14 is not at hand",
    ),
    Row(
        file="SRGAN_netG_x4_leftthomas.pth",
        scale=4,
        published={},
        paper=figures(32.05, 28.49),
        note="five blocks and adversarial; the paper's figure is of sixteen without",
    ),
    Row(
        file="SPAN_x4_ch28_ntire2026_baseline.pth",
        scale=4,
        published={},
        paper={},
        note="judged on DIV2K in RGB by its contest",
    ),
    Row(file="realesr-animevideov3.pth", scale=4, published={}, paper={}, note=REAL),
    Row(file="ncnn/realesr-animevideov3-x4.param", scale=4, published={}, paper={}, note=REAL),
    Row(
        file="ncnn/realesr-animevideov3-x3.param",
        scale=4,
        published={},
        paper={},
        note="the same network; its ncnn graph reduces the result to x3",
    ),
    Row(
        file="ncnn/realesr-animevideov3-x2.param",
        scale=4,
        published={},
        paper={},
        note="the same network; its ncnn graph reduces the result to x2",
    ),
    Row(file="ncnn/realesr-general-x4v3.param", scale=4, published={}, paper={}, note=REAL),
    Row(
        file="realesr-general-x4v3_from-ncnn-fp16.pth",
        scale=4,
        published={},
        paper={},
        note=REAL,
    ),
    Row(
        file="realesr-general-wdn-x4v3_from-ncnn-fp16.pth",
        scale=4,
        published={},
        paper={},
        note=REAL,
    ),
)


def measured(row: Row, weights: Path, images: Path) -> dict[str, Score]:
    """Means by set."""
    path = weights / row.file
    if row.measure != "luma":
        return {s: score_three_channels(path, images / s.lower(), row.scale) for s in SETS}
    model = str(path) if path.suffix else row.file
    found = {name: score(model, images / name.lower(), row.scale) for name in SETS}
    return {name: value for name, value in found.items() if value is not None}


def verdict(row: Row, ours: dict[str, Score]) -> str:
    """Whether what is published of these weights is reproduced."""
    gaps = [ours[name].psnr - figure for name, figure in row.published.items() if name in ours]
    if not gaps:
        return "–"
    worst = max(gaps, key=abs)
    return f"yes ({worst:+.2f})" if abs(worst) <= CLOSE else f"NO ({worst:+.2f})"


def table(results: list[tuple[Row, dict[str, Score]]]) -> str:
    """Formats everything as Markdown."""
    lines = [
        "| checkpoint | ours | published | paper | reproduced | |",
        "|---|---|---|---|---|---|",
    ]
    for row, ours in results:
        told = [f"{ours[name].psnr:.2f}" if name in ours else "–" for name in SETS]
        others = [
            " / ".join(f"{known[name]:.2f}" if name in known else "–" for name in SETS)
            for known in (row.published, row.paper)
        ]
        cells = (
            f"{row.file} x{row.scale}",
            " / ".join(told),
            *others,
            verdict(row, ours),
            row.note,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def record(row: Row, ours: dict[str, Score]) -> None:
    """Puts a checkpoint's figures, with the machine they are from, in the place of older ones."""
    facts = {
        **asdict(row),
        "ours": {name: asdict(value) for name, value in ours.items()},
        "machine": machine(),
    }
    known = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.exists() else []
    rows = {(entry["file"], entry["scale"], entry.get("measure", "luma")): entry for entry in known}
    rows[row.file, row.scale, row.measure] = facts
    order = [(r.file, r.scale, r.measure) for r in ROWS]
    order += sorted(rows.keys() - set(order))  # those that zoo_train.py has made
    document = {
        "metric": "PSNR in dB and SSIM on luma, border crop = scale, means",
        "rows": [rows[key] for key in order if key in rows],
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    shared = REPO.parent / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=shared / "images")
    parser.add_argument("--weights", type=Path, default=shared / "weights")
    parser.add_argument("--only", nargs="+", default=[], help="parts of names")
    arguments = parser.parse_args()
    wanted = [
        row
        for row in ROWS
        if not arguments.only or any(part.lower() in row.file.lower() for part in arguments.only)
    ]
    results = []
    for row in wanted:
        results.append((row, measured(row, arguments.weights, arguments.images)))
        record(*results[-1])
        print(f"{row.file} x{row.scale} done", file=sys.stderr)
    print(table(results))


if __name__ == "__main__":
    main()
