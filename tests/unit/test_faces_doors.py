"""`--face-enhance` through every door: streams, files, frames, the command line."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vsr
import vsr.api
from tests.unit.test_engine_stream import COLOR, CPU, FORMAT, Nearest, make_frames
from tests.unit.test_faces_engine import face, painter
from vsr.cli.main import run
from vsr.engine import faces as home
from vsr.engine.color import Picture
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.errors import UsageError
from vsr.faces.enhance import FaceEnhancer
from vsr.faces.options import FaceOptions


def upscaler(finish, make=lambda _: Nearest(), **settings):
    source = Picture(width=32, height=24, format=FORMAT, color=COLOR)
    target = Picture(width=64, height=48, format=FORMAT, color=COLOR)
    made = FrameUpscaler(make, CPU, source, target, Settings(**settings))
    made.finish = finish
    return made


class Seen:
    """Marks each result with the number of its call, and keeps what it was given."""

    def __init__(self):
        self.frames = []

    def __call__(self, frame, planes):
        self.frames.append(frame)
        marked = tuple(plane.copy() for plane in planes)
        marked[0][0, 0] = len(self.frames)
        return marked


@pytest.mark.parametrize("workers", [1, 3])
def test_every_new_picture_is_finished_once_and_in_order(workers):
    frames = make_frames(9)
    frames[4:6] = [replace(frames[4], planes=frames[3].planes), frames[5]]
    seen = Seen()
    results = list(upscaler(seen, batch=2, workers=workers)(frames))
    assert seen.frames == [frames[k] for k in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert [r.planes[0][0, 0] for r in results] == [1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert [r.pts for r in results] == [f.pts for f in frames]


def test_what_is_redone_is_finished_once(caplog):
    def fail(x):
        if x.shape[0] > 1:
            raise torch.OutOfMemoryError
        return x

    frames, seen = make_frames(5), Seen()
    with caplog.at_level(logging.WARNING):
        list(upscaler(seen, lambda _: Nearest(fail=fail), batch=4)(frames))
    assert "batches of 1" in caplog.text
    assert seen.frames == frames


class Networks:
    """In the place of GFPGAN and RetinaFace."""

    def __init__(self, options, found):
        self.options, self.found = options, found
        self.detector = self.restorer = torch.nn.Identity()

    def on(self, device, source, target, rotation=0):
        enhancer = FaceEnhancer(lambda x: [self.found for _ in x], painter, 32, self.options)
        return home.FaceFinish(enhancer, device, source, target, rotation)


@pytest.fixture
def networks(monkeypatch):
    asked = []

    def find(options, **_):
        asked.append(options)
        return Networks(options, face())

    monkeypatch.setattr(home, "find_faces", find)
    monkeypatch.setattr(vsr.api, "find_faces", find)
    return asked


@pytest.mark.parametrize("model", ["bicubic", "vsr-fast"])
def test_files_and_frames(networks, tmp_path: Path, model: str):
    from PIL import Image

    picture = np.full((70, 90, 3), 90, np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    how = {"scale": 2, "model": model, "device": "cpu"}
    vsr.upscale(tmp_path / "a.png", tmp_path / "plain.png", **how)
    assert networks == []
    vsr.upscale(tmp_path / "a.png", tmp_path / "faces.png", faces=FaceOptions(weight=0.5), **how)
    assert networks == [FaceOptions(weight=0.5)]
    plain, faces = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("plain", "faces"))
    changed = (plain != faces).any(2)
    assert 0.1 < changed.mean() < 0.6
    assert not changed[:10].any()
    (frame,) = vsr.upscale_frames(
        tmp_path / "a.png", scale=2, model=model, device="cpu", faces=FaceOptions(weight=0.5)
    )
    np.testing.assert_array_equal(vsr.to_rgb(frame), faces)


def test_options_of_the_command_line(tmp_path: Path):
    import click

    from vsr.cli.options import job_options
    from vsr.cli.settings import job_from

    def job(*args: str):
        values = click.Command("upscale", params=job_options()).make_context("upscale", [*args])
        return job_from(values.params, "in.mkv", Path("out.mkv")).faces

    assert job() is None
    assert job("--face-enhance") == FaceOptions()
    own = tmp_path / "GFPGANv1.3.pth"
    own.touch()
    assert job("--face-enhance", "--face-model", str(own)) == FaceOptions(path=own)
    assert job(
        "--face-enhance", "--face-model", "gfpgan-1.3", "--face-weight", "0.5", "--only-center-face"
    ) == FaceOptions(model="gfpgan-1.3", weight=0.5, which="centre")
    with pytest.raises(UsageError, match="--face-weight has no meaning without --face-enhance"):
        job("--face-weight", "0.5")


def test_models_lists_and_names_them(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    assert run(["models"]) == 0
    assert "GFPGANv1.4" in capsys.readouterr().out
    assert run(["models", "list", "--json"]) == 0
    names = {entry["name"] for entry in json.loads(capsys.readouterr().out)}
    assert {"GFPGANv1.3", "detection_Resnet50_Final"} <= names
    assert run(["models", "verify", "retinaface"]) != 0
    assert "detection_Resnet50_Final is absent" in capsys.readouterr().err


@pytest.mark.vapoursynth
def test_vapoursynth(networks):
    import vapoursynth as vs

    from vsr.vapoursynth import upscale

    clip = vs.core.std.BlankClip(width=90, height=70, format=vs.RGB24, length=3, color=[80, 80, 80])
    plain = upscale(clip, scale=2, model="bicubic", device="cpu")
    assert networks == []
    faces = upscale(clip, scale=2, model="bicubic", device="cpu", faces=FaceOptions(weight=0.5))
    assert networks == [FaceOptions(weight=0.5)]
    with plain.get_frame(1) as a, faces.get_frame(1) as b:
        changed = np.asarray(a[0]) != np.asarray(b[0])
    assert 0.1 < changed.mean() < 0.6
    assert not changed[:10].any()
