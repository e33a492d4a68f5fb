"""`vsr train`: lists, checks, trains, goes on, and says what is wrong in one line."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vsr.cli import train
from vsr.cli.main import run
from vsr.cli.signals import Stop
from vsr.train.loop import TrainProgress

FAST = ["--set", "stages[*].steps=2", "--set", "stages[*].batch=2", "--set", "workers=0"]
FAST += ["--set", "data.patch=32", "--set", "samples=1", "-d", "cpu"]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        small = random.integers(0, 255, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 56), Image.Resampling.BICUBIC).save(
            folder / f"{number}.png"
        )
    return folder


def test_the_recipes_are_listed(capsys):
    assert run(["train", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("esrgan ") and "psnr → gan" in line for line in lines)
    assert any(line.startswith("noise-gan-small ") for line in lines)


def test_a_recipe_is_checked_and_described(capsys):
    assert run(["train", "srgan", "--check"]) == 0
    out = capsys.readouterr().out
    assert "srresnet x4" in out
    assert "1000000 steps of 16" in out
    assert "vgg + gan" in out


def test_the_help_names_what_ships(capsys):
    assert run(["train", "--help"]) == 0
    assert "vsr train --list" in capsys.readouterr().out


def test_a_recipe_trains_goes_on_and_upscales(tmp_path, photos, capsys):
    words = ["train", "bicubic-l1-small", "--data", str(photos), "-o", str(tmp_path / "run")]
    assert run([*words, *FAST]) == 0
    said = capsys.readouterr().err
    assert "l1.safetensors: 2 steps" in said
    assert run([*words, *FAST]) == 0
    assert "l1.safetensors: 0 steps" in capsys.readouterr().err
    assert (tmp_path / "run" / "samples" / "l1-0000002.png").is_file()
    upscale = ["upscale", str(photos / "0.png"), "-s", "2", "-d", "cpu", "-o"]
    model = ["--model-path", str(tmp_path / "run" / "l1.safetensors")]
    assert run([*upscale, str(tmp_path / "x.png"), *model]) == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (128, 112)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "RECIPE is missing"),
        (["esrgn"], 3, "there is no recipe 'esrgn'"),
        (["esrgan", "--set", "stages[0].losses[0].weigth=1"], 2, "did you mean 'weight'?"),
        (["esrgan", "--set", "steps"], 2, "--set takes PATH=VALUE"),
        (
            ["bicubic-l1-small", "--set", "data.pach=3"],
            2,
            "data.pach is unknown, did you mean 'patch'",
        ),
        (["bicubic-l1-small", "--data", "none"], 3, "none"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_wrong_is_said_in_one_line(words, code, said, capsys):
    assert run(["train", *words]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vsr: error: ")
    assert said in lines[0]


def test_a_missing_vgg_is_told_before_the_first_step(tmp_path, photos, capsys):
    words = ["train", "srgan", "--data", str(photos), "-o", str(tmp_path / "run"), *FAST]
    words += ["--set", "data.patch=32", "--set", "stages[*].batch=1"]
    words += ["--set", "network.config={features=4,blocks=1,scale=4}", "-d", "cpu"]
    assert run(words) == 2
    assert "pass --vgg FILE" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_vgg_is_given_to_the_losses_that_name_none(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'stages = [{}, {losses=[{kind="l1"}, {kind="vgg"}, {kind="vgg", weights="own.pth"}]}]'
    )
    values = {"folders": (tmp_path / "a b",), "vgg": tmp_path / "v.pth", "assignments": ("seed=1",)}
    values["validate"] = (tmp_path / "v",)
    folders = json.dumps([str(tmp_path / "a b")])
    weights = json.dumps(str(tmp_path / "v.pth"))
    judges = json.dumps([str(tmp_path / "v")])
    expected = [f"data.folders={folders}", f"validation.folders={judges}"]
    expected += [f"stages[1].losses[1].weights={weights}", "seed=1"]
    assert train._assignments(path, values) == expected


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_the_first_signal_waits_for_the_step():
    stop = Stop()
    before = signal.getsignal(signal.SIGTERM)
    with train._asked(stop) as stopping:
        assert not stopping()
        signal.raise_signal(signal.SIGTERM)  # to this thread, before anything else
        assert stopping()
        assert stop.signal is signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_stopped_training_says_how_to_go_on(tmp_path, photos, capsys, monkeypatch):
    real = train._Shower.update

    def update(self, progress):
        real(self, progress)
        if progress.step == 1:
            signal.raise_signal(signal.SIGINT)

    words = ["train", "bicubic-l1-small", "--data", str(photos), "-o", str(tmp_path / "run"), *FAST]
    with monkeypatch.context() as patched:
        patched.setattr(train._Shower, "update", update)
        assert run(words) == 130
    assert "stopped at step 1 of l1; the same command goes on" in capsys.readouterr().err
    assert run(words) == 0
    assert "l1.safetensors: 1 steps" in capsys.readouterr().err


def progress(**changes):
    facts = {"stage": "gan", "number": 1, "stages": 2, "step": 25, "steps": 100, "per_second": 2.5}
    return TrainProgress(**facts | changes)


def test_a_line_tells_what_matters():
    facts = {"loss_l1": 0.0123456, "rate_maker": 1e-4, "psnr": 31.234}
    said = train.described(progress(facts=facts, skipped=3))
    assert said == "gan 25/100 (25 %), 2.50 steps/s, ETA 0:30, l1 0.01235, psnr 31.23, 3 left out"


@pytest.mark.parametrize("style", ["bar", "line", "none"])
def test_progress_is_shown(style, capsys, monkeypatch):
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    ticks = iter(range(0, 1000, 10))
    shower = train._Shower(style, "name")
    shower.update(progress())
    shower.update(progress(number=2, stage="next", step=1))
    shower.close()
    said = capsys.readouterr().err
    assert ("25/100" in said) == (style != "none")
    assert ("name" in said) == (style != "none")
