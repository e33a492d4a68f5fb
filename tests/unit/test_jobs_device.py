"""Which jobs leave pictures on the device; the devices are stood in for."""

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from vsr import jobs
from vsr.engine import devices, surfaces
from vsr.io.encoders import get
from vsr.io.plan import SinkOptions, plan_output
from vsr.planning import UpscaleJob
from vsr.types import ColorSpec, PixelFormat, VideoInfo

CUDA = torch.device("cuda", 1)


@pytest.fixture
def entered(monkeypatch):
    seen = []
    monkeypatch.setattr(surfaces, "enter", seen.append)
    monkeypatch.setattr(jobs, "present", lambda: True)
    monkeypatch.setattr(devices, "resolve_devices", lambda _: (CUDA,))
    return seen


def job(**settings) -> UpscaleJob:
    made = UpscaleJob(source=Path("a.mkv"), target=Path("b.mkv"), scale=Fraction(2))
    return replace(
        made, options=replace(made.options, hwaccel=settings.pop("hwaccel", "cuda")), **settings
    )


def test_frames_stay_on_the_one_device_that_computes(entered):
    assert jobs._kept_on_device(job()).options.keep_on == 1
    assert entered == [CUDA]


@pytest.mark.parametrize("way", ["none", "auto", "faces", "two devices", "the processor", "no GPU"])
def test_frames_come_to_the_host_where_it_needs_them(entered, monkeypatch, way):
    given = job(hwaccel=way) if way in ("none", "auto") else job()
    if way == "faces":
        given = job(faces=object())
    if way == "no GPU":
        monkeypatch.setattr(jobs, "present", lambda: False)
    if way == "two devices":
        monkeypatch.setattr(devices, "resolve_devices", lambda _: (CUDA, CUDA))
    if way == "the processor":
        monkeypatch.setattr(devices, "resolve_devices", lambda _: (torch.device("cpu"),))
    assert jobs._kept_on_device(given) is given
    assert entered == []


class Upscaler:
    def __init__(self, device):
        self.device, self.left = device, 0

    def leave_results(self) -> bool:
        self.left += 1
        return True


@pytest.mark.usefixtures("entered")
@pytest.mark.parametrize(
    ("encoder", "device", "able", "expected"),
    [
        ("hevc_nvenc", CUDA, True, 1),
        ("hevc_nvenc", CUDA, False, 0),
        ("x264", CUDA, True, 0),
        ("hevc_nvenc", torch.device("cpu"), True, 0),
    ],
)
def test_results_stay_for_nvenc_only(tmp_path, monkeypatch, encoder, device, able, expected):
    asked = []
    monkeypatch.setattr(jobs, "works", lambda *a: asked.append(a) or able)
    picture = VideoInfo(
        width=64,
        height=64,
        format=PixelFormat(family="yuv", chroma_w=1, chroma_h=1),
        color=ColorSpec(matrix=1, full_range=False, siting=1),
        time_base=Fraction(1, 25),
    )
    plan = plan_output(tmp_path / "o.mkv", picture, None, SinkOptions(encoder="x264"))
    plan = replace(plan, encoder=get(encoder))
    upscaler = Upscaler(device)
    jobs._leave_results(upscaler, plan)
    assert upscaler.left == expected
    if device == CUDA and encoder != "x264":
        assert asked == [(1, encoder, plan.format)]


def test_a_job_on_the_processor_tries_no_device(film, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(jobs, "works", lambda *_: pytest.fail("tried"))
    import vsr

    with caplog.at_level(logging.WARNING, "vsr"):
        done = vsr.upscale(film, tmp_path / "o.mkv", scale=2, model="bicubic", device="cpu")
    assert done.frames > 0
    assert "host memory" not in caplog.text
