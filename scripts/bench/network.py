"""Speed of the networks and of the pipeline without files, beside the device's matrix limit.

    python scripts/bench/network.py --device cuda            all networks, 480p to 1080p
    python scripts/bench/network.py --device cpu --quick     the embedded models only

For each network: frames per second of the bare module on a tensor that is already there, of the
pipeline from integer planes to integer planes, and the share of the measured matrix-multiplication
rate that the bare module reaches. On a GPU each is computed eagerly and by the own kernels in
graphs, which take what is fastest of own convolutions, cuDNN's and the eager route; --verbose shows
which. --search 8 lets the own convolutions search for their blocks, 8 seconds for each different
one, and remember them. Writes scripts/bench/results/network-<device>.json
and .png.
"""

import argparse
import logging
import platform
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from _report import RESULTS, machine, save, slug
from torch import nn

from vsr.engine.color import Picture
from vsr.engine.devices import DTYPES, resolve_device
from vsr.engine.engines.registry import available_engines, engine_precision, open_network
from vsr.engine.kernels.remembered import searching
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.engine.tiled import Padded
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec
from vsr.models.compact import ARCH as COMPACT
from vsr.models.compact import CompactConfig
from vsr.models.rrdb import ARCH as RRDB
from vsr.models.rrdb import RRDBConfig
from vsr.types import ColorSpec, Frame, PixelFormat

SIZES = {"180p": (320, 180), "360p": (640, 360), "480p": (854, 480), "720p": (1280, 720)}
SIZES |= {"1080p": (1920, 1080)}
FAST = {"channels": 1, "features": 32, "convs": 8, "activation": "relu"}
NETWORKS = {
    "vsr-fast x2": (COMPACT, CompactConfig(scale=2, **FAST)),
    "vsr-fast x4": (COMPACT, CompactConfig(scale=4, **FAST)),
    "compact 64×16 x4": (COMPACT, CompactConfig()),
    "compact 64×32 x4": (COMPACT, CompactConfig(convs=32)),
    "RRDB-6 x4": (RRDB, RRDBConfig(blocks=6)),
    "RRDB-23 x4": (RRDB, RRDBConfig()),
    "RRDB-23 x2": (RRDB, RRDBConfig(unshuffle=2)),
}


def seconds(device: torch.device, work: Callable[[], object], budget: float) -> float:
    """Median seconds of one call, after a warm-up."""

    def once() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()
    first = once()
    count = max(3, min(30, int(budget / max(first, 1e-4))))
    return float(np.median([once() for _ in range(count)]))


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measured FLOP/s of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn(side, side, device=device).to(dtype)
    return 2 * side**3 / seconds(device, lambda: a @ a, 1.0)


def flops_per_pixel(module: nn.Module, spec: InputSpec) -> float:
    """Two per multiply-add of the convolutions, per pixel of the input."""
    total = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += 2 * out.shape[2] * out.shape[3] * layer.weight.numel() // layer.groups

    meta = module.to("meta")
    for layer in meta.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    meta(torch.empty(1, spec.channels, 64, 64, device="meta"))
    return total / 64**2


def frames(size: tuple[int, int], count: int) -> list[Frame]:
    """Two pictures in turns: one that stayed would be computed once."""
    fmt = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
    generator = np.random.default_rng(0)
    shapes = fmt.plane_shapes(*size)
    pictures = [
        tuple(generator.integers(16, 236, s, dtype=np.uint8) for s in shapes) for _ in range(2)
    ]
    color = ColorSpec(matrix=1, full_range=False, siting=1)
    base = {"format": fmt, "color": color, "time_base": Fraction(1, 25)}
    return [Frame(pts=n, planes=pictures[n % 2], **base) for n in range(count)]


def measure(
    name: str, size: tuple[int, int], device: torch.device, precision: str, engine: str
) -> dict:
    architecture, config = NETWORKS[name]
    spec = architecture.spec(config)
    torch.manual_seed(0)
    chosen = engine_precision(engine, precision, device, spec)
    pixels = size[0] * size[1]
    batch = max(1, min(8, 1_000_000 // pixels)) if device.type == "cuda" else 1
    upscaler = Padded(open_network(engine, architecture.build(config), spec, device, chosen))
    x = torch.rand(batch, spec.channels, size[1], size[0], device=device)
    with torch.inference_mode():
        bare = seconds(device, lambda: upscaler(x), 2.0) / batch
    stream = frames(size, max(6 * batch, min(200, int(2.0 / bare))))
    picture = Picture(width=size[0], height=size[1], format=stream[0].format, color=stream[0].color)
    s = spec.scale
    target = Picture(
        width=s * size[0], height=s * size[1], format=picture.format, color=picture.color
    )
    settings = Settings(precision=chosen, batch=batch)
    pipeline = FrameUpscaler(lambda _: upscaler, device, picture, target, settings)
    for _ in pipeline(stream[: 4 * batch]):
        pass
    began = time.perf_counter()
    done = sum(1 for _ in pipeline(stream))
    whole = (time.perf_counter() - began) / done
    flops = flops_per_pixel(architecture.build(config), spec) * pixels
    return {
        "network": name,
        "engine": engine,
        "precision": chosen,
        "batch": batch,
        "network_fps": 1 / bare,
        "pipeline_fps": 1 / whole,
        "flops": flops,
        "rate": flops / bare,
    }


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.cpu.get_capabilities().get("cpu_name") or platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--sizes", nargs="*", choices=SIZES)
    parser.add_argument("--search", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--verbose", action="store_true", help="what the engines decide")
    parser.add_argument("--engines", nargs="*", help="default: torch, and triton on a GPU")
    parser.add_argument("--quick", action="store_true", help="embedded models only, small sizes")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING)
    device = resolve_device(arguments.device)
    names = [n for n in NETWORKS if not arguments.quick or n.startswith("vsr")]
    sizes = arguments.sizes or (["180p", "360p"] if arguments.quick else ["480p", "720p", "1080p"])
    limits = {p: matrix_rate(device, t) for p, t in DTYPES.items() if _useful(p, device)}
    print(f"{describe(device)}, torch {torch.__version__}")
    print("matrix limit: " + ", ".join(f"{p} {r / 1e12:.2f} TFLOP/s" for p, r in limits.items()))
    own = [n for n in ("torch", "triton") if n in available_engines(device)]
    columns = ("network", "input", "engine", "precision", "batch")
    columns += ("network fps", "pipeline fps", "of limit")
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    rows = []
    jobs = [(n, s, e) for n in names for s in sizes for e in arguments.engines or own]
    for name, label, engine in jobs:
        try:
            with searching(arguments.search):
                row = measure(name, SIZES[label], device, arguments.precision, engine)
        except (DeviceError, UsageError) as error:
            print(f"| {name} | {label} | {engine} | {error} | – | – | – | – |", flush=True)
            continue
        row |= {"input": label, "share": row["rate"] / limits[row["precision"]]}
        rows.append(row)
        print(
            f"| {name} | {label} | {engine} | {row['precision']} | {row['batch']} | "
            f"{row['network_fps']:.1f} | {row['pipeline_fps']:.1f} | {row['share']:.0%} |",
            flush=True,
        )
    out = arguments.out or RESULTS / f"network-{slug(describe(device))}.json"
    save(out, machine(device) | {"limits": limits, "rows": rows}, "network")


def _useful(precision: str, device: torch.device) -> bool:
    return not (precision == "fp16" and device.type == "cpu")


if __name__ == "__main__":
    main()
