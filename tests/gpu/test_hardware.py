"""NVDEC and NVENC without host copies: the probe, equal samples, no frame overwritten, no waiting.

Not every GPU has an encoder: those tests are skipped where NVENC does not open.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vsr
from tests import media
from tests.gpu.steady import count_unsynchronised
from vsr.engine.color import Picture
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.engine.surfaces import enter, host_planes
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.encoders import available, get
from vsr.io.hardware import fault
from vsr.models._base import InputSpec

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)
SIZE = (320, 192)


@pytest.fixture(autouse=True)
def _context() -> None:
    enter(CUDA)


@pytest.fixture(params=["libx264", "libx265"])
def film(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    deep = request.param == "libx265"
    return media.clip(
        tmp_path / "film.mkv",
        codec=request.param,
        fmt="yuv420p10le" if deep else "yuv420p",
        frames=60,
        size=SIZE,
        options={"x265-params": "log-level=none"} if deep else {},
    )


def read(path: Path, *, left: bool) -> list[vsr.Frame]:
    options = SourceOptions(hwaccel="cuda", keep_on=0) if left else SourceOptions()
    with open_source(path, options) as source:
        return list(source)


@pytest.mark.parametrize("name", ["nv12", "p010le"])
def test_the_decoder_passes_the_probe(name: str):
    assert fault(0, None, name) is None


@pytest.mark.parametrize("first", ["ffmpeg", "torch"])
def test_whoever_comes_first_the_other_joins_its_context(first: str):
    steps = {
        "torch": "import torch; from vsr.engine.surfaces import enter;"
        "enter(torch.device('cuda', 0));",
        "ffmpeg": "from vsr.io.hardware import fault; assert fault(0, None, 'nv12') is None;",
    }
    order = ["torch", "ffmpeg"] if first == "torch" else ["ffmpeg", "torch"]
    code = "".join(steps[name] for name in order) + steps["ffmpeg"]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_surfaces_hold_what_the_processor_decodes(film: Path):
    ours, expected = read(film, left=True), read(film, left=False)
    assert all(frame.surface is not None for frame in ours)
    for frame, other in zip(ours, expected, strict=True):
        assert (frame.pts, frame.format, frame.color) == (other.pts, other.format, other.color)
        for plane, reference in zip(host_planes(frame), other.planes, strict=True):
            np.testing.assert_array_equal(plane, reference)


class Nearest:
    spec = InputSpec(scale=2, channels=1, overlap=0)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def upscaler_for(frame: vsr.Frame) -> FrameUpscaler:
    color = frame.color.resolved(*SIZE, "yuv")
    source = Picture(width=SIZE[0], height=SIZE[1], format=frame.format, color=color)
    target = replace(source, width=2 * SIZE[0], height=2 * SIZE[1])
    return FrameUpscaler(lambda _: Nearest(), CUDA, source, target, Settings(batch=2))


def test_no_frame_is_overwritten_while_it_is_read(film: Path):
    """Frames go straight from the decoder through the lane, so that its memory is used again."""
    expected = read(film, left=False)
    with open_source(film, SourceOptions(hwaccel="cuda", keep_on=0)) as source:
        count = 0
        for made, frame in zip(upscaler_for(expected[0])(source), expected, strict=True):
            for plane, reference in zip(made.planes, frame.planes, strict=True):
                height, width = reference.shape
                assert plane.shape == (2 * height, 2 * width)
            luma = frame.planes[0].repeat(2, 0).repeat(2, 1)
            assert np.abs(made.planes[0].astype(int) - luma).max() <= 1
            count += 1
    assert count == 60


def test_the_steady_state_does_not_synchronise(film: Path):
    frames = read(film, left=True)
    assert count_unsynchronised(upscaler_for(frames[0])(frames)) == 48


def test_a_job_gives_the_same_picture_either_way(film: Path, tmp_path: Path):
    made = []
    for way in ("none", "auto"):
        target = tmp_path / f"{way}.mkv"
        vsr.upscale(
            film,
            target,
            model="bicubic",
            device="cuda",
            sink=vsr.SinkOptions(encoder="ffv1"),
            options=SourceOptions(hwaccel=way),
        )
        made.append([shot for _, shot in media.decoded(target)])
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_array_equal(ours, theirs)


NVENC = [("h264_nvenc", "libx264", "nv12"), ("hevc_nvenc", "libx265", "p010le")]


@pytest.mark.parametrize(("encoder", "_", "name"), NVENC)
def test_the_encoder_passes_the_probe(encoder: str, _: str, name: str):
    if not available(get(encoder)):
        pytest.skip(f"{encoder} does not open here")
    assert fault(0, encoder, name) is None


@pytest.mark.parametrize(("encoder", "codec", "name"), NVENC)
def test_nvenc_takes_results_from_the_device(tmp_path: Path, encoder: str, codec: str, name: str):
    """The same film with results that came over the host: equal but for what an encoder may do."""
    if not available(get(encoder)):
        pytest.skip(f"{encoder} does not open here")
    deep = name == "p010le"
    film = media.clip(
        tmp_path / "film.mkv",
        codec=codec,
        fmt="yuv420p10le" if deep else "yuv420p",
        frames=60,
        size=SIZE,
        options={"x265-params": "log-level=none"} if deep else {},
    )
    made = []
    for left in (True, False):
        target = tmp_path / f"{left}.mkv"
        with pytest.MonkeyPatch.context() as patch:
            if not left:
                patch.setattr(FrameUpscaler, "leave_results", lambda _: False)
            vsr.upscale(
                film,
                target,
                model="bicubic",
                device="cuda",
                sink=vsr.SinkOptions(encoder=encoder),
            )
        made.append([shot.astype(int) for _, shot in media.decoded(target)])
    for ours, theirs in zip(*made, strict=True):
        assert np.abs(ours - theirs).mean() < 1.0
