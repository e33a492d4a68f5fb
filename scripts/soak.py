"""Endurance: a long made-up film through `vsr pipe` or `vsr upscale`, or signals at any moment.

    python scripts/soak.py --hours 6          six hours of 24 fps at 32x24, through a pipe
    python scripts/soak.py --hours 6 --file   the same as a file job, cut into segments
    python scripts/soak.py --signals 500      a stop signal at 500 drawn moments of a short job

Prints the memory and the open files of the program over time, and fails where they grow. What came
out is kept in scripts/bench/results/soak.json.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "scripts" / "bench"))

from _report import machine  # noqa: E402 - it lies with the benchmarks

RATE = 24
SIZE = (32, 24)
VSR = (sys.executable, "-m", "vsr")
SETTINGS = ("-s", "2", "-n", "bicubic", "--device", "cpu")
RESULTS = REPO / "scripts" / "bench" / "results" / "soak.json"
GROWTH = 32 << 20
"""Bytes that the peak of the second half may lie above that of the second eighth."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The program at one moment."""

    frames: int
    memory: int
    handles: int
    threads: int


class Watch:
    """Looks at a process now and then.

    Args:
        pid: Which.
        total: Frames that it will do, for the shares.
    """

    def __init__(self, pid: int, total: int) -> None:
        self._folder, self._total = Path(f"/proc/{pid}"), total
        self.samples: list[Sample] = []
        self.facts: dict[str, float] = {}
        self._told, self._began = 0, time.monotonic()

    def look(self, frames: int) -> None:
        """Takes a sample, and prints each sixteenth of the way."""
        with suppress(OSError, IndexError):
            pages = int((self._folder / "statm").read_text("ascii").split()[1])
            handles = len(list((self._folder / "fd").iterdir()))
            threads = len(list((self._folder / "task").iterdir()))
            memory = pages * os.sysconf("SC_PAGE_SIZE")
            self.samples.append(Sample(frames, memory, handles, threads))
            if frames * 16 // self._total >= self._told:
                self._told += 1
                spent = time.monotonic() - self._began
                print(
                    f"{frames:8} frames  {frames / RATE / 3600:5.2f} h of film  {spent:6.0f} s  "
                    f"{memory / 2**20:7.1f} MiB  {handles:3} files  {threads:3} threads",
                    flush=True,
                )

    def verdict(self) -> int:
        """0 if nothing has grown since the second eighth, 1 if something has."""
        early = [s for s in self.samples if 1 / 8 <= s.frames / self._total <= 1 / 4]
        late = [s for s in self.samples if 1 / 2 <= s.frames / self._total <= 15 / 16]
        if not early or not late:
            print("too short to judge")
            return 1
        grown = max(s.memory for s in late) - max(s.memory for s in early)
        files = max(s.handles for s in late) - max(s.handles for s in early)
        threads = max(s.threads for s in late) - max(s.threads for s in early)
        print(f"grown: {grown / 2**20:+.1f} MiB, {files:+} files, {threads:+} threads")
        self.facts = {
            "peak MiB": round(max(s.memory for s in self.samples) / 2**20, 1),
            "grown MiB": round(grown / 2**20, 1),
            "grown files": files,
            "grown threads": threads,
        }
        return int(grown > GROWTH or files > 0 or threads > 0)


def pictures(count: int) -> Iterator[np.ndarray]:
    """Planes of moving noise, (H * 3 / 2, W): luma above chroma, as y4m has them."""
    width, height = SIZE
    base = np.random.default_rng(0).integers(16, 236, (64, height * 3 // 2, width), np.uint8)
    for number in range(count):
        picture = base[number % 64].copy()
        picture[0, :8] = np.frombuffer(number.to_bytes(8, "big"), np.uint8)
        yield picture


def through_a_pipe(frames: int) -> int:
    """Sends a film into `vsr pipe`, takes what comes out, and counts it."""
    process = subprocess.Popen(
        [*VSR, "pipe", *SETTINGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPO
    )
    assert process.stdin is not None
    assert process.stdout is not None
    to, source = process.stdin, process.stdout

    def send() -> None:
        with suppress(BrokenPipeError), to:
            to.write(b"YUV4MPEG2 W%d H%d F%d:1 C420\n" % (*SIZE, RATE))
            for picture in pictures(frames):
                to.write(b"FRAME\n" + picture.tobytes())

    threading.Thread(target=send, daemon=True).start()
    watch, size = Watch(process.pid, frames), 6 + SIZE[0] * SIZE[1] * 6
    source.readline()
    done = 0
    while len(source.read(size)) == size:
        done += 1
        if done % 500 == 0:
            watch.look(done)
    code = process.wait()
    print(f"{done} of {frames} frames came back, exit code {code}")
    verdict = watch.verdict() or int(code != 0 or done != frames)
    record("pipe", frames=done, verdict=verdict, **watch.facts)
    return verdict


def as_a_file(frames: int, folder: Path) -> int:
    """Makes a film, upscales it, and counts what is in the result."""
    source, target = folder / "film.mkv", folder / "large.mkv"
    write(source, frames)
    print(f"{source.stat().st_size / 2**20:.0f} MiB of film are made", flush=True)
    line = [*VSR, "upscale", str(source), *SETTINGS, "-o", str(target), "--progress", "json"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=REPO, text=True)
    assert process.stdout is not None
    watch = Watch(process.pid, frames)
    for said in process.stdout:
        done = said.partition('"frames": ')[2].partition(",")[0]
        if done.isdigit() and '"progress"' in said:
            watch.look(int(done))
    code = process.wait()
    with av.open(target) as file:
        made = sum(1 for packet in file.demux(video=0) if packet.size)
    print(f"{made} of {frames} frames are in the file, exit code {code}")
    verdict = watch.verdict() or int(code != 0 or made != frames)
    record("file", frames=made, verdict=verdict, **watch.facts)
    return verdict


def write(path: Path, frames: int) -> None:
    """Encodes a film of moving noise."""
    with av.open(path, "w") as file:
        stream = file.add_stream("mpeg4", rate=RATE, options={"qscale": "12", "g": "48"})
        stream.width, stream.height = SIZE
        for number, picture in enumerate(pictures(frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def with_signals(count: int, folder: Path) -> int:
    """Stops a short job at drawn moments; what is left must be whole, or to be gone on with."""
    source, target = folder / "film.mkv", folder / "large.mkv"
    write(source, 240)
    line = [*VSR, "upscale", str(source), *SETTINGS, "-o", str(target), "-y", "--progress", "none"]
    began = time.monotonic()
    subprocess.run(line, check=True, cwd=REPO)
    length, calm = time.monotonic() - began, target.read_bytes()
    target.unlink()
    draw, wrong, codes = random.Random(0), 0, dict[int, int]()
    for _ in range(count):
        number = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
        process = subprocess.Popen(line, cwd=REPO, stderr=subprocess.PIPE, text=True)
        with suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0, 1.1 * length))
        process.send_signal(number)
        error = process.communicate(timeout=600)[1]
        code = process.returncode
        codes[code] = codes.get(code, 0) + 1
        partial = number != signal.SIGKILL and list(folder.rglob("*.vsr-partial"))
        broken = target.exists() and target.read_bytes() != calm
        if partial or broken or "Traceback" in error or code not in {0, 130, -number}:
            wrong += 1
            print(f"signal {number}: code {code}, {partial or 'no litter'}, {error.strip()}")
        target.unlink(missing_ok=True)
    subprocess.run(line, check=True, cwd=REPO)
    same = target.read_bytes() == calm
    print(f"{count} signals, exit codes {codes}, {wrong} wrong, the same bytes at last: {same}")
    told = {str(code): number for code, number in sorted(codes.items())}
    record("signals", sent=count, wrong=wrong, codes=told, same=same)
    return int(wrong > 0 or not same)


def record(name: str, **facts: object) -> None:
    """Keeps what a run came to beside the results of the benchmarks."""
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    told = {**known, "machine": machine(), name: facts}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


def main() -> int:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=6.0, help="length of the film")
    parser.add_argument("--file", action="store_true", help="a file job instead of a pipe")
    parser.add_argument("--signals", type=int, default=0, help="stop a short job so many times")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsr-soak-") as name:
        if chosen.signals:
            return with_signals(chosen.signals, Path(name))
        frames = round(chosen.hours * 3600 * RATE)
        return as_a_file(frames, Path(name)) if chosen.file else through_a_pipe(frames)


if __name__ == "__main__":
    sys.exit(main())
