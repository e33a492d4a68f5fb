from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_encoders import HDR, MASTERING
from vsr.errors import SinkError
from vsr.io.matroska import TrackExtras, amend, display_size, placeholder


def written(path: Path, titles: list[str | None]) -> Path:
    with av.open(path, "w", container_options={"fflags": "+bitexact"}) as file:
        streams = []
        for title in titles:
            stream = file.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            if title is not None:
                stream.metadata["title"] = title
            streams.append(stream)
        for time in range(3):
            for stream in streams:
                frame = av.VideoFrame(64, 48, "yuv420p")
                frame.pts = time
                file.mux(stream.encode(frame))
    return path


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_what_the_muxer_cannot_say_is_added_without_moving_anything(
    tmp_path: Path, suffix: str
) -> None:
    titles = [placeholder(0, None), "kept", placeholder(2, "Tïtle")]
    path = written(tmp_path / "a.mkv", titles).rename(tmp_path / f"a.{suffix}")
    size = path.stat().st_size
    extras = {
        0: TrackExtras(display=(128, 75), hdr=HDR),
        2: TrackExtras(title="Tïtle", codec_delay=40_000_000),
    }
    with path.open("r+b") as file:
        amend(file, extras)
    assert path.stat().st_size == size
    with av.open(path) as file:
        first, second, third = file.streams.video
        assert [s.metadata.get("title") for s in (first, second, third)] == [None, "kept", "Tïtle"]
        assert first.sample_aspect_ratio == Fraction(128 * 48, 75 * 64)
        said = first.codec_context.coded_side_data
        assert said["content_light_level"] == (1000).to_bytes(4, "little") + (400).to_bytes(
            4, "little"
        )
        found = [v / 2**31 for v in memoryview(said["mastering_display_metadata"]).cast("i")]
        wanted = [v / 2**31 for v in memoryview(MASTERING).cast("i")]
        ratios = [
            (a[k] * b[k + 1], a[k + 1] * b[k])
            for a, b in [(found, wanted)]
            for k in range(0, 20, 2)
        ]
        assert all(left == pytest.approx(right, rel=1e-6) for left, right in ratios)
        times = {s.index: [] for s in file.streams}
        for packet in file.demux():
            if packet.size:
                times[packet.stream.index].append(packet.pts)
    assert times == {0: [0, 40, 80], 1: [0, 40, 80], 2: [-40, 0, 40]}


def test_a_file_without_tracks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(bytes.fromhex("1A45DFA3 80 18538067 88 1F43B675 83 000000".replace(" ", "")))
    with path.open("r+b") as file, pytest.raises(SinkError, match="no track list"):
        amend(file, {})


@given(
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    aspect=st.fractions(Fraction(1, 4), Fraction(4), max_denominator=255),
)
def test_display_sizes_keep_the_shape(width: int, height: int, aspect: Fraction) -> None:
    shown = Fraction(*display_size(width, height, aspect))
    wanted = Fraction(width, height) * aspect
    assert abs(shown / wanted - 1) <= Fraction(1, min(width, height))


def test_usual_display_sizes_are_exact() -> None:
    assert Fraction(*display_size(1440, 1080, Fraction(4, 3))) == Fraction(16, 9)
    assert Fraction(*display_size(2880, 2304, Fraction(64, 45))) == Fraction(16, 9)
