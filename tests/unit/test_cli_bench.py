"""`vsr bench`: what it tries, says and remembers."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from vsr.cli import bench
from vsr.cli.main import run
from vsr.engine import assembly
from vsr.engine.experience import Experience
from vsr.engine.speeds import USUAL_SIZE, remembered_speeds
from vsr.engine.tuning import Choice, Trial
from vsr.jobs import JobResult
from vsr.planning import UpscaleJob


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


JOB = UpscaleJob(source=Path("film.mkv"), target=Path("out.mkv"), scale=2, model="vsr-fast")
TRIAL = Trial(Choice(precision="bf16", workers=2), 12.5)
DONE = JobResult(
    frames=9,
    seconds=1.0,
    target=Path("out.mkv"),
    size=(1280, 720),
    bottleneck=None,
    damaged=0,
    peak_host_bytes=None,
    precision="bf16",
    device="cpu",
)


def test_the_speed_of_a_published_model_is_shown_by_models(capsys):
    assert bench._remembered(JOB, TRIAL, DONE) == "vsr-fast-x2"
    speed = remembered_speeds()["vsr-fast-x2"]
    assert (speed.width, speed.height) == USUAL_SIZE
    assert run(["models"]) == 0
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if line.startswith("vsr-fast-x2 "))
    assert " 12.5 " in row
    assert "network and colours, torch bf16, batch 1, 2 workers" in out


def test_bench_says_what_it_has_remembered(film, capsys, monkeypatch):
    monkeypatch.setattr(bench, "_remembered", lambda *_: "vsr-fast-x2")
    command = ["bench", str(film), "-s", "2", "-d", "cpu", "--engine", "torch", "--seconds", "1"]
    assert run(command) == 0
    assert "`vsr models` shows this speed of vsr-fast-x2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other",
    [
        {"model": "bicubic"},
        {"model": "vsr-fast-x2*0.5+vsr-fast-x2*0.5"},
        {"model_path": Path("own.pth")},
        {"tta": True},
        {"tile": 64},
        {"denoise": 0.5},
        {"scale": None, "width": 1280},
        {"scale": 3},  # the network's own size, reached from another one
        {"scale": Fraction(3, 2)},
    ],
)
def test_what_the_column_does_not_compare_is_not_remembered(other):
    assert bench._remembered(replace(JOB, **other), TRIAL, DONE) is None
    assert not remembered_speeds()


def test_films_of_another_size_are_not_remembered():
    assert bench._remembered(JOB, TRIAL, replace(DONE, size=(1280, 718))) is None
    assert not remembered_speeds()
