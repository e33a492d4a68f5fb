"""Trials: what is tried, what is remembered, and when nothing is."""

import json
import logging
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from vsr.engine import assembly
from vsr.engine.assembly import Wishes, frame_upscaler, tune
from vsr.engine.color import Picture
from vsr.engine.experience import Experience
from vsr.engine.loading import find_model
from vsr.engine.tuning import Choice, Trial, key_for, remember, remembered, try_all
from vsr.errors import DeviceError, UsageError
from vsr.types import ColorSpec, PixelFormat

FORMAT = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
COLOR = ColorSpec(matrix=1, full_range=False, siting=1)
SOURCE = Picture(width=32, height=24, format=FORMAT, color=COLOR)
TARGET = replace(SOURCE, width=64, height=48)
FAST, SLOW = Choice(precision="fp32", workers=2), Choice(precision="fp32", workers=1)


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _cores():
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(kept)


@pytest.fixture
def model():
    return find_model(factor=Fraction(2))


@pytest.fixture
def tried(monkeypatch):
    """Stands in for the clock: two workers are twice as fast; gives what was tried."""
    seen = []

    def pretend(choices, make, source, _budget):
        assert source == SOURCE
        seen.append(list(choices))
        make(choices[0])
        return sorted((Trial(c, float(c.workers)) for c in choices), key=lambda t: -t.fps)

    monkeypatch.setattr(assembly, "try_all", pretend)
    return seen


def test_trials_are_sorted_and_what_fails_is_left_out(model, caplog):
    def make(choice):
        if choice.engine != "torch":
            msg = "no such thing"
            raise DeviceError(msg)
        return frame_upscaler(model, SOURCE, TARGET, Wishes(device="cpu", precision="fp32"))

    broken = replace(FAST, engine="none")
    with caplog.at_level(logging.INFO, "vsr"):
        trials = try_all([SLOW, broken, FAST], make, SOURCE, 0.1)
    assert {trial.choice for trial in trials} == {SLOW, FAST}
    assert trials[0].fps >= trials[1].fps > 0
    assert "no such thing" in caplog.text


def test_what_is_found_is_remembered_for_that_job_only(tried, model):
    wishes = Wishes(device="cpu", precision="fp32", engine="torch", frames=None, tune="auto")
    assert frame_upscaler(model, SOURCE, TARGET, wishes).settings.workers == 2
    assert tried == []
    trials = tune(model, SOURCE, TARGET, wishes)
    assert [trial.choice for trial in trials] == [FAST, SLOW]
    remember_slow()
    assert frame_upscaler(model, SOURCE, TARGET, wishes).settings.workers == 1
    off = replace(wishes, tune="off")
    assert frame_upscaler(model, SOURCE, TARGET, off).settings.workers == 2
    wider = replace(SOURCE, width=34)
    assert frame_upscaler(model, wider, TARGET, wishes).settings.workers == 2
    full = replace(wishes, tune="full")
    assert frame_upscaler(model, SOURCE, TARGET, full).settings.workers == 2
    assert frame_upscaler(model, SOURCE, TARGET, wishes).settings.workers == 2


def remember_slow():
    """Changes what was remembered, to see that it is used."""
    path = Experience("tuning.json").path
    known = json.loads(path.read_text("utf-8"))
    (key,) = known
    assert remembered(key) == FAST
    remember(key, SLOW)


@pytest.mark.parametrize(("frames", "count"), [(249, 0), (250, 1), (None, 0), (1, 0)])
def test_a_quick_trial_is_made_where_engines_differ_and_it_pays(
    tried, model, monkeypatch, frames, count
):
    monkeypatch.setattr(
        assembly, "comparable_engines", lambda *_: {"torch": None, "openvino": None}
    )
    wishes = Wishes(device="cpu", precision="fp32", frames=frames, tune="auto")
    frame_upscaler(model, SOURCE, TARGET, wishes)
    assert len(tried) == count
    for choices in tried:
        assert {c.engine for c in choices} == {"torch", "openvino"}


def test_one_picture_needs_no_trial_and_all_threads(tried, model):
    wishes = Wishes(device="cpu", frames=1, tune="full")
    assert frame_upscaler(model, SOURCE, TARGET, wishes).settings.workers == 1
    assert tried == []


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 9999, '{"k": {"engine": "torch", "threads": 3}}', "\0"]
)
def test_a_damaged_memory_is_no_obstacle(content):
    Experience("tuning.json").path.parent.mkdir(parents=True, exist_ok=True)
    Experience("tuning.json").path.write_text(content, "utf-8")
    assert remembered("k") is None
    remember("k", FAST)
    assert remembered("k") == FAST


def test_a_folder_that_cannot_be_written_is_no_obstacle(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "file"))
    remember("k", FAST)
    assert remembered("k") is None


def test_keys_tell_jobs_apart():
    assert key_for(size=(1, 2)) == key_for(size=(1, 2)) != key_for(size=(2, 1))


def test_an_unknown_engine_is_refused(model):
    with pytest.raises(UsageError, match="unknown engine"):
        frame_upscaler(model, SOURCE, TARGET, Wishes(engine="abacus"))
