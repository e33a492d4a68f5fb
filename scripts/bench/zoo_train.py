"""Trains architectures of which no trained checkpoint is at hand, and measures them beside bicubic.

    python scripts/bench/zoo_train.py [--only edsr rcan] [--out runs/zoo]

A small form of each, from scratch, by `vsr train` as a user would, for a minute or two of one core;
then the protocol of scripts/bench/zoo.py at x2. What is shown is that a network learns and serves
through every door, not what its paper reaches. Ends with an error if one does not pass bicubic
clearly. What is measured is put into scripts/bench/results/zoo.json.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from quality import REPO, SETS, Score, score
from safetensors import safe_open
from zoo import Figures, Row, figures, record, table

SCALE = 2
CLEARLY = 0.5
"""dB over bicubic on each set."""
BICUBIC = figures(33.66, 30.24)
RECIPE = """
version = 1
title = "{name}: a small form, a minute or two"
scale = {scale}
save_every = 1_000_000
log_every = 100
sample_every = 0
workers = 1

[network]
architecture = "{architecture}"
config = {{ {config} }}
init = "{init}"

[data]
folders = []
patch = 64
contrast = 0.02

[[stages]]
name = "l1"
steps = {steps}
batch = 8
losses = [{{ kind = "l1" }}]
optimiser = {{ kind = "muon", rate = 0.01 }}
schedule = {{ kind = "cosine", floor = 0.01, warmup = 30 }}
ema = 0.98
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """A network that learns in a minute or two of one core.

    Attributes:
        architecture: Of `vsr.models`.
        config: Its hyperparameters in TOML.
        paper: dB by set of the paper's own weights at x2, empty if it gives none.
        name: Of the row, the architecture's if empty.
        steps: Of training.
        init: How its weights are drawn.
    """

    architecture: str
    config: str
    paper: Figures
    name: str = ""
    steps: int = 500
    init: str = "default"


SMALL = (
    Small(
        architecture="folded",
        config="channels = 3, features = 32, convs = 4, scale = 2",
        paper={},
        steps=2500,
    ),
    Small(
        architecture="drrn",
        config="features = 16, units = 5, scale = 2",
        paper=figures(37.74, 33.23),
    ),
    Small(
        architecture="edsr",
        config="features = 32, blocks = 4, scale = 2",
        paper=figures(38.11, 33.92),
    ),
    Small(
        architecture="mdsr",
        config='features = 24, blocks = 4, scales = "2", scale = 2',
        paper=figures(38.11, 33.85),
    ),
    Small(
        architecture="rdn",
        config="features = 24, growth = 12, blocks = 3, convs = 3, scale = 2",
        paper=figures(38.24, 34.01),
    ),
    Small(
        architecture="wdsr",
        name="wdsr A",
        config="features = 24, expanded = 96, blocks = 4, scale = 2",
        paper={},
    ),
    Small(
        architecture="wdsr",
        name="wdsr B",
        config="features = 24, expanded = 144, low_rank = 19, blocks = 4, scale = 2",
        paper={},
    ),
    Small(
        architecture="rrdb",
        config="features = 24, growth = 12, blocks = 1, ups = 1",
        paper={},
    ),
    Small(
        architecture="msrresnet",
        config="features = 32, blocks = 4, scale = 2",
        paper={},
    ),
    Small(
        architecture="rcan",
        config="features = 24, groups = 2, blocks = 3, scale = 2",
        paper=figures(38.27, 34.12),
    ),
    Small(
        architecture="san",
        config="features = 24, groups = 2, blocks = 2, scale = 2",
        paper=figures(38.31, 34.07),
    ),
    Small(
        architecture="ignn",
        config="features = 24, blocks = 4, scale = 2",
        paper=figures(38.24, 34.07),
        steps=250,
    ),
    Small(
        architecture="swinir",
        config="embed = 32, depths = [2, 2], heads = [2, 2], hidden = 64, scale = 2",
        paper=figures(38.42, 34.46),
    ),
    Small(
        architecture="dasr",
        config="features = 24, groups = 1, blocks = 3, embedding = 32, scale = 2",
        paper={},
    ),
    Small(
        architecture="dasr_moe",
        config="features = 24, blocks = 3, experts = 3, predictor = 16, scale = 2",
        paper={},
        steps=300,
    ),
    Small(
        architecture="plksr",
        config="features = 32, blocks = 4, kernel = 9, partial = 8, scale = 2",
        paper={},
        steps=300,
    ),
)


def trained(small: Small, data: Path, out: Path) -> tuple[Path, float]:
    """The checkpoint and the seconds that it took."""
    name = small.name or small.architecture
    folder = (out / name.replace(" ", "-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.toml"
    recipe.write_text(
        RECIPE.format(
            name=name,
            architecture=small.architecture,
            config=small.config,
            init=small.init,
            steps=small.steps,
            scale=SCALE,
        ),
        "utf-8",
    )
    begun = time.monotonic()
    run = folder / "run"
    command = [sys.executable, "-m", "vsr", "train", recipe, "--data", data, "-o", run]
    subprocess.run([*map(str, command), "--restart", "--progress", "none"], check=True, cwd=REPO)
    return run / "l1.safetensors", time.monotonic() - begun


def weights(path: Path) -> int:
    """How many numbers a checkpoint holds."""
    with safe_open(path, "pt") as file:
        return sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118 - no dict


def main() -> None:
    shared = REPO.parent / "shared" / "data" / "images"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared / "train" / "cid22_512")
    parser.add_argument("--images", type=Path, default=shared)
    parser.add_argument("--only", nargs="+", default=[], help="architectures")
    parser.add_argument("--out", type=Path, default=Path("runs") / "zoo")
    arguments = parser.parse_args()
    results: list[tuple[Row, dict[str, Score]]] = []
    for small in SMALL:
        if arguments.only and small.architecture not in arguments.only:
            continue
        path, seconds = trained(small, arguments.data, arguments.out)
        note = (
            f"trained here from scratch in {seconds:.0f} s, {weights(path):,} weights; "
            f"bicubic {' / '.join(f'{BICUBIC[name]:.2f}' for name in SETS)}"
        )
        row = Row(
            file=small.name or small.architecture,
            scale=SCALE,
            published={},
            paper=small.paper,
            note=note,
        )
        found = {name: score(str(path), arguments.images / name.lower(), SCALE) for name in SETS}
        results.append((row, {name: value for name, value in found.items() if value}))
        record(*results[-1])
        print(f"{row.file} done", file=sys.stderr)
    print(table(results))
    dull = [
        row.file
        for row, ours in results
        if any(ours[name].psnr < BICUBIC[name] + CLEARLY for name in SETS)
    ]
    if dull:
        sys.exit(f"not clearly past bicubic: {', '.join(dull)}")


if __name__ == "__main__":
    main()
