"""Facts about files, for people and for decisions before work begins."""

from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests import media
from vsr.errors import SourceNotFoundError
from vsr.io.probe import probe


def test_a_film_with_sound_and_subtitles(film: Path):
    info = probe(film)
    assert info.container == "matroska,webm"
    assert info.size == film.stat().st_size
    assert info.tags["title"] == "A film"
    assert info.main_video == 0
    assert not info.truncated
    assert [(stream.kind, stream.codec) for stream in info.streams] == [
        ("video", "h264"),
        ("audio", "aac"),
        ("subtitle", "subrip"),
    ]
    video, audio = info.streams[0].video, info.streams[1].audio
    assert video is not None
    assert (video.width, video.height, video.pixel_format) == (64, 48, "yuv420p")
    assert (video.color.matrix, video.color.full_range) == (6, False)
    assert (video.average_rate, video.field_order, video.alpha) == (25, "progressive", False)
    assert info.streams[0].duration == Fraction(2, 5)
    assert audio is not None
    assert (audio.sample_rate, audio.channels, audio.layout) == (48000, 1, "mono")
    assert info.streams[0].timing is None


def test_counted_times_tell_constant_from_variable_rate(tmp_path: Path):
    tick = Fraction(1, 1000)
    stamps = [0, 33, 67, 100, 133, 167, 900]
    path = media.clip(
        tmp_path / "x.mkv", pts=stamps, frames=7, time_base=tick, options={"g": "3", "bf": "0"}
    )
    timing = probe(path, count=True).streams[0].timing
    assert timing is not None
    assert (timing.packets, timing.keyframes, timing.gaps, timing.untimed) == (7, 3, 1, 0)
    assert (timing.first, timing.last) == (0, Fraction(9, 10))
    assert (timing.shortest, timing.longest) == (33 * tick, 733 * tick)
    assert not timing.constant
    path = media.clip(tmp_path / "y.mkv", frames=20, rate=Fraction(30000, 1001))
    timing = probe(path, count=True).streams[0].timing
    assert timing is not None
    assert timing.constant


def test_chapters_languages_and_dispositions(tmp_path: Path):
    path = tmp_path / "x.mkv"
    with av.open(path, "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        stream.metadata.update({"language": "jpn", "title": "Main «1»"})
        stream.disposition = av.stream.Disposition.default | av.stream.Disposition.original
        file.set_chapters(
            [
                {
                    "id": 1,
                    "start": 0,
                    "end": 40,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": "One"},
                }
            ]
        )
        frame = av.VideoFrame(32, 24, "yuv420p")
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    info = probe(path)
    assert [(c.start, c.end, c.title) for c in info.chapters] == [(0, Fraction(1, 25), "One")]
    assert (info.streams[0].language, info.streams[0].title) == ("jpn", "Main «1»")
    assert info.streams[0].dispositions == ("default", "original")


@pytest.mark.shared
def test_hdr_in_the_bitstream_is_found(shared: Path):
    info = probe(shared / "data/clips/hev1_08_05.mkv")
    video = info.streams[0].video
    assert video is not None
    assert video.hdr is not None
    assert video.hdr.mastering is not None
    assert video.color.transfer == 16


@pytest.mark.shared
def test_odd_files_are_described(shared: Path):
    for path in sorted((shared / "data/clips").iterdir()):
        info = probe(path)
        assert info.streams
        audio_only = path.name == "sample_audio_only.mp4"
        assert (info.main_video is None) == audio_only


def test_no_type_of_pyav_leaks(film: Path):
    def leaves(value: object) -> list[object]:
        if isinstance(value, tuple):
            return [leaf for item in value for leaf in leaves(item)]
        if hasattr(value, "__slots__") and type(value).__module__.startswith("vsr"):
            return [leaf for name in value.__slots__ for leaf in leaves(getattr(value, name))]
        return [value]

    assert not [v for v in leaves(probe(film, count=True)) if type(v).__module__.startswith("av")]


def test_missing_files(tmp_path: Path):
    with pytest.raises(SourceNotFoundError):
        probe(tmp_path / "nothing.mkv")
