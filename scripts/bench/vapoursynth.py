"""Time per frame through the VapourSynth filter beside the bare network, 640×360 to 1280×720.

    python scripts/bench/vapoursynth.py [--device cpu] [--frames 20] [--rounds 7]

Three things are timed in turns, so that a machine that slows down slows all of them: the embedded
x2 network on a tensor that is already there, the engine from planes to planes, and the filter with
frames asked for in order. A row's figure is the median of its rounds. Written with the machine to
scripts/bench/results/vapoursynth.json and .png.

On the CPU glibc gives freed pictures back to the kernel, more or less often in each row, and page
faults then hide what is to be measured; a library may not change that, a host may:

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 python scripts/bench/vapoursynth.py
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from _report import machine, write

HERE = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p).resolve() != HERE]  # this file hides its namesake

# ruff: noqa: E402 - so the imports come after
import numpy as np
import torch
import vapoursynth as vs

from vsr.engine.assembly import Wishes, frame_upscaler
from vsr.engine.color import Picture
from vsr.engine.devices import resolve_device
from vsr.engine.loading import factory, find_model, settings_for
from vsr.types import Frame
from vsr.vapoursynth import upscale
from vsr.vapoursynth._clip import pixel_format, read_frame

WIDTH, HEIGHT = 640, 360
FORMATS = ("GRAY8", "YUV420P8", "YUV420P10", "RGBS")
TAGS = {"_Matrix": 1, "_Range": 0, "_ChromaLocation": 0}


def source(name: str, count: int) -> vs.VideoNode:
    """Two noise frames in turns, since one that stayed would be computed once; free to ask for."""
    generator = np.random.default_rng(0)
    blank = vs.core.std.BlankClip(
        width=WIDTH, height=HEIGHT, format=getattr(vs, name), length=2, keep=True
    )

    def draw(n: int, f: vs.VideoFrame) -> vs.VideoFrame:  # noqa: ARG001
        frame = f.copy()
        for p in range(frame.format.num_planes):
            plane = np.asarray(frame[p])
            values = generator.random(plane.shape)
            top = 1 if plane.dtype.kind == "f" else (1 << frame.format.bits_per_sample) - 1
            np.copyto(plane, values * top, casting="unsafe")
        return frame

    tags = TAGS if not name.startswith("RGB") else {"_Matrix": 0, "_Range": 1}
    noise = vs.core.std.SetFrameProps(vs.core.std.ModifyFrame(blank, blank, draw), **tags)
    vs.core.std.SetVideoCache(noise, mode=1, fixedsize=1, maxsize=16)
    return vs.core.std.Loop(noise, -(-count // 2))


def bare(device: torch.device, channels: int) -> Callable[[int], None]:
    """The network alone, on one tensor again and again."""
    model = find_model(factor=Fraction(2))
    network = factory(model, device)(settings_for(model, device, (WIDTH, HEIGHT), batch=1))
    x = torch.rand(1, channels, HEIGHT, WIDTH, device=device)

    def run(count: int) -> None:
        with torch.inference_mode():
            for _ in range(count):
                network(x)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def engine(name: str, device: str) -> Callable[[int], None]:
    """Planes in, planes out, without VapourSynth."""
    fmt = pixel_format(vs.core.get_video_format(getattr(vs, name)))
    clip = source(name, 2)
    pair = [read_frame(clip.get_frame(n), n, Fraction(25)) for n in range(2)]
    color = pair[0].color.resolved(WIDTH, HEIGHT, fmt.family)
    ends = [Picture(width=k * WIDTH, height=k * HEIGHT, format=fmt, color=color) for k in (1, 2)]
    upscaler = frame_upscaler(find_model(factor=Fraction(2)), *ends, Wishes(device=device, batch=1))

    def run(count: int) -> None:
        frames: list[Frame] = [pair[n % 2] for n in range(count)]
        for _ in upscaler(frames):
            pass

    return run


def through_filter(name: str, device: str) -> Callable[[int], None]:
    """Frames of the filter, in order; new ones every time, so that no cache helps."""
    clip = upscale(source(name, 100_000), scale=2, device=device, batch_size=1)
    starts = iter(range(0, clip.num_frames, 1000))

    def run(count: int) -> None:
        start = next(starts)
        asked = clip[start : start + count]
        for _ in asked.frames(close=True, collect_garbage=False):  # vspipe does not collect either
            pass

    return run


def timed(work: Callable[[int], None], frames: int) -> tuple[float, float]:
    """Milliseconds per frame: of the clock, and of all processor cores together."""
    began, used = time.perf_counter(), time.process_time()
    work(frames)
    spent = time.perf_counter() - began, time.process_time() - used
    return 1000 * spent[0] / frames, 1000 * spent[1] / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--frames", type=int, default=20, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    works = {"network": bare(device, 1)}
    for name in arguments.formats:
        works[f"engine {name}"] = engine(name, arguments.device)
        works[f"filter {name}"] = through_filter(name, arguments.device)
    for work in works.values():
        work(3)
    rounds = [
        {name: timed(work, arguments.frames) for name, work in works.items()}
        for _ in range(arguments.rounds)
    ]
    table = {
        name: [statistics.median(row[name][k] for row in rounds) for k in (0, 1)] for name in works
    }
    bare_time = table["network"]
    print("| what | ms per frame | beside the network | processor ms | beside the network |")
    print("|---|---|---|---|---|")
    for name, values in table.items():
        cells = [
            f"{v:.1f} | {100 * (v / n - 1):+.1f} %" for v, n in zip(values, bare_time, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    core = f"R{vs.core.core_version.release_major}"
    facts = {
        "size": f"{WIDTH}x{HEIGHT} x2, vsr-fast",
        "machine": machine(device) | {"vapoursynth": core},
        "allocator": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
        "threads": torch.get_num_threads(),
        "frames": arguments.frames,
        "rounds": arguments.rounds,
        "milliseconds": {name: round(wall, 2) for name, (wall, _) in table.items()},
        "processor_milliseconds": {name: round(used, 2) for name, (_, used) in table.items()},
    }
    write("vapoursynth", facts)


if __name__ == "__main__":
    main()
