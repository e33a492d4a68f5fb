"""Films in grids of models over data sets."""

import csv
import math
from fractions import Fraction

import numpy as np
import pytest

from tests.media import clip, pictures
from vsr.cli.main import run
from vsr.errors import SourceError
from vsr.judging.films import lowered_film, members
from vsr.judging.gallery import Gallery
from vsr.judging.grid import Grid, lowered, run_grid
from vsr.judging.measures import JudgingOptions
from vsr.judging.page import page
from vsr.judging.stills import png

SIZE = (96, 80)


def noisy(picture, strength, seed):
    random = np.random.default_rng(seed)
    return (picture + random.normal(0, strength, picture.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A set with two films and a picture; the first film has low resolution that noise damaged."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "HR").mkdir()
    (folder / "LR_bicubic" / "X2").mkdir(parents=True)
    shots = pictures(4, SIZE)
    for name in ("one.mkv", "two.mkv"):
        clip(folder / "HR" / name, codec="ffv1", frames=shots)
    lows = [noisy(lowered(shot, 2), 20, n) for n, shot in enumerate(shots)]
    clip(folder / "LR_bicubic" / "X2" / "onex2.mkv", codec="ffv1", frames=lows)
    return folder


def grid(*sets, **changes):
    facts = {"models": ("bicubic", "nearest"), "scales": (2,), "device": "cpu", **changes}
    return Grid(sets=sets, **facts)


def test_every_film_is_a_group_and_every_frame_an_item(films):
    gallery = Gallery(2)
    found = run_grid(grid(films), JudgingOptions(measures=("psnr", "warp")), gallery=gallery)
    names = [f"{films.name}/{name} x2" for name in ("one.mkv", "two.mkv")]
    assert found.film
    assert found.groups() == names
    assert found.labels() == ["bicubic", "nearest"]
    for name in names:
        scores = found.of(name, "bicubic")
        assert [score.seconds for score in scores] == [Fraction(n, 25) for n in range(4)]
        assert math.isnan(scores[0].values["warp"])
        assert math.isfinite(scores[1].values["warp"])
    # The noise of the low resolution that lies beside the first film costs what it costs.
    damaged, clean = (found.mean(name, "bicubic")["psnr"] for name in names)
    assert damaged < clean - 3
    assert len(gallery.exhibits()) == 4


def test_low_resolution_is_made_where_that_is_wished(films):
    made = run_grid(grid(films, lowering="make"), JudgingOptions(measures=("psnr",)))
    first, second = (made.mean(name, "bicubic")["psnr"] for name in made.groups())
    assert first == pytest.approx(second)
    with pytest.raises(SourceError, match=r"two\.mkv has no low resolution for x2"):
        run_grid(grid(films, lowering="files"), JudgingOptions(measures=("psnr",)))


def test_a_film_by_itself_and_its_first_frames(films):
    single = grid(films / "HR" / "two.mkv", frames=2)
    found = run_grid(single, JudgingOptions(measures=("psnr",)))
    assert found.groups() == ["two.mkv x2"]
    assert len(found.of("two.mkv x2", "nearest")) == 2
    assert found.notes == ("two.mkv: at most 2 frames, from the beginning",)


def test_pictures_and_films_of_a_folder_both_count(films, tmp_path):
    shot = pictures(1, SIZE)[0]
    (tmp_path / "a.png").write_bytes(png(shot))
    (tmp_path / "b.mkv").write_bytes((films / "HR" / "one.mkv").read_bytes())
    (tmp_path / "notes.txt").write_text("nothing to see")
    assert members(tmp_path) == ([tmp_path / "a.png"], [tmp_path / "b.mkv"])
    found = run_grid(grid(tmp_path), JudgingOptions(measures=("psnr",)))
    name = tmp_path.name
    assert found.groups() == [f"{name} x2", f"{name}/b.mkv x2"]
    text = page(found, [], "both")
    assert text.count("<figure>") == 1
    assert f"{name}/b.mkv x2: PSNR" in text


def test_what_cannot_be_judged_is_said(films, tmp_path):
    with pytest.raises(SourceError, match="holds no pictures"):
        members(tmp_path)
    (tmp_path / "LR_bicubic" / "X3").mkdir(parents=True)
    (tmp_path / "HR").mkdir()
    for target in ("HR/one.mkv", "LR_bicubic/X3/one.mkv"):
        (tmp_path / target).write_bytes((films / "HR" / "one.mkv").read_bytes())
    film = tmp_path / "HR" / "one.mkv"
    assert lowered_film(tmp_path, film, 2) is None
    assert lowered_film(tmp_path, film, 3) == tmp_path / "LR_bicubic" / "X3" / "one.mkv"
    with pytest.raises(SourceError, match=r"is 96x80, 32x26 was expected for one\.mkv"):
        run_grid(grid(tmp_path, scales=(3,)), JudgingOptions(measures=("psnr",)))
    (tmp_path / "broken.mkv").write_bytes(b"no film")
    with pytest.raises(SourceError):
        run_grid(grid(tmp_path / "broken.mkv"), JudgingOptions(measures=("psnr",)))


def test_the_command_takes_films(films, tmp_path, capsys):
    table = tmp_path / "t.csv"
    words = ["--models", "bicubic", "--sets", str(films / "HR" / "one.mkv"), "--scales", "2"]
    words += ["-m", "psnr,static", "--frames", "3", "-d", "cpu", "--csv", str(table)]
    assert run(["eval", *words]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split()[:4] == ["one.mkv", "x2", "bicubic", "3"]
    assert "at most 3 frames" in captured.err
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    assert [row["seconds"] for row in rows] == ["0", "1/25", "2/25"]
