"""Where the time of a job goes: the network alone, the pipeline without files, the whole job.

    python scripts/bench/pipeline.py [--device auto] [--sizes 640x360:2 320x180:4] [--frames 60]

The network alone runs on tensors that are already on the device, with as many workers as the job
has. The pipeline goes from integer planes to integer planes. The whole job reads H.264 and writes
x264; shares are of its time. Prints a table and writes results/pipeline-<device>.json and .png.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path

import torch
from _report import machine, slug, table, write
from end_to_end import looped

import vsr
from vsr.cli.allocator import keep_freed_memory
from vsr.engine.assembly import Wishes, frame_upscaler
from vsr.engine.color import Picture
from vsr.engine.devices import resolve_device
from vsr.engine.loading import factory, find_model, settings_for
from vsr.types import Frame


def network_alone(
    device: torch.device, size: tuple[int, int], scale: int, frames: int
) -> tuple[float, int]:
    """Frames per second of the network, and the number of workers."""
    model = find_model(factor=Fraction(scale))
    settings = settings_for(model, device, size, stream=True)
    network = factory(model, device)(settings)
    x = torch.rand(settings.batch, model.spec.channels or 1, size[1], size[0], device=device)
    cores = torch.get_num_threads()

    def begin() -> None:
        torch.get_num_threads()
        torch.set_num_threads(max(1, cores // settings.workers))

    def once(_: int) -> None:
        with torch.inference_mode():
            network(x)

    with ThreadPoolExecutor(settings.workers, initializer=begin) as pool:
        list(pool.map(once, range(2 * settings.workers)))
        torch.set_num_threads(cores)
        settle(device)
        began = time.perf_counter()
        list(pool.map(once, range(-(-frames // settings.batch))))
        settle(device)
        seconds = time.perf_counter() - began
    return -(-frames // settings.batch) * settings.batch / seconds, settings.workers


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def without_files(device: str, pictures: list[Frame], scale: int) -> float:
    """Frames per second from planes to planes."""
    first = pictures[0]
    color = first.color.resolved(first.width, first.height, first.format.family)
    ends = [
        Picture(width=k * first.width, height=k * first.height, format=first.format, color=color)
        for k in (1, scale)
    ]
    model = find_model(factor=Fraction(scale))
    upscaler = frame_upscaler(model, *ends, Wishes(device=device, frames=None))
    for _ in upscaler(pictures[:6]):
        pass
    began = time.perf_counter()
    count = sum(1 for _ in upscaler(pictures))
    return (count - upscaler.reused) / (time.perf_counter() - began)


def whole(source: Path, target: Path, scale: int, device: str) -> vsr.JobResult:
    return vsr.upscale(
        source, target, scale=scale, device=device, sink=vsr.SinkOptions(overwrite=True)
    )


def best(rounds: int, work: Callable[[], float]) -> float:
    return max(work() for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sizes", nargs="+", default=["640x360:2", "320x180:4"])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clip", type=Path, default=Path("examples/clip.mkv"))
    arguments = parser.parse_args()
    keep_freed_memory()
    device = resolve_device(arguments.device)
    rows, facts = [], []
    for asked in arguments.sizes:
        numbers = asked.replace("x", ":").split(":")
        width, height, scale = map(int, numbers)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in.mkv"
            looped(arguments.clip, source, (width, height), arguments.frames)
            with vsr.open_source(source) as opened:
                pictures = list(islice(opened, arguments.frames))
            found = network_alone(device, (width, height), scale, 2)[1]
            network = best(
                arguments.rounds,
                lambda: network_alone(device, (width, height), scale, len(pictures))[0],  # noqa: B023
            )
            pipeline = best(arguments.rounds, lambda: without_files(str(device), pictures, scale))  # noqa: B023
            done = whole(source, Path(folder) / "out.mkv", scale, str(device))
        fps = (done.frames - done.reused) / done.seconds
        busy = ", ".join(f"{stage} {share:.0%}" for stage, share in done.busy.items())
        rows.append(
            [asked, found, f"{network:.1f}", f"{pipeline:.1f}", f"{pipeline / network:.0%}",
             f"{fps:.1f}", busy]
        )  # fmt: skip
        facts.append(
            {
                "input": asked,
                "workers": found,
                "network_fps": network,
                "pipeline_fps": pipeline,
                "whole_fps": fps,
                "busy": done.busy,
                "bottleneck": done.bottleneck,
            }
        )
    head = [
        "input:scale",
        "workers",
        "network fps",
        "pipeline fps",
        "of network",
        "job fps",
        "busy",
    ]
    sys.stdout.write(table(head, rows) + "\n")
    about = machine(device)
    name = slug(about["device"] if device.type == "cuda" else about["processor"])
    write(f"pipeline-{name}", {"machine": about, "rows": facts})


if __name__ == "__main__":
    main()
