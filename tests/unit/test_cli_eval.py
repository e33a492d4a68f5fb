"""`vsr eval` and `vsr compare` as commands."""

import csv
import json

import numpy as np
import pytest

from tests.media import clip, pictures
from vsr import __version__
from vsr.cli.main import run
from vsr.judging.stills import png


@pytest.fixture
def folders(folder):
    """`hr` with two pictures, `sr` with both a little off."""
    for name in ("hr", "sr"):
        (folder / name).mkdir()
    for n, picture in enumerate(pictures(2, (48, 40))):
        (folder / "hr" / f"{n}.png").write_bytes(png(picture))
        (folder / "sr" / f"{n}_x2.png").write_bytes(png(picture // 2 * 2))
    return folder


def test_a_table_and_all_files(folders, capsys):
    outputs = ["--json", "e.json", "--csv", "e.csv", "--html", "e.html"]
    assert run(["eval", "hr", "sr", "--each", "-m", "psnr,ssim", *outputs]) == 0
    text = capsys.readouterr().out
    assert "PSNR ↑" in text
    assert text.splitlines()[-1].split()[:2] == ["sr", "2"]
    assert len(text.splitlines()) == 3 + 1 + 2
    document = json.loads((folders / "e.json").read_text())
    assert document["summary"][0]["n"] == 2
    assert len(list(csv.DictReader((folders / "e.csv").read_text("utf-8").splitlines()))) == 2
    page = (folders / "e.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "hr: sr" in page
    assert f"vsr {__version__}" in page


def test_json_goes_to_stdout(folders, capsys):
    assert run(["eval", "hr", "sr", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"]["psnr"]["higher_is_better"]
    assert not (folders / "-").exists()


@pytest.mark.usefixtures("folders")
def test_models_over_sets(capsys):
    arguments = ["--models", "bicubic,nearest", "--sets", "hr", "--scales", "2,x4", "-d", "cpu"]
    assert run(["eval", *arguments, "-m", "psnr"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:3] for row in rows] == [
        ["hr", "x2", "bicubic"],
        ["hr", "x2", "nearest"],
        ["hr", "x4", "bicubic"],
        ["hr", "x4", "nearest"],
    ]
    assert float(rows[0][-1]) > float(rows[1][-1])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["hr"], 2, "hr is the original; name its results after it"),
        (["hr", "gone"], 3, "gone does not exist"),
        (["hr", "sr", "--models", "bicubic"], 2, "and not both"),
        (["--models", "bicubic"], 2, "--sets is missing"),
        (["--models", "bicubic", "--sets", "hr", "--scales", "2.5"], 2, "whole factors"),
        (["--models", "gone.pth", "--sets", "hr"], 3, "gone.pth does not exist"),
        (["hr", "sr", "-m", "psnr,wat"], 2, "unknown measure 'wat'"),
        (["hr", "sr", "-m", "lpips"], 2, "lpips needs weights"),
        (["hr", "sr", "-m", "vmaf,tof"], 2, "give films"),
        (["hr", "sr", "-m", "niqe"], 2, "NIQE needs at least"),
        (["hr", "sr", "--crop", "16"], 2, "leave ssim out"),
        (["hr/0.png", "sr/0_x2.png", "--html", "hr/0.png"], 2, "is one of the inputs"),
        (["hr", "sr", "--html", "old.html"], 4, "old.html"),
        (["hr", "sr", "--html", "gone/e.html"], 4, "gone"),
        (["hr", "hr/0.png"], 2, "two folders, two pictures or two films"),
    ],
)
def test_errors_are_one_line(folders, capsys, arguments, code, said):
    (folders / "old.html").write_text("old")
    assert run(["eval", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vsr: error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert (folders / "old.html").read_text() == "old"


def test_films(folder, capsys):
    shots = pictures(4, (64, 48))
    clip(folder / "a.mkv", codec="ffv1", frames=shots)
    clip(folder / "b.mp4", frames=shots[:3])
    assert run(["eval", "a.mkv", "b.mp4", "-m", "psnr,vmaf,static"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split()[:2] == ["b.mp4", "3"]
    assert "1 of the original and 0 of the result have no partner" in captured.err


def test_compare_writes_a_picture_and_a_page(folders, capsys):
    inputs = ["hr/0.png", "sr/0_x2.png"]
    assert run(["compare", *inputs, "-o", "c.png", "--zoom", "12"]) == 0
    assert "c.png: 2 inputs" in capsys.readouterr().err
    assert (folders / "c.png").read_bytes().startswith(b"\x89PNG")
    assert run(["compare", *inputs, "-o", "c.html", "--crop", "4,6,16,12", "--labels", "A,B"]) == 0
    page = (folders / "c.html").read_text("utf-8")
    assert "16×12 pixels at 4, 6" in page
    assert "<figcaption>A</figcaption>" in page


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["hr/0.png"], 2, "needs two or more"),
        (["hr/0.png", "gone.png"], 3, "gone.png does not exist"),
        (["hr/0.png", "hr/1.png", "-o", "hr/1.png"], 2, "is one of the inputs"),
        (["hr/0.png", "hr/1.png", "-o", "c.gif"], 2, "use .png or .html"),
        (["hr/0.png", "hr/1.png", "--at", "3"], 2, "all inputs are pictures"),
        (["hr/0.png", "hr/1.png", "--crop", "1,2,3"], 2, "write X,Y,W,H"),
        (["hr/0.png", "hr/1.png", "--crop", "40,2,30,8"], 2, "leaves the picture of 48x40"),
    ],
)
def test_compare_s_errors_are_one_line(folders, capsys, arguments, code, said):
    assert run(["compare", *arguments]) == code
    captured = capsys.readouterr().err
    assert captured.startswith("vsr: error: ")
    assert captured.count("\n") == 1
    assert said in captured
    assert not (folders / "compared.png").exists()


def test_compare_takes_the_middle_of_films(folder):
    shots = [np.full((48, 64, 3), 20 * n, np.uint8) for n in range(8)]
    clip(folder / "a.mkv", codec="ffv1", frames=shots)
    clip(folder / "b.mkv", codec="ffv1", frames=shots)
    assert run(["compare", "a.mkv", "b.mkv", "--crops", "0"]) == 0
    assert (folder / "compared.png").is_file()
