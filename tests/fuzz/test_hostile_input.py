"""Hostile input: a short fuzzing run, kept findings, and the judge itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media import REPO

CASES = Path(__file__).parent / "cases"
MEDIA = "video,verify,picture,tags,y4m,raw,stream,pattern,recipe"
WEIGHTS = "cache,safetensors,pickle,numpy,matlab,tensorflow,ncnn"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "VSR_OFFLINE": "1"}
pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits of memory and time are POSIX's")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=False, cwd=REPO, capture_output=True, text=True, env=ENVIRONMENT
    )


@pytest.mark.parametrize(("targets", "cases"), [(MEDIA, 80), (WEIGHTS, 40)])
def test_a_short_run_finds_nothing(targets: str, cases: int, tmp_path: Path):
    """The same cases every time; one that crashes or hangs takes its process with it."""
    done = run(
        *("-m", "scripts.fuzzing.child", targets, str(tmp_path)),
        *("--cases", str(cases), "--seed", "7"),
    )
    told = [path.read_text("utf-8") for path in tmp_path.glob("*/found/*.txt")]
    assert not told
    assert done.returncode == 0, done.stderr[-2000:]
    for name in targets.split(","):
        assert json.loads((tmp_path / name / "figures.json").read_text("utf-8"))["cases"] >= cases


def test_what_was_found_stays_mended():
    kept = sorted(CASES.glob("*.case"))
    assert kept
    assert all(path.stat().st_size <= 2048 for path in kept)
    done = run("scripts/fuzz.py", "again", str(CASES))
    assert done.stdout.splitlines() == [f"{path.name}: good" for path in kept], done.stderr[-2000:]


JUDGED = """
import os, sys
from pathlib import Path
from scripts.fuzzing import judge, shrink
from scripts.fuzzing.targets import Target
from vsr.errors import SourceError

judge.PROCESSOR_SECONDS = 1
kept = []

def step(path):
    word = path.read_bytes()
    if word == b"vsr": raise SourceError("one line")
    if word == b"lines": raise SourceError("two\\nlines")
    if word == b"key": {}[word]
    if word == b"signal": os.kill(os.getpid(), 11)
    if word == b"memory": kept.append(b"x" * (64 << 20))
    while word == b"hang": pass

target = Target(name="x", steps=(step,), memory=32 << 20)
for word in sys.argv[1:]:
    print(shrink.outcome(target, word.encode()))
print(shrink.shrunk(b"....key....", lambda data: b"key" in data, 5))
"""


def test_the_judge_sees_every_kind_of_finding():
    done = run("-c", JUDGED, "vsr", "good", "lines", "key", "signal", "hang", "memory")
    told = done.stdout.splitlines()
    assert told[:2] == ["None", "None"], done.stderr
    assert told[2] == "message: SourceError of 2 lines"
    assert told[3] == "KeyError outside vsr"
    assert told[4:6] == ["signal 11", "hang"]
    assert told[6] == "memory: more than 32 MiB" or not sys.platform.startswith("linux")
    assert told[7] == "b'key'"
