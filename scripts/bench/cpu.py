"""Time per frame of the networks on the CPU, by every engine that is installed, in one run.

    python scripts/bench/cpu.py [--rounds 7] [--frames 3] [--threads 2] [--weights FILE]
    python scripts/bench/cpu.py --short    a trial at a quarter of the sizes, writes nothing

Compact 64×16 x4 at 320×180 and the embedded models, x4 at 320×180 and x2 at 640×360: PyTorch eager,
vsr's own path, OpenVINO, ONNX Runtime and ncnn, in every precision that they have. `alone`: one
caller with all threads. `side by side`: as many callers as threads, as the pipeline does with a
film. All take turns within a round, so that a machine that slows down slows all of them; a figure
is the best of the rounds. Beside it: processor time, rate of multiply-adds, distance from float32.

What is not installed is left out and named: pip install openvino onnxruntime onnx ncnn nncf (int8).
The picture is noise with the spectrum of photographs; without --weights, compact is untrained and
its distances mean nothing. Writes scripts/bench/results/cpu-<processor>.json and .png.

glibc gives big blocks back to the kernel at every free; the page faults cost as much as a small
network. A library may not change that, a program may:

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 python scripts/bench/cpu.py
"""

import argparse
import importlib.metadata
import importlib.util
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import machine, processor, slug, table, write
from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.engine.devices import cpu_has_bf16
from vsr.engine.engines.openvino import OpenVinoNetwork
from vsr.engine.engines.registry import ENGINES, open_network
from vsr.engine.fused import FusedConv2d, can_fuse
from vsr.engine.loading import find_model
from vsr.models import build
from vsr.models._base import InputSpec
from vsr.models.compact import ARCH, Compact, CompactConfig

CPU = torch.device("cpu")
PACKAGES = ("torch", "openvino", "onnxruntime", "onnx", "ncnn", "nncf", "numpy")
_NCNN_MAGIC = "7767517"

type Run = Callable[[Tensor], Tensor]


def picture(channels: int, height: int, width: int) -> Tensor:
    """Noise whose power falls with the square of the frequency, as that of photographs does."""
    generator = torch.Generator().manual_seed(0)
    white = torch.fft.rfft2(torch.rand(1, channels, height, width, generator=generator))
    down, right = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    y = torch.fft.irfft2(white / (down**2 + right**2).sqrt().clamp(1 / width), s=(height, width))
    return ((y - y.mean()) / (6 * y.std()) + 0.5).clamp(0, 1).contiguous()


def subjects(weights: Path | None) -> Iterator[tuple[str, nn.Module, InputSpec, tuple[int, int]]]:
    """(name, module, spec, (height, width)) of what is timed."""
    torch.manual_seed(0)
    module, spec = Compact(CompactConfig()).eval(), ARCH.spec(CompactConfig())
    if weights is not None:
        module, spec = build(read_checkpoint(weights).state, {})
    yield "compact 64×16 x4", module.eval(), spec, (180, 320)
    for factor, size in ((4, (180, 320)), (2, (360, 640))):
        model = find_model(factor=Fraction(factor))
        yield model.name, model.module.eval(), model.spec, size


def ways(module: nn.Module, spec: InputSpec, size: tuple[int, int]) -> dict[str, Run]:
    """What can compute a module here, by name and precision."""
    found: dict[str, Run] = {"torch eager fp32": module}
    precisions = ["fp32", "bf16"] if cpu_has_bf16() else ["fp32"]
    for name, engine in ENGINES.items():
        if engine.installed and "cpu" in engine.devices:
            for precision in precisions if name != "onnx" else ["fp32"]:
                title = f"{'vsr torch' if name == 'torch' else name} {precision}"
                found[title] = open_network(name, module, spec, CPU, precision)
    if ENGINES["openvino"].installed and importlib.util.find_spec("nncf"):
        found["openvino int8"] = int8(module, spec, size)
    if importlib.util.find_spec("ncnn") and isinstance(module, Compact):
        found |= {f"ncnn {p}": Ncnn(module, p == "bf16") for p in precisions}
    return found


def int8(module: nn.Module, spec: InputSpec, size: tuple[int, int]) -> OpenVinoNetwork:
    """OpenVINO with a body quantised by NNCF, calibrated on crops of a picture.

    The first and the last convolution keep the other precision: for the embedded models that is
    worth 6 dB and costs nothing.
    """
    import nncf  # noqa: PLC0415 - optional

    network = OpenVinoNetwork(module, spec, CPU, "bf16" if cpu_has_bf16() else "fp32")
    whole = picture(spec.channels or 1, 2 * size[0], 2 * size[1])
    crops = [
        whole[..., y : y + 128, x : x + 128].numpy()
        for y in range(0, size[0], 64)
        for x in range(0, size[1], 64)
    ]
    nodes = network._model.get_ordered_ops()  # noqa: SLF001
    convs = [n.get_friendly_name() for n in nodes if n.get_type_name() == "Convolution"]
    network._model = nncf.quantize(  # noqa: SLF001
        network._model,  # noqa: SLF001
        nncf.Dataset(crops),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(crops),
        ignored_scope=nncf.IgnoredScope(names=[convs[0], convs[-1]]),
    )
    return network


class Ncnn:
    """Compact by ncnn, written out as its two files.

    Args:
        module: Trained or not.
        bf16: Whether activations are stored, and where possible computed, in bfloat16.
    """

    def __init__(self, module: Compact, bf16: bool) -> None:
        import ncnn  # noqa: PLC0415 - optional

        self._ncnn, self._bf16, self._nets = ncnn, bf16, {}
        self._lines, self._weights = _ncnn_files(module)

    def _net(self, threads: int) -> Any:
        if threads not in self._nets:
            net = self._ncnn.Net()
            net.opt.num_threads, net.opt.use_vulkan_compute = threads, False
            net.opt.use_bf16_storage = self._bf16
            net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
            with tempfile.TemporaryDirectory() as folder:
                param, weights = Path(folder, "net.param"), Path(folder, "net.bin")
                param.write_text(self._lines)
                weights.write_bytes(self._weights)
                net.load_param(str(param))
                net.load_model(str(weights))
            self._nets[threads] = net
        return self._nets[threads]

    def __call__(self, x: Tensor) -> Tensor:
        extractor = self._net(torch.get_num_threads()).create_extractor()
        extractor.input("x", self._ncnn.Mat(x[0].numpy()))
        return torch.from_numpy(np.array(extractor.extract("y")[1]))[None]


def _ncnn_files(module: Compact) -> tuple[str, bytes]:
    """The graph as text and the weights as bytes."""
    layers, weights, last, blobs = ["Input x 0 1 x", "Split s 1 2 x b0 base"], [], "b0", 3
    for index, layer in enumerate(module.body):
        out = f"l{index}"
        if isinstance(layer, nn.Conv2d):
            sizes = {0: layer.out_channels, 1: 3, 4: 1, 5: 1, 6: layer.weight.numel()}
            kind, values = "Convolution", " ".join(f"{k}={v}" for k, v in sizes.items())
            weights += [np.zeros(1, np.float32), layer.weight, layer.bias]
        elif isinstance(layer, nn.PReLU):
            kind, values = "PReLU", f"0={layer.weight.numel()}"
            weights.append(layer.weight)
        else:
            kind, values = "ReLU", f"0={getattr(layer, 'negative_slope', 0.0)}"
        layers.append(f"{kind} {out} 1 1 {last} {out} {values}")
        last, blobs = out, blobs + 1
    s = module.scale
    layers += [
        f"PixelShuffle p 1 1 {last} p 0={s}",
        f"Interp i 1 1 base i 0=1 1={float(s)} 2={float(s)}",
        "BinaryOp a 2 1 p i y 0=0",
    ]
    head = f"{_NCNN_MAGIC}\n{len(layers)} {blobs + 3}\n"
    arrays = [w.detach().numpy() if isinstance(w, Tensor) else w for w in weights]
    return head + "\n".join(layers) + "\n", b"".join(a.astype("<f4").tobytes() for a in arrays)


def convolution(precision: str) -> Run:
    """64 to 64 channels, 3×3, with bias and ReLU: what all these networks consist of."""
    layer = nn.Conv2d(64, 64, 3, padding=1).requires_grad_(requires_grad=False)
    layer = layer.to(memory_format=torch.channels_last)
    return FusedConv2d(layer.bfloat16() if precision == "bf16" else layer, nn.ReLU())


def flops(module: nn.Module, size: tuple[int, int]) -> float:
    """Two per multiply-add of a network whose convolutions all run at the input's size."""
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return 2.0 * sum(layer.weight.numel() for layer in convs) * size[0] * size[1]


def timed(run: Run, x: Tensor, frames: int, callers: int, threads: int) -> tuple[float, float]:
    """Milliseconds per frame, of the clock and of all cores, by callers with their own threads."""

    def work(count: int) -> None:
        torch.get_num_threads()  # a thread's first look takes over the program's number
        torch.set_num_threads(max(1, threads // callers))
        with torch.inference_mode():
            for _ in range(count):
                run(x)

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(work, [1] * callers))
        began, used = time.perf_counter(), time.process_time()
        list(pool.map(work, [frames] * callers))
        spent = time.perf_counter() - began, time.process_time() - used
    torch.set_num_threads(threads)
    return 1000 * spent[0] / frames / callers, 1000 * spent[1] / frames / callers


def decibels(run: Run, module: nn.Module, x: Tensor) -> float | None:
    """PSNR from the module in float32; None if equal."""
    with torch.inference_mode():
        error = float((run(x).float() - module(x)).square().mean())
    return -10 * math.log10(error) if error > 1e-12 else None


def measure(name: str, runs: dict[str, Run], x: Tensor, work: float, options: Any) -> list[dict]:
    """Rows of one subject: every way, alone and side by side, in interleaved rounds."""
    callers = {"alone": 1, "side by side": options.threads}
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for _ in range(options.rounds):
        for way, run in runs.items():
            for mode, count in callers.items():
                now = timed(run, x, options.frames, count, options.threads)
                before = best.get((way, mode), now)
                best[way, mode] = min(now[0], before[0]), min(now[1], before[1])
    return [
        {
            "network": name,
            "engine": way,
            "mode": mode,
            "milliseconds": round(wall, 2),
            "processor_milliseconds": round(used, 2),
            "gflops": round(work / wall / 1e6, 1),
        }
        for (way, mode), (wall, used) in best.items()
    ]


def show(rows: list[dict]) -> None:
    """Prints the table and, for each network and mode, the fastest of each precision."""
    head = ["network", "engine", "mode", "ms/frame", "processor ms", "GFLOP/s", "dB from fp32"]
    lines = [
        [
            row["network"],
            row["engine"],
            row["mode"],
            f"{row['milliseconds']:.1f}",
            f"{row['processor_milliseconds']:.1f}",
            f"{row['gflops']:.0f}",
            "" if row.get("decibels") is None else f"{row['decibels']:.1f}",
        ]
        for row in rows
    ]
    print(table(head, lines))
    print()
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["mode"], row["engine"].split()[-1]), []).append(row)
    for (name, mode, precision), group in groups.items():
        first, *rest = sorted(group, key=lambda row: row["milliseconds"])
        behind = ", ".join(
            f"{row['engine']} {row['milliseconds'] / first['milliseconds'] - 1:+.0%}"
            for row in rest
        )
        print(f"{name}, {mode}, {precision}: {first['engine']} is fastest; {behind or 'alone'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=3, help="of each caller in a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--weights", type=Path, help="of compact 64×16 x4, for its distances")
    parser.add_argument("--short", action="store_true", help="one small round; writes nothing")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.frames = 1, 1
    torch.set_num_threads(options.threads)
    here = {n: importlib.metadata.version(n) for n in PACKAGES if importlib.util.find_spec(n)}
    if absent := [name for name in PACKAGES if name not in here]:
        print(f"left out, not installed: {', '.join(absent)}")
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    rows: list[dict] = []
    if can_fuse():
        x = torch.rand(1, 64, 180, 320).contiguous(memory_format=torch.channels_last)
        kinds = ["fp32", "bf16"] if cpu_has_bf16() else ["fp32"]
        runs = {f"oneDNN {kind}": convolution(kind) for kind in kinds}
        inputs = flops(nn.Conv2d(64, 64, 3), (180, 320))
        rows += measure("convolution 64→64", runs, x, inputs, options)
    for name, module, spec, whole in subjects(options.weights):
        size = (whole[0] // 4, whole[1] // 4) if options.short else whole
        x = picture(spec.channels or 1, *size)
        runs = ways(module, spec, size)
        found = measure(name, runs, x, flops(module, size), options)
        distances = {way: decibels(run, module, x) for way, run in runs.items()}
        rows += [row | {"decibels": distances[row["engine"]]} for row in found]
        print(f"{name} at {size[1]}×{size[0]}: done", flush=True)
    print()
    show(rows)
    if options.short:
        return
    name = f"cpu-{slug(processor())}"
    facts = {
        "machine": machine() | {"packages": here},
        "allocator": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
        "load_at_start": load,
        "threads": options.threads,
        "rounds": options.rounds,
        "frames": options.frames,
        "weights": options.weights.name if options.weights else None,
        "rows": rows,
    }
    print(f"\nwritten to {write(name, facts)}")


if __name__ == "__main__":
    main()
