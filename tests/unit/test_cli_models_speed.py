"""`vsr models speed`, and what `vsr models` shows of it."""

import json
from pathlib import Path

import pytest
import torch

from vsr.cli.main import run
from vsr.engine.model_facts import speed_of_entry
from vsr.engine.speeds import Speed, remember_speed, remembered_speeds
from vsr.models.catalog import find

SPEED = Speed(fps=12.34, width=640, height=360, device="an abacus", how="by hand", day="2026-01-31")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(["models", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_nothing_is_guessed(capsys: pytest.CaptureFixture[str]):
    listed = lines(capsys)
    assert "fps here" in listed[0]
    assert listed[-1].startswith("fps: nothing measured on this machine yet")
    assert json.loads("\n".join(lines(capsys, "list", "--json")))[0]["speed"] is None


def test_what_was_measured_is_shown_with_its_machine(capsys: pytest.CaptureFixture[str]):
    remember_speed("vsr-fast-x2", SPEED)
    listed = lines(capsys)
    at = listed[0].index("fps here")
    (row,) = (line for line in listed if line.startswith("vsr-fast-x2 "))
    assert row[at:].split()[0] == "12.3"
    assert [line[at] for line in listed if line.startswith("vsr-fast-x3 ")] == ["-"]
    assert listed[-1] == "fps: measured here at 640x360 on an abacus (by hand)"
    facts = json.loads("\n".join(lines(capsys, "list", "--json")))
    assert facts[0]["speed"] == {
        "fps": 12.34, "width": 640, "height": 360,
        "device": "an abacus", "how": "by hand", "day": "2026-01-31",
    }  # fmt: skip


def test_the_command_measures_and_remembers(capsys: pytest.CaptureFixture[str]):
    (said,) = lines(capsys, "speed", "FSRCNN-small_x2", "--seconds", "0", "--device", "cpu")
    speed = remembered_speeds()["FSRCNN-small_x2"]
    assert said.split()[:2] == ["FSRCNN-small_x2", f"{speed.fps:.3g}"]
    assert speed.how in said
    assert speed.device in said
    assert speed.fps > 0
    assert "thread" in speed.how


def test_other_sizes_are_told_but_not_compared(capsys: pytest.CaptureFixture[str]):
    (said,) = lines(capsys, "speed", "FSRCNN-small_x2", "--size", "32x16", "--seconds", "0")
    assert "32x16" in said
    assert remembered_speeds() == {}


def test_frames_are_counted_against_the_clock(monkeypatch: pytest.MonkeyPatch):
    ticks = iter([0.0, 1.0, 2.5, 4.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    speed = speed_of_entry(find("FSRCNN-small_x2"), (16, 8), "cpu", "fp32", seconds=2)
    assert speed.fps == pytest.approx(2 / 4)
    assert (speed.width, speed.height) == (16, 8)
    assert "fp32" in speed.how


def test_a_damaged_memory_is_no_obstacle(cache: Path, capsys: pytest.CaptureFixture[str]):
    (cache / "speeds.json").write_text("{")
    assert remembered_speeds() == {}
    (cache / "speeds.json").write_text('{"vsr-fast-x2": {"fps": 3}, "vsr-fast-x3": 4}')
    assert remembered_speeds() == {}
    remember_speed("vsr-fast-x4", SPEED)
    assert remembered_speeds() == {"vsr-fast-x4": SPEED}
    assert lines(capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["model.pth"], 2, "is a file"),
        (["no-such"], 5, "no-such"),
        (["vsr-fast-x2", "--size", "x2"], 2, "no size in pixels"),
        (["vsr-fast-x2", "--device", "cuda:77"], 6, "cuda:77"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str):
    if torch.cuda.device_count() > 77:
        pytest.skip("this machine has that many")
    assert run(["models", "speed", *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
