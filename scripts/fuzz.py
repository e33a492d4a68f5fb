"""Fuzzes every way in which bytes of others come into `vsr`.

    python scripts/fuzz.py run [--seconds 60] [--targets video y4m …] [--clips DIR] [--write]
    python scripts/fuzz.py again FOLDER      judges kept findings once more
    python scripts/fuzz.py list

`run` gives every target its seconds, in a process with limits of memory and time; a process that
dies is a finding and is followed by another. Findings are made small and kept in --work. With
atheris (pip install atheris), cases are chosen by the lines of `vsr` that they reach; without, they
are changed seeds. --write adds the figures to scripts/bench/results/fuzz.json.

What is found becomes a file in tests/fuzz/cases, which the tests try from then on.
"""

import argparse
import datetime as dt
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from scripts.fuzzing.judge import warm  # noqa: E402
from scripts.fuzzing.seeds import seeds  # noqa: E402
from scripts.fuzzing.shrink import outcome, shrunk  # noqa: E402
from scripts.fuzzing.targets import TARGETS, find  # noqa: E402

RESULTS = REPO / "scripts" / "bench" / "results" / "fuzz.json"
_PACKAGES = ("vsr", "av", "torch", "safetensors", "numpy", "atheris")
_SHRINKING = 45.0


def main() -> int:
    """Runs the command that was asked for; 1 if anything is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("--seconds", type=float, default=60)
    run.add_argument("--cases", type=int, default=1 << 62)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--targets", nargs="+", default=[target.name for target in TARGETS])
    run.add_argument("--clips", type=Path)
    run.add_argument("--work", type=Path, help="folder of corpus and findings")
    run.add_argument("--blind", action="store_true", help="without atheris")
    run.add_argument("--write", action="store_true")
    again = commands.add_parser("again")
    again.add_argument("folder", type=Path)
    commands.add_parser("list")
    options = parser.parse_args()
    if options.command == "list":
        print("\n".join(target.name for target in TARGETS))
        return 0
    return _again(options.folder) if options.command == "again" else _run(options)


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        found = 0
        for name in options.targets:
            facts = _fuzzed(name, work / name, options)
            found += sum(finding["open"] for finding in facts["findings"])
            print(f"{name}: {facts['cases']} cases in {facts['seconds']:.0f} s", flush=True)
            for finding in facts["findings"]:
                state = "open" if finding["open"] else "mended"
                print(f"    {state}: {finding['what']} ({finding['bytes']} bytes)", flush=True)
            if options.write:
                _written(name, facts)
    return 1 if found else 0


def _fuzzed(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fuzzes one target for its time, in as many processes as it takes."""
    folder.mkdir(parents=True, exist_ok=True)
    guided = not options.blind and importlib.util.find_spec("atheris") is not None
    cases, seconds, deaths = 0, 0.0, 0
    began = time.monotonic()
    while seconds < options.seconds and cases < options.cases and deaths < 40:
        figures = folder / "figures.json"
        figures.unlink(missing_ok=True)
        command = [sys.executable, "-m", "scripts.fuzzing.child", name, str(folder)]
        command += [
            "--seconds",
            str(options.seconds - seconds),
            "--seed",
            str(options.seed + deaths),
        ]
        command += ["--cases", str(options.cases - cases)]
        command += ["--guided"] if guided else []
        command += ["--clips", str(options.clips)] if options.clips else []
        with (folder / "log.txt").open("ab") as log:
            done = subprocess.run(
                command, check=False, cwd=REPO, stdout=log, stderr=log, env=_environment()
            )
        if not figures.exists():
            sys.exit(f"{name}: the process ended before its first case, see {folder / 'log.txt'}")
        facts = json.loads(figures.read_text("utf-8"))
        cases, seconds = cases + facts["cases"], seconds + facts["seconds"]
        if done.returncode == 0:
            break
        deaths += 1
        _keep_death(name, folder, done.returncode)
    findings = [_finding(name, path) for path in sorted((folder / "found").glob("*.txt"))]
    whole = round(time.monotonic() - began, 1)
    return {
        "cases": cases,
        "seconds": round(seconds, 1),
        "with_start_up": whole,
        "guided": guided,
        "deaths": deaths,
        "findings": findings,
    }


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "VSR_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1"}


def _keep_death(name: str, folder: Path, code: int) -> None:
    """Keeps the case in which a process died."""
    current = folder / "current"
    if not current.exists():
        return
    data = current.read_bytes()
    _warm(name)
    what = outcome(find(name), data)
    if what is None:  # a busy machine, or what many cases leave behind: counted as a death
        print(f"{name}: a process ended with {code}, its last case alone is good", flush=True)
        return
    stem = folder / "found" / hashlib.sha256(what.encode()).hexdigest()[:12]
    if not stem.with_suffix(".txt").exists():
        stem.with_suffix(".bin").write_bytes(data)
        stem.with_suffix(".txt").write_text(what, "utf-8")


@cache
def _warm(name: str) -> None:
    """Imports here what every judged case would import."""
    with tempfile.TemporaryDirectory() as folder:
        warm(find(name), seeds(find(name))[0], Path(folder))


def _finding(name: str, path: Path) -> dict[str, Any]:
    """Makes a finding small, if it is new; an older one may have been mended meanwhile."""
    target, what = find(name), path.read_text("utf-8")
    _warm(name)
    small = path.with_suffix(".small")
    data = (small if small.exists() else path.with_suffix(".bin")).read_bytes()
    happens = outcome(target, data) == what
    if happens and not small.exists():
        data = shrunk(data, lambda less: outcome(target, less) == what, _SHRINKING)
        small.write_bytes(data)
    return {"what": what, "bytes": len(data), "open": happens}


def _again(folder: Path) -> int:
    """Judges `<target>/found/*` of a working folder, or `<target>-*.case` of a folder of cases."""
    failing = 0
    for path in sorted(
        [*folder.glob("*/found/*.bin"), *folder.glob("*/found/*.small"), *folder.glob("*.case")]
    ):
        name = path.name.partition("-")[0] if path.suffix == ".case" else path.parts[-3]
        _warm(name)
        what = outcome(find(name), path.read_bytes())
        failing += what is not None
        print(f"{path.relative_to(folder)}: {what or 'good'}")
    return 1 if failing else 0


def _written(name: str, facts: dict[str, Any]) -> None:
    """Adds a run to the results, under the target's name; others may do so at the same time."""
    with RESULTS.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        known = _added(json.loads(text) if text else {"targets": {}}, name, facts)
        file.truncate(0)
        file.write(json.dumps(known, indent=1) + "\n")


def _added(known: dict[str, Any], name: str, facts: dict[str, Any]) -> dict[str, Any]:
    entry = known["targets"].setdefault(name, {"seconds": 0, "cases": 0, "runs": 0, "findings": []})
    entry["seconds"] = round(entry["seconds"] + facts["seconds"], 1)
    entry["cases"] += facts["cases"]
    entry["runs"] += 1
    entry["last_run"] = {key: facts[key] for key in ("seconds", "cases", "guided", "deaths")}
    kept = {finding["what"]: finding for finding in [*entry["findings"], *facts["findings"]]}
    entry["findings"] = list(kept.values())
    totals = known["targets"].values()
    known["total"] = {key: round(sum(e[key] for e in totals), 1) for key in ("seconds", "cases")}
    findings = [finding for entry in totals for finding in entry["findings"]]
    known["total"]["findings"] = len(findings)
    known["total"]["open"] = sum(finding["open"] for finding in findings)
    known["date"] = dt.datetime.now(dt.UTC).date().isoformat()
    known["python"] = platform.python_version()
    known["versions"] = {
        p: importlib.metadata.version(p) for p in _PACKAGES if importlib.util.find_spec(p)
    }
    return known


if __name__ == "__main__":
    sys.exit(main())
