"""Own kernels beside cuDNN: convolutions, RRDB's blocks, and the fused ends.

    python scripts/bench/kernels.py             540p and 720p, some eight minutes, mostly tuning
    python scripts/bench/kernels.py --quick     540p only, under two minutes

Times are the best of several batches of calls between CUDA events, on tensors that are already
there. cuDNN runs channels_last with its own benchmark on, and what follows its convolution as
PyTorch does it; the own kernel has it in its epilogue. Prints a table and writes
scripts/bench/results/kernels-<device>.json and .png.
"""

import argparse
from pathlib import Path

import torch
import triton
from _report import RESULTS, machine, save, slug
from torch import nn

from vsr.engine.color import Picture
from vsr.engine.devices import DTYPES
from vsr.engine.kernels import available
from vsr.engine.kernels.conv3x3 import TritonConv2d
from vsr.engine.kernels.ends import FusedRoute, LumaEnds, RgbEnds
from vsr.engine.kernels.graphs import Graphs
from vsr.engine.kernels.runners import DenseRunner, PhaseRunner, StackRunner
from vsr.engine.kernels.tuning import on_device, tune, tune_runner
from vsr.engine.route import Route
from vsr.models._base import InputSpec
from vsr.models.compact import Compact, CompactConfig
from vsr.models.rrdb import DenseBlock
from vsr.types import ColorSpec, PixelFormat

SIZES = {"540p": (540, 960), "720p": (720, 1280)}
LAYERS = [
    ("64→64 PReLU", 64, 64, nn.PReLU(64)),
    ("64→32 LeakyReLU", 64, 32, nn.LeakyReLU(0.2)),
    ("160→32 LeakyReLU", 160, 32, nn.LeakyReLU(0.2)),
    ("192→64", 192, 64, None),
    ("3→64 PReLU", 3, 64, nn.PReLU(64)),
    ("64→48", 64, 48, None),
]

type Row = dict[str, object]


def row(work: str, size: str, own: float, other: float, flops: float = 0, **more: object) -> Row:
    found = {"work": work, "input": size, "own_ms": own * 1e3, "reference_ms": other * 1e3} | more
    if flops:
        found |= {"own_tflops": flops / own / 1e12, "reference_tflops": flops / other / 1e12}
    rates = f"{flops / own / 1e12:.0f} | {flops / other / 1e12:.0f}" if flops else "– | –"
    print(
        f"| {work} | {size} | {own * 1e3:.3f} | {other * 1e3:.3f} | {other / own:.2f} | {rates} |",
        flush=True,
    )
    return found


def picture(channels: int, size: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(1, channels, *size, device="cuda", dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last)


def reference(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    return module.to("cuda", dtype).eval().to(memory_format=torch.channels_last)


def convolutions(label: str, dtype: torch.dtype, budget: float) -> list[Row]:
    rows, (height, width) = [], SIZES[label]
    for name, cin, cout, activation in LAYERS:
        conv = reference(nn.Conv2d(cin, cout, 3, padding=1), dtype)
        follow = nn.Identity() if activation is None else reference(activation, dtype)
        own, x = TritonConv2d(conv, activation), picture(cin, (height, width), dtype)
        verdict = tune(own, x, reference=lambda x, c=conv, f=follow: f(c(x)), budget=budget)
        flops = 2 * 9 * cin * cout * height * width
        block = str(verdict.block)
        rows.append(row(name, label, verdict.seconds, verdict.reference, flops, block=block))
    return rows


def blocks(label: str, dtype: torch.dtype, budget: float) -> list[Row]:
    height, width = SIZES[label]
    module = reference(DenseBlock(64, 32), dtype)
    x, own = picture(64, SIZES[label], dtype), DenseRunner(module, dtype)
    tune_runner(own, x, budget=budget)
    weights = sum(c.weight.numel() for c in module.modules() if isinstance(c, nn.Conv2d))
    flops = 2 * weights * height * width
    rows = [
        row(
            "dense block 64+4·32",
            label,
            on_device(lambda: own(x)),
            on_device(lambda: module(x)),
            flops,
        )
    ]
    up = reference(nn.Conv2d(64, 64, 3, padding=1), dtype)
    phases = PhaseRunner(up, dtype)
    tune_runner(phases, x, budget=budget)
    large = nn.Upsample(scale_factor=2, mode="nearest")
    rows.append(
        row(
            "nearest ×2, 64→64",
            label,
            on_device(lambda: phases(x)),
            on_device(lambda: up(large(x))),
        )
    )
    return rows


def stacks(label: str, dtype: torch.dtype, budget: float) -> list[Row]:
    network = reference(Compact(CompactConfig()), dtype)
    x, own = picture(3, SIZES[label], dtype), StackRunner(network, dtype)
    tune_runner(own, x, budget=budget)
    eager = on_device(lambda: network(x))
    graphs, own_graphs = Graphs(network), Graphs(own)
    return [
        row("compact 64×16 x4", label, on_device(lambda: own(x)), eager),
        row(
            "compact, graphs", label, on_device(lambda: own_graphs(x)), on_device(lambda: graphs(x))
        ),
    ]


class Nothing:
    """An upscaler without a network: what is left is the ends."""

    def __init__(self, detail: torch.Tensor, channels: int) -> None:
        self.detail, self.spec = detail, InputSpec(scale=4, channels=channels, overlap=0)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.pixel_shuffle(self.detail, 4)
        return (y + nn.functional.interpolate(x.half(), scale_factor=4, mode="nearest")).float()


def ends(label: str) -> list[Row]:
    (height, width), device = SIZES[label], torch.device("cuda")
    fmt = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
    color = ColorSpec(matrix=1, full_range=False, siting=1)
    source = Picture(width=width, height=height, format=fmt, color=color)
    target = Picture(width=4 * width, height=4 * height, format=fmt, color=color)
    shapes = fmt.plane_shapes(width, height)
    planes = tuple(
        torch.randint(16, 236, (1, *s), device=device, dtype=torch.uint8) for s in shapes
    )
    rows = []
    for channels, kind in ((1, LumaEnds), (3, RgbEnds)):
        detail = picture(16 * channels, SIZES[label], torch.float16)
        own = kind(source, target, device=device)
        route = Route(Nothing(detail, channels), source, target)
        name = "ends, luma x4" if channels == 1 else "ends, RGB x4"
        fused = FusedRoute(lambda _, d=detail: d, own)
        rows.append(
            row(
                name,
                label,
                on_device(lambda f=fused: f(planes)),
                on_device(lambda r=route: r(planes)),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=["fp16", "bf16"], default="fp16")
    parser.add_argument("--quick", action="store_true", help="540p only, little tuning")
    parser.add_argument("--budget", type=float, help="seconds of tuning for a layer")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not available() or not torch.cuda.is_available():
        parser.error("needs a CUDA device and Triton; neither cuDNN nor the kernels run without")
    torch.backends.cudnn.benchmark = True
    dtype, device = DTYPES[arguments.precision], torch.cuda.get_device_name()
    budget = arguments.budget or (8 if arguments.quick else 20)
    print(
        f"{device}, torch {torch.__version__}, triton {triton.__version__}, {arguments.precision}"
    )
    print("\n| work | input | own ms | reference ms | ratio | own TFLOP/s | reference TFLOP/s |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    with torch.inference_mode():
        for label in ["540p"] if arguments.quick else SIZES:
            rows += convolutions(label, dtype, budget)
            rows += blocks(label, dtype, budget)
            rows += stacks(label, dtype, budget)
            rows += ends(label)
    out = arguments.out or RESULTS / f"kernels-{slug(device)}.json"
    about = machine(torch.device("cuda")) | {"triton": triton.__version__}
    save(out, about | {"precision": arguments.precision, "rows": rows}, "kernels")


if __name__ == "__main__":
    main()
