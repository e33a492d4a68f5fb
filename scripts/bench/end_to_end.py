"""Whole jobs, file to file with x264, as a user runs them.

    python scripts/bench/end_to_end.py [--clip examples/clip.mkv] [--frames 300]

Loops the clip to the wanted sizes and length, runs `vsr upscale` in a process of its own, with the
model and precision that it takes by itself, in int8, and with `vsr-realtime` in a film three times
as long and with two presets of x264. Prints the steady rate (from the first written frame to the
last), the rate with start-up, the stage that bounded it, and peak memory. Writes
scripts/bench/results/end_to_end-<processor>.json and .png.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import torch
from _report import RESULTS, machine, save, slug

CASES = (((320, 180), 4), ((640, 360), 2), ((320, 180), 3))
MODELS = {"auto": ("fast",), "vsr-realtime": ("fast", "veryfast")}
"""Presets of x264: its default here, and one for who is in a hurry."""
LENGTHS = {"auto": 1, "vsr-realtime": 3}
"""Of the film, in times of --frames: the faster the job, the more an encoder's end would count."""
PRECISIONS = ("auto", "int8")
LIVE = (2, 4)
"""Scales of vsr-realtime."""


def cases() -> Iterator[tuple[tuple[int, int], int, str, str, str]]:
    """Size, scale, model, precision, preset of every job."""
    for (size, scale), (model, presets) in itertools.product(CASES, MODELS.items()):
        if model == "auto" or scale in LIVE:
            for precision, preset in itertools.product(PRECISIONS, presets):
                yield size, scale, model, precision, preset


def looped(clip: Path, target: Path, size: tuple[int, int], frames: int) -> None:
    """Re-encodes a clip again and again at another size."""
    with av.open(str(clip)) as source:
        pictures = [f.reformat(*size, format="yuv420p") for f in source.decode(video=0)]
    with av.open(str(target), "w") as sink:
        stream = sink.add_stream("libx264", rate=25, options={"crf": "16", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for n in range(frames):
            picture = pictures[n % len(pictures)]
            picture.pts, picture.time_base, picture.pict_type = n, Fraction(1, 25), 0
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))


def measure(source: Path, target: Path, scale: int, extra: list[str]) -> dict:
    command = [sys.executable, "-m", "vsr", "upscale", str(source), "-s", str(scale)]
    command += ["-o", str(target), "-y", "--progress", "json", *extra]
    began = time.perf_counter()
    done = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout if line.startswith("{")]
    _, status, usage = os.wait4(done.pid, 0)
    if status:
        msg = f"failed: {' '.join(command)}"
        raise SystemExit(msg)
    whole = time.perf_counter() - began
    moving = [line for line in lines if line.get("frames") and "seconds" in line]
    first, last = moving[0], moving[-1]
    steady = (last["frames"] - first["frames"]) / (last["seconds"] - first["seconds"])
    return {
        "steady_fps": steady,
        "fps": last["frames"] / whole,
        "seconds": whole,
        "bottleneck": last.get("bottleneck"),
        "peak_mb": usage.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=Path("examples/clip.mkv"))
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    arguments, extra = parser.parse_known_args()
    name = torch.cpu.get_capabilities().get("cpu_name") or "cpu"
    rows = []
    print(f"{name}, {os.cpu_count()} threads, torch {torch.__version__}\n")
    head = (
        "| input | scale | model | precision | x264 | steady fps | with start-up | bounded by "
        "| memory |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        for size, scale, model, precision, preset in cases():
            frames = arguments.frames * LENGTHS[model]
            source = Path(folder) / f"{size[1]}-{frames}.mkv"
            if not source.exists():
                looped(arguments.clip, source, size, frames)
            wish = ["-n", model, "--precision", precision, "--preset", preset, *extra]
            row = measure(source, Path(folder) / "out.mkv", scale, wish)
            case = {"input": f"{size[0]}×{size[1]}", "scale": scale, "model": model}
            case |= {"precision": precision, "preset": preset, "frames": frames}
            rows.append(case | row)
            lines.append(
                f"| {case['input']} | {scale} | {model} | {precision} | {preset} | "
                f"{row['steady_fps']:.1f} | {row['fps']:.1f} | {row['bottleneck']} | "
                f"{row['peak_mb']:.0f} MB |"
            )
            print(lines[-1], flush=True)
    out = arguments.out or RESULTS / f"end_to_end-{slug(name)}.json"
    facts = machine() | {"processor": name, "threads": os.cpu_count()}
    save(out, facts | {"rows": rows}, "end_to_end")
    if arguments.readme:
        told = f"{name}, {os.cpu_count()} threads, torch {torch.__version__}:"
        readme = Path(__file__).parents[2] / "README.md"
        text = readme.read_text("utf-8")
        head, _, rest = text.partition("<!-- speed -->")
        _, mark, tail = rest.partition("<!-- /speed -->")
        table = "\n".join([told, "", *lines])
        readme.write_text(f"{head}<!-- speed -->\n{table}\n{mark}{tail}", "utf-8")


if __name__ == "__main__":
    main()
