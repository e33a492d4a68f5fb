"""`vsr info`: streams, colour, times, and the plan, on a small file made here."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from vsr.cli.info import clock, plain
from vsr.cli.main import run
from vsr.cli.tables import size, table
from vsr.errors import UnsupportedSourceError
from vsr.types import ColorSpec


@pytest.fixture
def film(tmp_path):
    """Eight frames of 64×48 at 25 fps."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["language"] = "fin"
        for number in range(8):
            picture = np.full((72, 64), 16 + number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture
def explained(monkeypatch):
    """Replaces `planning.explain`, and remembers the job."""
    seen = []

    def explain(job):
        seen.append(job)
        return (("size", "64x48 to 128x96", ""), ("encoder", "x264", "the default"))

    monkeypatch.setattr("vsr.planning.explain", explain)
    return seen


def test_a_table_for_people(film, explained, capsys):
    assert run(["info", str(film), "-s", "2", "--count"]) == 0
    text = capsys.readouterr().out
    assert "*0  video  ffv1  64x48, yuv420p, 25 fps" in text
    assert "fin" in text
    assert "8 packets, " in text
    assert "0:00:00.000 to 0:00:00.280, constant rate" in text
    assert "  encoder  x264             the default" in text
    assert explained[0].scale == 2
    assert explained[0].target == film.with_name("film_x2.mkv")
    assert explained[0].sink.overwrite


@pytest.mark.usefixtures("explained")
def test_json_is_exact(film, capsys):
    assert run(["info", str(film), "--json", "--count"]) == 0
    found = json.loads(capsys.readouterr().out)
    stream = found["file"]["streams"][0]
    assert (stream["codec"], stream["video"]["width"]) == ("ffv1", 64)
    assert stream["timing"]["last"] == "7/25"
    assert found["file"]["main_video"] == 0
    assert found["plan"]["rows"][1] == ["encoder", "x264", "the default"]
    assert found["plan"]["refused"] is None


def test_a_file_that_would_be_refused_is_still_shown(film, monkeypatch, capsys):
    def explain(_job):
        msg = "webm cannot hold ffv1"
        raise UnsupportedSourceError(msg)

    monkeypatch.setattr("vsr.planning.explain", explain)
    assert run(["info", str(film)]) == 0
    text = capsys.readouterr().out
    assert "64x48" in text
    assert text.endswith("would be refused: webm cannot hold ffv1\n")


@pytest.mark.parametrize(
    ("content", "code"), [(None, 3), (b"", 3), (b"no film at all, only text", 3)]
)
def test_files_that_cannot_be_read(tmp_path, capsys, content, code):
    path = tmp_path / "odd.mkv"
    if content is not None:
        path.write_bytes(content)
    assert run(["info", str(path)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vsr: error: ")
    assert err.count("\n") == 1


def test_only_one_file_at_a_time(film, capsys):
    film.with_name("b.mkv").write_bytes(b"")
    assert run(["info", str(film.parent / "*.mkv")]) == 2
    assert "matches 2 files" in capsys.readouterr().err


def test_plain_values():
    color = plain(ColorSpec(matrix=1))
    assert color["matrix"] == 1
    assert plain({"a": (Fraction(1, 3), b"\x01")}) == {"a": ["1/3", "01"]}


def test_clock():
    assert clock(Fraction(3_725_004, 1000)) == "1:02:05.004"
    assert clock(Fraction(-1, 4)) == "-0:00:00.250"
    assert clock(Fraction(59_9996, 10_000)) == "0:01:00.000"


def test_tables_are_aligned():
    assert table([("a", "1"), ("long", "2")], head=("name", "n")) == [
        "name  n",
        "a     1",
        "long  2",
    ]
    assert [size(count) for count in (900, 16_697_987, 140 << 30)] == [
        "900 B",
        "15.9 MiB",
        "140 GiB",
    ]
