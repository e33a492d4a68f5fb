"""One process that tries many cases of a target; started by `scripts/fuzz.py`.

    python -m scripts.fuzzing.child TARGETS FOLDER [--seconds N] [--cases N] [--seed N]
                                    [--clips DIR] [--guided]

With --guided, atheris (libFuzzer) chooses cases by the lines of `vsr` that they reach. Without,
they are changed seeds, drawn from the number of --seed alone. Findings go to FOLDER/found, figures
to FOLDER/figures.json; a case that kills or hangs the process is left in FOLDER/current.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from random import Random

from scripts.fuzzing import mutate
from scripts.fuzzing.judge import judge, limit_memory, limit_processor_time, warm
from scripts.fuzzing.seeds import seeds
from scripts.fuzzing.targets import Target, find

SECONDS = 60
"""Longest time of a case by the clock; a process that takes longer ends itself."""
_ROOM = 3 << 30
"""Bytes of address space beside what is taken once the seeds have been read."""
_TOLD_EVERY = 1.0


class Trial:
    """Counts cases, and keeps what is found.

    Args:
        target: What is fuzzed.
        folder: Where results go.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.place = folder / "case"
        self.found = folder / "found"
        for made in (self.place, self.found):
            made.mkdir(parents=True, exist_ok=True)
        self.known = {path.read_text("utf-8") for path in self.found.glob("*.txt")}
        self.cases, self.started, self._told = 0, time.monotonic(), 0.0

    def __call__(self, data: bytes) -> None:
        """Tries a case."""
        (self.folder / "current").write_bytes(data)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        limit_processor_time()
        what = judge(self.target, data, self.place)
        faulthandler.cancel_dump_traceback_later()
        self.cases += 1
        if what is not None and what not in self.known:
            self.known.add(what)
            stem = self.found / hashlib.sha256(what.encode()).hexdigest()[:12]
            stem.with_suffix(".bin").write_bytes(data)
            stem.with_suffix(".txt").write_text(what, "utf-8")
        if time.monotonic() - self._told > _TOLD_EVERY:
            self.tell()

    def tell(self) -> None:
        """Writes the figures down."""
        self._told = time.monotonic()
        facts = {"cases": self.cases, "seconds": round(self._told - self.started, 1)}
        (self.folder / "figures.json").write_text(json.dumps(facts), "utf-8")


def main() -> None:
    """Runs until the time or the cases of every target are over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", help="one, or several with commas, each in its own folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--cases", type=int, default=1 << 62)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--guided", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    faulthandler.enable()
    targets = [find(name) for name in options.targets.split(",")]
    for target in targets:
        folder = options.folder / target.name if len(targets) > 1 else options.folder
        _fuzzed(Trial(target, folder), options)


def _fuzzed(trial: Trial, options: argparse.Namespace) -> None:
    faulthandler.dump_traceback_later(10 * SECONDS, exit=True)
    with _instrumented() if options.guided else contextlib.nullcontext():
        first = seeds(trial.target, options.clips)
        for data in first:
            warm(trial.target, data, trial.place)
    faulthandler.cancel_dump_traceback_later()
    trial.started = time.monotonic()
    for data in first:
        trial(data)
    limit_memory(_ROOM)
    if options.guided:
        _guided(trial, first, options)
    else:
        _drawn(trial, first, options)
    trial.tell()
    (trial.folder / "current").unlink()


def _drawn(trial: Trial, first: list[bytes], options: argparse.Namespace) -> None:
    """Changed seeds, and changes of changed ones."""
    random = Random(options.seed)
    until = time.monotonic() + options.seconds
    pool = list(first)
    while trial.cases < options.cases and time.monotonic() < until:
        made = _changed(trial.target, random.choice(pool), random, pool)
        trial(made)
        if random.random() < 0.05:
            pool = [*first, *pool[len(first) :][-200:], made]


def _changed(target: Target, data: bytes, random: Random, pool: list[bytes]) -> bytes:
    if random.random() < 0.05:
        data = mutate.spliced(data, random.choice(pool), random)
    change = target.mutate if random.random() < 0.8 else mutate.blind
    return change(data, random, target.tokens)[: target.longest]


def _instrumented() -> contextlib.AbstractContextManager[None]:
    """Counts lines and branches of `vsr` from its imports on."""
    import atheris  # noqa: PLC0415 - only where it was asked for

    return atheris.instrument_imports(include=["vsr"])


def _guided(trial: Trial, first: list[bytes], options: argparse.Namespace) -> None:
    import atheris  # noqa: PLC0415 - only where it was asked for

    corpus = trial.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for data in first:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def changed(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            return bytes(atheris.Mutate(data, longest))
        return _changed(trial.target, data, random, first)[:longest]

    room = resource.getrlimit(resource.RLIMIT_AS)[0] >> 20
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={max(1, round(options.seconds))}",
        f"-max_len={trial.target.longest}",
        f"-seed={options.seed + 1}",
        f"-rss_limit_mb={room}",
        "-timeout=86400",
        "-len_control=0",
        "-handle_segv=0",
        "-handle_bus=0",
        "-handle_abrt=0",
        "-handle_ill=0",
        "-handle_fpe=0",
        "-print_final_stats=1",
        f"-artifact_prefix={trial.folder}/",
    ]
    os.environ.setdefault("PYTHONHASHSEED", "0")
    atheris.Setup(arguments, trial, custom_mutator=changed)
    faulthandler.enable()
    atheris.Fuzz()


if __name__ == "__main__":
    main()
