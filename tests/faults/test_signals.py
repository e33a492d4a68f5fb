"""A stop signal at every stage of a job: exit code 130, no litter, and the next run is as ever."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import media
from tests.faults.conftest import FRAMES, PATIENCE, Ended, Program, upscale

NUMBERS = [getattr(signal, name, 0) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
MOMENTS = [
    ("opening", 1),
    ("loading", 1),
    ("decoding", 20),
    ("computing", 17),
    ("making", 1),
    ("encoding", 1),
    ("encoding", 9),
    ("writing", 1),
    ("finishing", 1),
    ("syncing", 1),
    ("verifying", 1),
    ("naming", 1),
]
EVERYWHERE = 6
"""Moments in the whole run that are drawn; `scripts/soak.py --signals` draws as many as wanted."""
STARTED = 2000
"""Calls within which a program that is forked, not started, has come to listen to signals."""


def check_stopped(program: Program, ended: Ended, number: int) -> None:
    """Nothing is left but what is whole, and one line says why."""
    assert ended.code == 130
    said = [line.partition("error: ")[2] for line in ended.told]
    assert said == [f"stopped by {signal.Signals(number).name}"]
    assert program.litter() == []


@pytest.mark.parametrize(("stage", "nth"), MOMENTS)
def test_a_signal_at_any_stage(program: Program, stage: str, nth: int) -> None:
    number = NUMBERS[MOMENTS.index((stage, nth)) % 3]
    target = program.folder / "out.mkv"
    target.write_bytes(b"precious")
    ended = program(*upscale("-y"), fault="signalled", stage=stage, nth=nth, number=number)
    check_stopped(program, ended, number)
    assert target.read_bytes() == b"precious"


def test_a_signal_at_any_call(program: Program) -> None:
    """At places that nobody chose; and the same command then makes the same bytes."""
    target = program.folder / "out.mkv"
    assert program(*upscale(), fault="counted", path=f"{program.folder}.count").code == 0
    calls = int(Path(f"{program.folder}.count").read_text("ascii"))
    calm = target.read_bytes()
    draw = random.Random(EVERYWHERE)
    for turn in range(EVERYWHERE):
        target.unlink(missing_ok=True)
        number = NUMBERS[turn % 3]
        ended = program(
            *upscale(), fault="interrupted", call=draw.randint(STARTED, calls), number=number
        )
        if ended.code:
            check_stopped(program, ended, number)
        assert ended.code == 0 or not target.exists() or target.read_bytes() == calm
        if turn % 4 == 0:
            assert program(*upscale("-y")).code == 0
            assert target.read_bytes() == calm


def test_a_signal_while_many_pictures_are_made(program: Program) -> None:
    assert program("upscale", "in.mkv", "-s", "1", "-n", "bicubic", "-o", "in/%02d.png").code == 0
    line = ["upscale", "in", "-s", "2", "-n", "bicubic", "-o", "out"]
    for stage in ("reading picture", "encoding picture"):
        ended = program(*line, fault="signalled", stage=stage, nth=6, number=signal.SIGTERM)
        check_stopped(program, ended, signal.SIGTERM)
        for path in (program.folder / "out").glob("*"):
            assert media.decoded(path)[0][1].shape == (96, 128, 3)
    assert program(*line).code == 0
    assert len(list((program.folder / "out").iterdir())) == FRAMES


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("delay", [0.15, 0.6, 1.5])
def test_a_signal_while_the_program_starts(program: Program, delay: float) -> None:
    """Python itself, then PyTorch, are being imported: a true start, not a fork."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vsr", *upscale()],
        cwd=program.folder,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode in {0, 130, -signal.SIGTERM}
    assert "Traceback" not in error
    assert (program.folder / "out.mkv").exists() == (process.returncode == 0)
    assert program.litter() == []
