"""Four doors, equal pixels: a file, a pipe, a folder of pictures and a VapourSynth script."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vsr
from tests import media
from vsr.cli.main import run
from vsr.types import Frame

COUNT = 3
COLORS = {"yuv420p": (1, 1, 1), "yuv422p10le": (6, 6, 6), "bgr0": None}
"""Formats that every door takes as they are, and how their films are tagged."""
LAYOUTS = {"yuv420p": "YUV420P8", "yuv422p10le": "YUV422P10", "bgr0": "RGB24"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network on RGB, so that luma and chroma pass through every conversion."""
    from vsr.checkpoints import save_checkpoint
    from vsr.models.compact import Compact, CompactConfig

    torch.manual_seed(5)
    config = CompactConfig(features=8, convs=2, scale=2)
    path = tmp_path_factory.mktemp("network") / "rgb.safetensors"
    save_checkpoint(path, Compact(config).state_dict(), "compact", config)
    return path


@pytest.fixture(params=COLORS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def film(form: str, tmp_path: Path) -> Path:
    return media.clip(
        tmp_path / "in.mkv", codec="ffv1", fmt=form, frames=COUNT, size=(50, 38), color=COLORS[form]
    )


def settings(network: Path) -> list[str]:
    return ["-s", "2", "--model-path", str(network), "-d", "cpu", "--progress", "none"]


def frames_of(path: Path) -> list[Frame]:
    with vsr.open_source(path) as source:
        return list(source)


@pytest.fixture
def expected(film: Path, network: Path, tmp_path: Path) -> list[Frame]:
    """What the first door gives."""
    target = tmp_path / "file.mkv"
    assert run(["upscale", str(film), "-o", str(target), "-c", "ffv1", *settings(network)]) == 0
    frames = frames_of(target)
    assert len(frames) == COUNT
    assert frames[0].planes[0].shape == (76, 100)
    return frames


def assert_equal(found: list[list[np.ndarray]], expected: list[Frame]) -> None:
    assert len(found) == len(expected)
    for planes, frame in zip(found, expected, strict=True):
        for ours, theirs in zip(planes, frame.planes, strict=True):
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("container", ["nut", "y4m"])
def test_pipe(
    container: str,
    form: str,
    film: Path,
    network: Path,
    expected: list[Frame],
    tmp_path: Path,
) -> None:
    if form == "bgr0" and container == "y4m":
        container = "matroska"  # y4m has no RGB
    source, target = tmp_path / f"in.{container}", tmp_path / f"out.{container}"
    copied = ["--matrix", "bt709"] if form == "yuv420p" else ["--matrix", "bt601"]
    to_stream(film, source, container)
    with source.open("rb") as before, target.open("wb") as after:
        subprocess.run(
            [sys.executable, "-m", "vsr", "pipe", *settings(network), *copied],
            stdin=before,
            stdout=after,
            cwd=media.REPO,
            check=True,
            timeout=120,
        )
    assert_equal([list(frame.planes) for frame in frames_of(target)], expected)


def to_stream(film: Path, target: Path, container: str) -> None:
    """Rewrites a film's own pictures as a program before the pipe would."""
    from vsr.io.ends import open_writer
    from vsr.io.stream_sink import StreamSink
    from vsr.io.y4m import Y4mSink, header_for

    with vsr.open_source(film) as source:
        output = open_writer(str(target))
        if container == "y4m":
            sink = Y4mSink(output, line=header_for(source.info).line(), rate=source.info.frame_rate)
        else:
            sink = StreamSink(output, container, source.info)
        for frame in source:
            sink.write(frame)
        sink.finish()


@pytest.mark.parametrize("form", ["bgr0"], indirect=True)
def test_folder(film: Path, network: Path, expected: list[Frame], tmp_path: Path) -> None:
    """Pictures are RGB, so a film that is RGB too is compared."""
    folder, made = tmp_path / "frames", tmp_path / "larger"
    folder.mkdir()
    for number, frame in enumerate(frames_of(film)):
        Image.fromarray(vsr.to_rgb(frame)).save(folder / f"{number}.png")
    assert run(["upscale", str(folder), "-o", str(made), *settings(network)]) == 0
    found = [list(frames_of(path)[0].planes) for path in sorted(made.iterdir())]
    assert_equal(found, expected)


@pytest.mark.vapoursynth
def test_vapoursynth(form: str, film: Path, network: Path, expected: list[Frame]) -> None:
    vs = pytest.importorskip("vapoursynth")
    from vsr.vapoursynth import upscale

    frames = frames_of(film)
    order = (2, 0, 1) if form == "bgr0" else (0, 1, 2)  # VapourSynth has R, G, B
    blank = vs.core.std.BlankClip(
        width=50, height=38, format=getattr(vs, LAYOUTS[form]), length=COUNT
    )

    def drawn(n: int, f: "vs.VideoFrame") -> "vs.VideoFrame":
        frame = f.copy()
        for number, plane in enumerate(order):
            np.copyto(np.asarray(frame[number]), frames[n].planes[plane])
        return frame

    clip = vs.core.std.ModifyFrame(blank, [blank], drawn)
    if COLORS[form] is not None:
        clip = vs.core.std.SetFrameProps(clip, _Matrix=COLORS[form][0])
    result = upscale(clip, scale=2, model_path=network, device="cpu")
    found = []
    for frame in result.frames():
        planes = [np.asarray(frame[number]).copy() for number in range(3)]
        found.append([planes[order.index(k)] for k in range(3)])
    assert_equal(found, expected)
