"""How a job scales over workers: measured with one and two here, simulated for many.

    python scripts/bench/scale.py examples/clip.mkv --loop 300 --segment 15

Each worker is a node of one core in a small Ray cluster on this machine, so two of them share what
the machine has; the measured efficiency tells as much of it as of `vsr`. The simulation takes the
segment times, sizes and the driver's own work as measured, scaled by frames and by the speed of the
device that is asked for, and plays the driver's rules: two packs for each worker, the journal in
order, a bounded number of segments ahead, everything through one driver, one join at the end.
"""

import argparse
import heapq
import os
import random
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from _report import machine, table, write
from end_to_end import looped

from tests.cluster import small
from vsr import jobs
from vsr.cluster import driver, rays
from vsr.cluster.crew import Answer
from vsr.cluster.film import Film
from vsr.io.segments import Piece, SegmentWriter, read_pieces
from vsr.parts import Done
from vsr.planning import UpscaleJob

WORKERS = (1, 2, 8, 64, 512)
RATE = 24
FILM_FRAMES = 2 * 60 * 60 * RATE
EACH, AHEAD, STARTED_WITH = 2, driver._AHEAD, driver._STARTING  # noqa: SLF001 - the driver's rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a job costs, as measured.

    Attributes:
        part: Seconds of a worker for each of the measured segments.
        frames: Frames of a measured segment.
        take: Seconds of the driver for a megabyte: put aside, check, write, force to the disk.
        errand: Seconds of the driver for a segment, whatever its size.
        join: Seconds of the driver for a megabyte at the end.
        start: Seconds before the first worker is ready.
    """

    part: tuple[float, ...]
    frames: int
    take: float
    errand: float
    join: float
    start: float


def measure(job: UpscaleJob, nodes: int) -> tuple[float, list[Done], dict[str, float]]:
    """Runs a job; gives seconds from first errand to joined file, the parts, the driver's work."""
    done: list[Done] = []
    spent = {"start": 0.0, "take": 0.0, "join": 0.0}
    with small.cluster(nodes) as cluster:
        began = time.perf_counter()
        with closing(rays.RayCrew(cluster.address, patience=300)) as crew:
            spent["start"] = time.perf_counter() - began
            # networks and libraries are loaded before the clock runs
            driver.run(replace(job, target=job.target.with_stem(f"warm-{job.target.stem}")), crew)
            _watch(crew, done)
            take, join = Film.take, Film.join
            Film.take = _timed(take, spent, "take")  # type: ignore[method-assign]
            Film.join = _timed(join, spent, "join")  # type: ignore[method-assign]
            try:
                began = time.perf_counter()
                driver.run(job, crew)
                seconds = time.perf_counter() - began
            finally:
                Film.take, Film.join = take, join  # type: ignore[method-assign]
    return seconds, done, spent


def _watch(crew: rays.RayCrew, done: list[Done]) -> None:
    real = crew.answers

    def answers(seconds: float) -> list[Answer]:
        found = real(seconds)
        done.extend(replace(a.outcome, data=b"") for a in found if isinstance(a.outcome, Done))
        return found

    crew.answers = answers  # type: ignore[method-assign]


def _timed(function: Any, spent: dict[str, float], name: str) -> Any:
    def timed(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args)
        finally:
            spent[name] += time.perf_counter() - began

    return timed


def simulate(costs: Costs, workers: int, *, segment: int, speed: float, megabits: float) -> float:
    """Seconds that a film of two hours takes.

    Args:
        costs: As measured.
        workers: How many, all alike.
        segment: Frames in each segment.
        speed: How much faster than here a worker is; what the driver does takes as long.
        megabits: Of the output, each second.
    """
    dice = random.Random(0)
    scale = segment / costs.frames
    count = -(-FILM_FRAMES // segment)
    megabytes = megabits / 8 * segment / RATE
    take = costs.errand + costs.take * megabytes
    times = [dice.choice(costs.part) * scale / speed for _ in range(count)]
    window = AHEAD * max(STARTED_WITH, workers)
    free = [costs.start] * workers  # when each worker has done what it was given
    heapq.heapify(free)
    driver_free = costs.start
    finished = [0.0] * count
    journalled = 0.0
    in_order = [0.0] * count
    for number, seconds in enumerate(times):
        driver_free += costs.errand
        begin = heapq.heappop(free)
        if number >= window:  # not before an earlier one has got into the journal
            begin = max(begin, in_order[number - window])
        begin = max(begin, driver_free)
        finished[number] = begin + seconds
        heapq.heappush(free, finished[number])
        # the driver takes them as they come, one after another
        journalled = max(journalled, finished[number]) + take
        in_order[number] = journalled
    busy = costs.start + count * (take + costs.errand)  # it can do no more than one thing
    return max(journalled, busy) + costs.join * megabytes * count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--loop", type=int, help="frames of 640×360 that the film is looped to")
    parser.add_argument("--model", default="vsr-fast")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--segment", type=int, default=12)
    parser.add_argument("--speed", type=float, default=1.0, help="of a worker, this core being 1")
    parser.add_argument(
        "--megabits", type=float, default=40.0, help="of the film that is simulated"
    )
    parser.add_argument("--name", default="scale")
    args = parser.parse_args()
    measured: dict[int, float] = {}
    busy: dict[int, float] = {}
    costs: Costs | None = None
    frames = 0
    with tempfile.TemporaryDirectory() as scratch:
        film = args.film.absolute()
        if args.loop:
            film = Path(scratch) / f"{film.stem}-looped.mkv"
            looped(args.film, film, (640, 360), args.loop)
        for nodes in (1, 2):
            job = UpscaleJob(
                source=film,
                target=Path(scratch) / f"{nodes}.mkv",
                scale=args.scale,
                model=args.model,
                segment=args.segment,
            )
            seconds, done, spent = measure(job, nodes)
            measured[nodes] = seconds
            # beside other work on the machine this tells more than the seconds
            busy[nodes] = sum(d.seconds for d in done) / (nodes * seconds)
            costs = costs or costs_of(done, spent, args.segment, Path(scratch))
        frames = sum(d.segment.frames for d in done if d.segment)
        alone = replace(job, target=Path(scratch) / "alone.mkv", device="cpu")
        jobs.run(replace(alone, target=Path(scratch) / "warm-alone.mkv"))
        began = time.perf_counter()
        jobs.run(alone)
        without = time.perf_counter() - began
        same = alone.target.read_bytes() == job.target.read_bytes()
    report(args, costs, measured, busy, without, frames, same=same)


def costs_of(done: list[Done], spent: dict[str, float], segment: int, folder: Path) -> Costs:
    full = [d for d in done if d.segment and d.segment.frames == segment]
    written = seconds_a_megabyte(folder / "packets")
    return Costs(
        part=tuple(round(d.seconds, 4) for d in full),
        frames=segment,
        take=2 * written,
        errand=spent["take"] / len(done),
        join=written,
        start=spent["start"],
    )


def seconds_a_megabyte(path: Path, megabytes: int = 64) -> float:
    """What digest, writing and forcing to the disk take, and reading it back."""
    data = random.Random(0).randbytes(1_000_000)
    began = time.perf_counter()
    writer = SegmentWriter(path)
    for number in range(megabytes):
        writer.add(Piece(number, 1, number == 0, data))
    writer.finish()
    for _ in read_pieces(path):
        pass
    return (time.perf_counter() - began) / megabytes


def report(
    args: argparse.Namespace,
    costs: Costs,
    measured: dict[int, float],
    busy: dict[int, float],
    without: float,
    frames: int,
    *,
    same: bool,
) -> None:
    efficiency = {n: measured[1] / (n * seconds) for n, seconds in measured.items()}
    cases = {
        f"2 h at 24 fps, segments of {segment}, workers x{speed:g}": (segment, speed)
        for segment in (500, 100)
        for speed in (args.speed, 100 * args.speed)
    }
    simulated: dict[str, Any] = {}
    for name, (segment, speed) in cases.items():
        how = {"segment": segment, "speed": speed, "megabits": args.megabits}
        one = simulate(costs, 1, **how)
        simulated[name] = {
            workers: {
                "seconds": round(makespan, 1),
                "efficiency": round(one / (workers * makespan), 3),
            }
            for workers in WORKERS
            for makespan in [simulate(costs, workers, **how)]
        }
    facts = {
        "machine": machine(),
        "film": args.film.name,
        "looped to": args.loop,
        "frames": frames,
        "model": args.model,
        "seconds": {str(n): round(s, 2) for n, s in measured.items()},
        "seconds without Ray": round(without, 2),
        "efficiency of 2 workers": round(efficiency[2], 3),
        "share of the time that workers computed": {str(n): round(b, 3) for n, b in busy.items()},
        "load of the machine meanwhile": [round(load, 1) for load in os.getloadavg()],
        "same bytes as one machine": same,
        "megabits": args.megabits,
        "costs": asdict(costs),
        "simulated": simulated,
    }
    path = write(args.name, facts)
    print(table(["workers", "seconds", "efficiency", "busy"], [
        [n, f"{measured[n]:.1f}", f"{efficiency[n]:.2f}", f"{busy[n]:.2f}"] for n in measured
    ]))  # fmt: skip
    print(f"without Ray: {without:.1f} s; the same bytes: {same}")
    for name, each in simulated.items():
        print(name, {n: (one["seconds"], one["efficiency"]) for n, one in each.items()})
    print(path)


if __name__ == "__main__":
    main()
