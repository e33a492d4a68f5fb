"""`vsr devices`: what is here, and how fast it is by what was measured on it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vsr.cli.main import run
from vsr.engine import devices
from vsr.engine.devices import DeviceFacts
from vsr.engine.speeds import Speed, remember_speed, remembered_speeds, speeds_on

CPU = DeviceFacts(name="cpu", description="an abacus", memory_bytes=1 << 30)
GPUS = [
    DeviceFacts(name=f"cuda:{n}", description="a loom", memory_bytes=8 << 30, features=("fp16",))
    for n in (0, 1)
]
SLOW = Speed(fps=1.234, width=640, height=360, device="an abacus", how="fp32", day="2026-01-31")
FAST = replace(SLOW, fps=987.6, device="a loom", how="fp16", day="2026-02-01")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    monkeypatch.setattr(devices, "devices", lambda: (*GPUS, CPU))
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(["devices", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_device_without_figures_says_what_measures_it(capsys: pytest.CaptureFixture[str]) -> None:
    remember_speed("vsr-fast-x2", SLOW)
    told = lines(capsys)
    for name in ("cuda:0", "cuda:1"):
        (line,) = (line for line in told if line.startswith(f"{name}:"))
        assert f"`vsr models speed vsr-fast -d {name}`" in line
        assert f"`vsr bench -d {name}`" in line
    assert "cpu, frames of 640x360:" in told
    assert not any(line.startswith("cpu: no speed") for line in told)


def test_figures_stand_at_the_device_that_they_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    remember_speed("realesr-animevideov3", SLOW)
    remember_speed("vsr-fast-x4", SLOW)
    remember_speed("vsr-fast-x2", FAST)
    remember_speed("vsr-fast-x2", SLOW)
    told = lines(capsys)
    starts = [told.index(f"{name}, frames of 640x360:") for name in ("cuda:0", "cuda:1", "cpu")]
    assert starts == sorted(starts)
    for start in starts[:2]:  # of one product
        assert told[start + 1].split() == ["model", "fps", "measured", "how"]
        assert told[start + 2].split() == ["vsr-fast-x2", "988", "2026-02-01", "fp16"]
        assert told[start + 3] == ""
    names = [line.split()[:2] for line in told[starts[2] + 2 :]]
    assert names == [
        ["vsr-fast-x2", "1.23"],
        ["vsr-fast-x4", "1.23"],
        ["realesr-animevideov3", "1.23"],
    ]  # embedded ones first


def test_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    remember_speed("vsr-fast-x2", FAST)
    found = json.loads("\n".join(lines(capsys, "--json")))
    assert [one["name"] for one in found] == ["cuda:0", "cuda:1", "cpu"]
    assert found[0]["speeds"]["vsr-fast-x2"]["fps"] == 987.6
    assert found[0]["speeds"]["vsr-fast-x2"]["day"] == "2026-02-01"
    assert found[2]["speeds"] == {}


def test_another_device_takes_no_ones_place(machine: Path) -> None:
    remember_speed("vsr-fast-x2", FAST)
    remember_speed("vsr-fast-x2", SLOW)
    assert speeds_on("a loom") == {"vsr-fast-x2": FAST}
    assert speeds_on("an abacus") == {"vsr-fast-x2": SLOW}
    assert remembered_speeds() == {"vsr-fast-x2": SLOW}
    remember_speed("vsr-fast-x2", FAST)
    assert remembered_speeds() == {"vsr-fast-x2": FAST}  # the last one
    assert len(json.loads((machine / "speeds.json").read_text())) == 2


def test_other_sizes_are_not_compared() -> None:
    remember_speed("vsr-fast-x2", replace(FAST, width=320))
    assert speeds_on("a loom") == {}


def test_what_the_command_measures_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    assert run(["models", "speed", "FSRCNN-small_x2", "--seconds", "0", "-d", "cpu"]) == 0
    rate = capsys.readouterr().out.split()[1]
    told = lines(capsys)
    row = next(line for line in told if line.split()[:1] == ["FSRCNN-small_x2"])
    assert row.split()[1] == rate
    assert told.index(row) > told.index("cpu, frames of 640x360:")
