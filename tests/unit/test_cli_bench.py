"""`vsr bench`: what it tries, says and remembers."""

import json

import pytest

from vsr.cli.main import run
from vsr.engine import assembly
from vsr.engine.experience import Experience


@pytest.fixture(autouse=True)
def _brief(monkeypatch, tmp_path):
    monkeypatch.setattr(assembly, "_FULL", 0.2)
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))


def test_a_film_is_measured_and_the_fastest_way_remembered(film, capsys):
    command = ["bench", str(film), "-s", "2", "-d", "cpu", "--engine", "torch", "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["job_fps"] > 0
    assert {trial["engine"] for trial in found["trials"]} == {"torch"}
    rates = [trial["fps"] for trial in found["trials"]]
    assert rates == sorted(rates, reverse=True)
    (choice,) = Experience("tuning.json").read().values()
    best = found["trials"][0]
    assert choice == {name: best[name] for name in choice}


def test_without_a_film_one_is_drawn(capsys):
    command = ["bench", "-n", "bicubic", "-s", "1.5", "-d", "cpu", "--seconds", "1"]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert out.startswith("engine")
    assert "whole job with x264" in out
    assert "of best" in out


@pytest.mark.usefixtures("folder")
def test_a_missing_film_is_one_line(capsys):
    assert run(["bench", "none.mkv"]) == 2
    assert "none.mkv" in capsys.readouterr().err
