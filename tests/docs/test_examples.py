"""The numbered examples run as they are, and the example clip is what its script draws."""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from tests.media import REPO, decoded, packets
from vsr.metrics import psnr

CLIP = REPO / "examples" / "clip.mkv"
EXAMPLES = sorted((REPO / "examples").glob("[0-9]*.py"))


def run(example: Path, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(example), *map(str, arguments)])
    runpy.run_path(str(example), run_name="__main__")


def example(number: int) -> Path:
    (found,) = (path for path in EXAMPLES if path.name.startswith(f"{number:02}_"))
    return found


def test_every_example_has_a_test_here() -> None:
    assert [path.name[:2] for path in EXAMPLES] == ["01", "02", "03", "04", "05"]


def test_01_writes_a_file(folder: Path, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(example(1), monkeypatch, film, folder / "larger.mkv")
    frames = decoded(folder / "larger.mkv")
    assert [time for time, _ in frames] == [time for time, _ in decoded(film)]
    assert frames[0][1].shape == (96, 128, 3)
    assert packets(folder / "larger.mkv", "audio") == packets(film, "audio")


@pytest.mark.usefixtures("folder")
def test_02_tells_times(
    film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(example(2), monkeypatch, film)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("64×48, 25 frames")
    assert len(lines) == 11
    assert lines[2].startswith("at 1/25 s: 128×96, mean ")


@pytest.mark.usefixtures("folder")
def test_03_enlarges_a_tensor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(example(3), monkeypatch)
    out = capsys.readouterr().out
    assert "(1, 3, 90, 160) → (1, 3, 180, 320)" in out
    assert float(out.split()[-1]) < 1e-5


def test_04_takes_any_checkpoint(
    folder: Path, film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "examples").mkdir()
    (folder / "examples" / "clip.mkv").write_bytes(film.read_bytes())
    run(example(4), monkeypatch)
    assert "own.mkv: 10 frames of 128×96" in capsys.readouterr().out
    (folder / "own.mkv").unlink()
    run(example(4), monkeypatch, "untrained.safetensors", film)


@pytest.mark.ffmpeg
def test_05_stands_between_two_ffmpegs(
    folder: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(example(5), monkeypatch, film, folder / "larger.mkv")
    frames = decoded(folder / "larger.mkv")
    assert frames[0][1].shape == (96, 128, 3)
    assert len(frames) == len(decoded(film))
    assert packets(folder / "larger.mkv", "audio") == packets(film, "audio")


def make_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_example", REPO / "scripts/make_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_clip_is_small_and_has_every_kind_of_stream() -> None:
    assert CLIP.stat().st_size <= 400_000
    with av.open(CLIP) as file:
        kinds = [(s.type, s.codec_context.codec.canonical_name) for s in file.streams]
        languages = [s.language for s in file.streams]
        context = file.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc)
        assert len(file.chapters()) == 2
        assert file.metadata["title"]
    text = ("subtitle", "subrip")
    assert kinds == [("video", "h264"), ("audio", "aac"), text, text]
    assert languages[1:] == ["zxx", "eng", "deu"]
    assert (context.width, context.height, context.pix_fmt) == (320, 180, "yuv420p")
    assert (*map(int, tags), int(context.color_range)) == (6, 6, 6, 1)


def test_the_clip_shows_what_its_script_draws() -> None:
    maker, frames = make_example(), decoded(CLIP)
    assert len(frames) == maker.FRAMES
    for index in (0, 70, 143):
        drawn = np.asarray(maker.shrunk(maker.drawing(index)))
        assert psnr(drawn, frames[index][1]) > 28, f"frame {index} is another picture"
