"""The parts of the reader by themselves: times, damage, orientation."""

import logging
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import media
from vsr.errors import DamagedSourceError
from vsr.io.damage import Damage, is_cut_short
from vsr.io.orientation import Orientation, orientation_of
from vsr.io.times import Timeline
from vsr.types import ColorSpec, Frame, PixelFormat

# ---------------------------------------------------------------- times


def timeline(rate: Fraction = Fraction(25), tick: Fraction = Fraction(1, 1000)) -> Timeline:
    return Timeline(tick, 1 / (rate * tick))


def place(line: Timeline, stamps: list[int | None], duration: int = 0) -> list[int]:
    return [line.place(stamp, duration) for stamp in stamps]


def test_rising_stamps_pass_unchanged():
    stamps = [-500, -460, 0, 33, 34, 100_000, 100_001]
    assert place(timeline(), [*stamps]) == stamps


def test_frames_without_stamps_never_accumulate_rounding():
    line = timeline(Fraction(30000, 1001))
    made = place(line, [None] * 3000)
    assert made == [round(n * Fraction(1001, 30)) for n in range(3000)]


def test_a_missing_stamp_continues_the_frame_before():
    assert place(timeline(), [100, None, None, 240], duration=0) == [100, 140, 180, 240]
    assert place(timeline(), [100, None], duration=50) == [100, 150]


def test_equal_and_slightly_earlier_stamps_move_by_a_tick(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert place(timeline(), [0, 40, 40, 38, 80]) == [0, 40, 41, 42, 80]
    assert len(caplog.records) == 1


def test_a_jump_forward_stays_a_jump_back_is_continued(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        made = place(timeline(), [0, 40, 100_040, 100_080, 10, 50])
    assert made == [0, 40, 100_040, 100_080, 100_120, 100_160]
    assert "jumps back by 100.070 s" in caplog.text


@given(st.lists(st.one_of(st.none(), st.integers(-(10**12), 10**12)), max_size=40))
def test_times_always_rise(stamps: list[int | None]):
    made = place(timeline(), stamps)
    assert all(later > earlier for earlier, later in pairwise(made))


# ---------------------------------------------------------------- damage


def test_damage_speaks_in_one_line():
    damage = Damage()
    assert not damage
    assert damage.message == ""
    damage.packet(Fraction(1, 2))
    damage.frame(Fraction(3))
    damage.frame(None)
    damage.cut()
    assert damage
    assert damage.message == (
        "concealed: 1 damaged packet, 2 damaged frames (the first at 0.500 s); "
        "the file is cut short: its end is missing"
    )


@pytest.mark.parametrize("kind", ["packet", "frame", "missing"])
def test_strict_raises_at_the_first(kind: str):
    with pytest.raises(DamagedSourceError, match=r"2\.000 s.*--strict"):
        getattr(Damage(strict=True), kind)(Fraction(2))
    with pytest.raises(DamagedSourceError, match="cut short"):
        Damage(strict=True).cut()


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "avi", "ts"])
def test_a_cut_file_is_known_by_its_own_sizes(suffix: str, tmp_path: Path):
    path = media.clip(tmp_path / f"x.{suffix}", frames=12, audio="libmp3lame")
    assert not is_cut_short(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10 // 188 * 188 + 50])
    assert is_cut_short(path)


def test_faststart_and_fragmented_mp4(tmp_path: Path):
    for flags in ("faststart", "frag_keyframe+empty_moov"):
        path = media.clip(tmp_path / "x.mp4", frames=12, muxing={"movflags": flags})
        assert not is_cut_short(path)
        path.write_bytes(path.read_bytes()[:-600])
        assert is_cut_short(path)


def test_live_matroska_and_trailing_bytes_are_no_damage(tmp_path: Path):
    path = media.clip(tmp_path / "x.mkv", frames=4, muxing={"live": "1"})
    path.write_bytes(path.read_bytes()[:-50])
    assert not is_cut_short(path)
    path = media.clip(tmp_path / "x.mp4", frames=4)
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert not is_cut_short(path)
    path.write_bytes(path.read_bytes() + b"\xff" * 1000)
    assert not is_cut_short(path)


def test_other_formats_are_taken_as_whole(tmp_path: Path):
    path = tmp_path / "x"
    for content in (b"", b"G", b"RIFF", b"\x1aE\xdf\xa3\xff", b"\x89PNG\r\n\x1a\n" + bytes(40)):
        path.write_bytes(content)
        is_cut_short(path)  # whatever it says, it does not fail


# ---------------------------------------------------------------- orientation


def matrix(*, turns: int = 0, mirrored: bool = False) -> bytes:
    """FFmpeg's display matrix: maps stored (x, y) to (a·x + c·y, b·x + d·y), y down."""
    a, b, c, d = 1, 0, 0, 1
    for _ in range(turns):  # a quarter turn anticlockwise: (x, y) → (y, -x)
        a, b, c, d = b, -a, d, -c
    if mirrored:
        a, b = -a, -b
    one = 1 << 16
    return struct.pack("<9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_display_matrices(turns: int, mirrored: bool):
    assert orientation_of(matrix(turns=turns, mirrored=mirrored)) == Orientation(turns, mirrored)


def test_no_matrix_and_odd_angles_change_nothing():
    assert not orientation_of(None)
    assert not orientation_of(b"short")
    oblique = struct.pack("<9i", 46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    assert not orientation_of(oblique)


def ramp(layout: PixelFormat, siting: int, width: int, height: int) -> Frame:
    """Luma is a plane in x and y; chroma holds the luma plane's value at its own place."""
    across, down = {1: (0, 0.5), 2: (0.5, 0.5), 3: (0, 0), 4: (0.5, 0), 5: (0, 1), 6: (0.5, 1)}[
        siting
    ]
    planes = []
    for index, (rows, columns) in enumerate(layout.plane_shapes(width, height)):
        chroma = 0 < index < 3 and layout.family == "yuv"
        step_x, step_y = (1 << layout.chroma_w, 1 << layout.chroma_h) if chroma else (1, 1)
        x = np.arange(columns) * step_x + (across if step_x == 2 else 0)
        y = np.arange(rows) * step_y + (down if step_y == 2 else 0)
        planes.append((1000 + 100 * x[None] + 36 * y[:, None]).astype(layout.dtype))
    return Frame(
        planes=tuple(planes),
        format=layout,
        color=ColorSpec(siting=siting),
        pts=5,
        duration=2,
        time_base=Fraction(1, 25),
    )


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", [(16, 12), (15, 11)])
@pytest.mark.parametrize("siting", range(1, 7))
@pytest.mark.parametrize("sampling", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_turned_chroma_stays_beside_its_luma(
    turns: int, mirrored: bool, size: tuple[int, int], siting: int, sampling: tuple[int, int]
):
    width, height = size
    layout = PixelFormat(
        family="yuv", bits=16, chroma_w=sampling[0], chroma_h=sampling[1], alpha=True
    )
    source = ramp(layout, siting, width, height)
    made = Orientation(turns, mirrored).apply(source)
    luma = source.planes[0][:, ::-1] if mirrored else source.planes[0]
    np.testing.assert_array_equal(made.planes[0], np.rot90(luma, turns))
    np.testing.assert_array_equal(made.planes[3], made.planes[0])
    assert (made.pts, made.duration) == (5, 2)
    assert [plane.shape for plane in made.planes] == [
        *made.format.plane_shapes(made.width, made.height)
    ]
    across, down = {1: (0, 0.5), 2: (0.5, 0.5), 3: (0, 0), 4: (0.5, 0), 5: (0, 1), 6: (0.5, 1)}[
        made.color.siting
    ]
    plane = made.planes[0].astype(float)
    slope_x = plane[0, 1] - plane[0, 0]
    slope_y = plane[1, 0] - plane[0, 0]
    rows, columns = made.planes[1].shape
    x = np.arange(columns) * 2.0 + across if made.format.chroma_w else np.arange(columns)
    y = np.arange(rows) * 2.0 + down if made.format.chroma_h else np.arange(rows)
    expected = plane[0, 0] + slope_x * x[None] + slope_y * y[:, None]
    inner = (slice(1, -1), slice(1, -1))  # edges are repeated, not extended
    np.testing.assert_allclose(made.planes[1][inner], expected[inner], atol=1.01)


def test_turning_swaps_the_shape_of_pixels():
    assert Orientation(1).aspect(Fraction(64, 45)) == Fraction(45, 64)
    assert Orientation(2).aspect(Fraction(64, 45)) == Fraction(64, 45)
    side = PixelFormat(family="yuv", chroma_w=1)
    assert Orientation(3).layout(side) == PixelFormat(family="yuv", chroma_h=1)
    assert Orientation(3).rotation == 270
