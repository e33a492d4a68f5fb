"""Which network `auto` takes: another one where a codec has left out detail."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest

from tests import media
from vsr.engine.loading import find_model
from vsr.io.av_source import open_source
from vsr.planning import UpscaleJob, explain

CODECS = [
    ("libx264", "yuv420p", True),
    ("mpeg2video", "yuv420p", True),
    ("mpeg4", "yuv420p", True),
    ("ffv1", "yuv420p", False),
    ("prores_ks", "yuv422p10le", False),
    ("mjpeg", "yuvj420p", False),
]


def film(folder: Path, codec: str, fmt: str) -> Path:
    return media.clip(folder / f"{codec}.mkv", codec=codec, fmt=fmt, size=(64, 48))


@pytest.mark.parametrize(("codec", "fmt", "lossy"), CODECS)
def test_films_as_they_are_spread_are_told_from_others(
    tmp_path: Path, codec: str, fmt: str, lossy: bool
) -> None:
    with closing(open_source(film(tmp_path, codec, fmt))) as source:
        assert source.info.lossy is lossy


@pytest.mark.parametrize(("codec", "family"), [("libx264", "vsr-video"), ("ffv1", "vsr-fast")])
def test_the_default_follows_the_source_and_says_why(
    tmp_path: Path, codec: str, family: str
) -> None:
    source = film(tmp_path, codec, "yuv420p")
    job = UpscaleJob(source=source, target=tmp_path / "out.mkv", scale=2)
    told = {topic: (decision, reason) for topic, decision, reason in explain(job)}
    decision, reason = told["model"]
    assert decision == f"{family}-x2"
    assert ("the codec has left out detail" in reason) is (family == "vsr-video")


@pytest.mark.parametrize(("factor", "scale"), [("1.5", 2), ("2", 2), ("3", 4), ("4", 4)])
def test_both_families_reach_every_factor(factor: str, scale: int) -> None:
    network = find_model("auto", factor=Fraction(factor), lossy=True, offline=True)
    assert (network.name, network.spec.scale) == (f"vsr-video-x{scale}", scale)
    assert find_model("auto", factor=Fraction(factor), offline=True).name.startswith("vsr-fast")
