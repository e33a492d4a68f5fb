"""`vsr upscale` with folders, series and patterns of pictures, as a program."""

import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import vsr
from tests import media
from vsr.cli.main import run
from vsr.io.stills import read_still

FAST = ("-n", "bicubic", "-d", "cpu", "-s", "2")


def upscale(*args: object) -> int:
    return run(["upscale", *map(str, args), *FAST])


@pytest.fixture
def frames(tmp_path, folder):  # noqa: ARG001 - the working directory
    """Pictures f1.png to f11.png, all of one size, each of its own gray."""
    made = tmp_path / "frames"
    made.mkdir()
    for number in range(1, 12):
        Image.new("RGB", (16, 12), (number * 20,) * 3).save(made / f"f{number}.png")
    (made / "notes.txt").write_text("no picture")
    return made


def names(path):
    return sorted(p.name for p in path.iterdir())


def test_a_folder_becomes_a_folder(frames, tmp_path, capsys):
    assert upscale(frames, "-o", tmp_path / "out", "-j", "1:2,2:2") == 0
    assert names(tmp_path / "out") == sorted(f"f{n}.png" for n in range(1, 12))
    assert "11 frames of 32x24" in capsys.readouterr().err
    assert upscale(frames, "-o", tmp_path / "out") == 0
    assert "11 of 11 pictures were there already" in capsys.readouterr().err


def test_without_an_output_a_folder_lies_beside(frames, tmp_path):
    assert upscale(frames) == 0
    assert len(names(tmp_path / "frames_x2")) == 11


def test_the_tree_is_mirrored(frames):
    (frames / "b").mkdir()
    Image.new("L", (4, 4)).save(frames / "b" / "deep.jpg")
    assert upscale(frames, "-r", "-o", frames / "out", "-f", "auto", "--suffix", "big") == 0
    assert (frames / "out" / "b" / "deep_big.jpg").is_file()
    assert (frames / "out" / "f1_big.png").is_file()
    assert upscale(frames, "-r", "-o", frames / "out", "-f", "auto", "--suffix", "big") == 0
    assert not (frames / "out" / "out").exists(), "outputs are no inputs"


@pytest.mark.parametrize("ext", ["jpg", "webp", "tif", "bmp"])
def test_ext_chooses_the_kind(frames, tmp_path, ext):
    assert upscale(frames / "f1*.png", "-o", tmp_path / "out/", "-f", ext, "--quality", 90) == 0
    assert names(tmp_path / "out") == sorted(f"{n}.{ext}" for n in ("f1", "f10", "f11"))


def test_series_keep_their_numbers(frames, tmp_path):
    (frames / "f2.png").unlink()
    assert upscale(frames / "f%d.png", "-o", tmp_path / "out" / "%04d.png") == 0
    assert names(tmp_path / "out") == [f"{n:04}.png" for n in (1, *range(3, 12))]
    assert read_still(tmp_path / "out" / "0010.png").frame.planes[0].max() == 200


def test_a_broken_picture_is_named_at_the_end(frames, tmp_path, capsys):
    (frames / "f3.png").write_bytes(b"no picture")
    assert upscale(frames, "-o", tmp_path / "out") == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "vsr: error: 1 of 11 pictures failed: f3.png"
    assert len(names(tmp_path / "out")) == 10


@pytest.mark.parametrize("style", ["json", "line", "bar", "none"])
def test_progress_in_every_style(frames, tmp_path, style, capsys):
    assert upscale(frames, "-o", tmp_path / "out", "--progress", style) == 0
    out = capsys.readouterr().out
    if style == "json":
        events = [json.loads(line) for line in out.splitlines()]
        assert [events[0]["event"], events[-1]["event"]] == ["start", "done"]
        assert (events[-1]["frames"], events[-1]["width"]) == (11, 32)
    else:
        assert out == ""


def test_a_folder_becomes_a_video_and_a_folder_again(frames, tmp_path):
    film, again = tmp_path / "film.mkv", tmp_path / "again"
    assert upscale(frames, "-o", film, "--fps", "23.976", "-c", "ffv1") == 0
    shown = media.decoded(film)
    assert [round(t * 24000 / 1001) for t, _ in shown] == list(range(11))
    assert all(
        abs(t - Fraction(1001 * k, 24000)) <= Fraction(1, 2000) for k, (t, _) in enumerate(shown)
    )
    assert run(["upscale", str(film), "-n", "bicubic", "-s", "1", "-o", f"{again}/%06d.png"]) == 0
    assert names(again) == [f"{n:06}.png" for n in range(1, 12)]
    for number in range(1, 12):
        (expected,) = vsr.upscale_frames(frames / f"f{number}.png", model="bicubic", device="cpu")
        got = read_still(again / f"{number:06}.png").frame
        for p, q in zip(got.planes, expected.planes, strict=True):
            assert np.array_equal(p, q)


def test_a_video_of_unequal_pictures_is_refused(frames, tmp_path, capsys):
    Image.new("RGB", (18, 12)).save(frames / "f7.png")
    assert upscale(frames, "-o", tmp_path / "film.mkv", "--fps", "24") == 3
    assert "f7.png is 18x12" in capsys.readouterr().err
    assert names(tmp_path) == ["frames"]


@pytest.mark.parametrize(
    ("args", "words", "code"),
    [
        (("frames", "-o", "film.mkv"), "--fps", 2),
        (("frames", "-o", "one.png"), "holds 11 pictures", 2),
        (("frames", "-o", "film.xyz"), "xyz", 4),
        (("frames", "-o", "out", "--fps", "24"), "--fps", 2),
        (("frames", "-o", "frames"), "one of the inputs", 2),
        (("frames", "-o", "no/where/"), "does not exist", 4),
        (("frames/f1.png", "-o", "b.png", "-r"), "-r", 2),
        (("frames", "-o", "film.mkv", "--fps", "0"), "above 0", 2),
        (("frames", "-o", "out", "-j", "4"), "2:1:2", 2),
        (("empty", "-o", "out"), "holds no pictures", 3),
        (("frames/%03d.png", "-o", "out"), "no file matches", 3),
        (("frames", "notes.txt", "-o", "out"), "cannot go together", 2),
        (("frames", "-o", "film.mkv", "--fps", "24", "--start", "1"), "--start", 2),
    ],
)
@pytest.mark.usefixtures("frames")
def test_what_cannot_be_is_one_clear_line(args, words, code, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    assert upscale(*args) == code
    error = capsys.readouterr().err
    assert error.startswith("vsr: error: ")
    assert error.count("\n") == 1
    assert words in error
    assert names(tmp_path) == ["empty", "frames", "notes.txt"]


def test_a_single_picture_keeps_its_tags(frames, tmp_path):
    Image.open(frames / "f1.png").save(tmp_path / "photo.jpg", dpi=(300, 300))
    assert upscale(tmp_path / "photo.jpg", "-o", tmp_path / "photo4x.png") == 0
    with Image.open(tmp_path / "photo4x.png") as made:
        assert made.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert upscale(tmp_path / "photo.jpg", "-o", tmp_path / "photo4x.png") == 4
