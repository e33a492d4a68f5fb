"""The parts that judge an output: times, words, small pictures, packets, excerpts."""

from array import array
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from tests.media import clip, packets
from vsr.errors import UsageError
from vsr.io.inspection import FrameReader, PacketLog, Thumbnail, read_packets
from vsr.io.orientation import Orientation
from vsr.types import ColorSpec, PixelFormat
from vsr.verification import Expected
from vsr.verification.clock import Times, Timing, compare_times, compare_untimed
from vsr.verification.cues import Line, missing, plain
from vsr.verification.pictures import PictureJudge, pair_up, to_rgb, upright

MS = Fraction(1, 1000)
FINE = Fraction(1, 90_000)


def times(ticks: Sequence[int], tick: Fraction = MS) -> Times:
    return Times(np.array(ticks, np.int64), tick)


def wrong(timing: Timing) -> list[str]:
    return [finding.check for finding in timing.findings if finding.level == "fault"]


# ---- times


def test_each_time_may_be_rounded_once_to_the_outputs_tick():
    source = times([3003 * k for k in range(1000)], FINE)
    rounded = [round(3003 * k * FINE / MS) for k in range(1000)]
    assert not wrong(compare_times(source, times(rounded)))
    rounded[700] += 1
    assert wrong(compare_times(source, times(rounded))) == ["times"]


def test_a_time_that_the_tick_can_say_must_be_exact():
    source = times([0, 90, 180, 270], FINE)
    assert not wrong(compare_times(source, times([0, 1, 2, 3])))
    # half a tick off would pass where the tick cannot say it
    finer = times([0, 10, 20, 31], Fraction(1, 10_000))
    assert wrong(compare_times(source, finer)) == ["times"]


def test_rounding_that_adds_up_is_found():
    step = Fraction(1001, 24_000)
    source = times([1001 * k for k in range(100)], Fraction(1, 24_000))
    assert wrong(compare_times(source, times([k * round(step / MS) for k in range(100)])))


def test_all_may_move_only_where_something_begins_below_zero():
    source, output = times([-500, -460, -420]), times([0, 40, 80])
    moved = compare_times(source, output, movable=Fraction(1, 2))
    assert not wrong(moved)
    assert moved.shift == Fraction(1, 2)
    assert wrong(compare_times(source, output)) == ["shift"]
    assert wrong(compare_times(output, source, movable=Fraction(1, 2))) == [
        "shift",
    ]


def test_missing_and_extra_frames_are_named():
    source = times(range(0, 400, 40))
    report = compare_times(source, times([t for t in range(0, 400, 40) if t != 200]))
    assert "missing at 0.200 s" in report.findings[0].text
    report = compare_times(source, times([*range(0, 400, 40), 1000]))
    assert "too many at 1.000 s" in report.findings[0].text


def test_frames_with_equal_times_may_move_by_a_tick():
    source = times([0, 40, 40, 80])
    assert not wrong(compare_times(source, times([0, 40, 41, 80])))
    assert wrong(compare_times(source, times([0, 40, 60, 80]))) == ["times"]


def test_a_clock_that_jumps_back_is_continued():
    source = times([5000, 5040, 5080, 0, 40, 80])
    assert not wrong(compare_times(source, times([5000, 5040, 5080, 5120, 5160, 5200])))
    assert "order" in wrong(compare_times(source, source))


def test_times_beyond_64_bit_units_are_compared_exactly():
    far = 1 << 60
    source = times([far, far + 3], Fraction(1, 90_000))
    assert not wrong(compare_times(source, times([far, far + 3], Fraction(1, 90_000))))
    other = Times(np.array([far, far + 4], np.int64), Fraction(1, 90_001))
    assert wrong(compare_times(source, other))


@pytest.mark.parametrize(
    ("start", "end", "kept"),
    [
        (None, None, 10),
        ("0.1", None, 7),
        (None, "0.1", 3),
        ("0.04", "0.08", 1),
        ("0.041", "0.079", 0),
    ],
)
def test_an_excerpt_counts_from_the_first_frame(start, end, kept):
    film = times(range(1000, 1400, 40))
    part = Expected(start=start and Fraction(start), end=end and Fraction(end))
    assert len(film.within(part)) == kept


def test_made_times_must_be_even():
    rate = Fraction(25)
    assert not wrong(compare_untimed(times([0, 40, 80, 120]), 4, rate))
    assert wrong(compare_untimed(times([0, 40, 90, 120]), 4, rate)) == ["times"]
    assert wrong(compare_untimed(times([0, 50, 100, 150]), 4, rate)) == ["times"]
    assert wrong(compare_untimed(times([0, 40, 80]), 4, rate)) == ["frames"]


def test_expected_refuses_contradictions():
    with pytest.raises(UsageError, match="not after its start"):
        Expected(start=Fraction(2), end=Fraction(1))
    with pytest.raises(UsageError, match="not both"):
        Expected(scale=Fraction(2), width=100)


# ---- words


def test_words_are_the_same_in_every_format():
    assert plain(b"<i>Hello</i>\r\nthere", "subrip") == "Hello\nthere"
    assert plain(rb"3,0,Default,,0,0,0,,{\i1}Hello, you\Nthere", "ass") == "Hello, you\nthere"
    assert plain(b"\0\5Hellostyles", "mov_text") == "Hello"


def line(start: float, end: float, text: str) -> Line:
    return Line(Fraction(str(start)), Fraction(str(end)), text)


def test_cues_cut_where_they_overlap_are_all_there():
    source = [line(0, 4, "A"), line(2, 6, "B")]
    cut = [line(0, 2, "A"), line(2, 4, "A\nB"), line(4, 6, "B")]
    assert missing(source, cut, Fraction(0)) is None
    assert missing(source, cut[:2], Fraction(0)) == source[1]
    assert missing(source, [cut[0], cut[2]], Fraction(0)) == source[0]
    late = [Line(c.start + 1, c.end + 1, c.text) for c in cut]
    assert missing(source, late, Fraction(0)) == source[0]
    assert missing(source, late, Fraction(1)) is None


# ---- packets


def log(times_: Sequence[int], payloads: Sequence[bytes]) -> PacketLog:
    import hashlib

    made = PacketLog(
        time_base=MS, times=array("q", times_), durations=array("q", [20] * len(times_))
    )
    for payload in payloads:
        made.digests += hashlib.blake2b(payload, digest_size=8).digest()
    return made


def test_a_digest_is_found_on_its_boundary_only():
    made = log([0, 20, 40], [b"a", b"b", b"a"])
    assert made.find(made.digest(0)) == 0
    assert made.find(made.digest(0), 1) == 2
    assert made.find(bytes(made.digests[4:12])) == -1
    assert made.span == (0, Fraction(60, 1000))


def test_packets_are_those_of_the_file_in_any_container(tmp_path):
    one = clip(tmp_path / "a.mkv", audio="aac", frames=6)
    other = clip(tmp_path / "a.ts", audio="aac", frames=6, options={"bf": "0"})
    contents = [read_packets(path, 0) for path in (one, other)]
    known = packets(one, "audio")
    assert len(contents[0].logs[1]) == len(known)
    assert contents[0].logs[1].seconds(1) == known[1][0]
    # MPEG-TS puts a header before every packet of AAC
    assert contents[0].logs[1].digests == contents[1].logs[1].digests
    assert contents[0].logs[1].whole == contents[1].logs[1].whole
    assert contents[0].logs[1].whole != contents[0].logs[0].whole
    assert contents[0].errors == 0


def test_frames_are_read_and_made_small(tmp_path):
    path = clip(tmp_path / "a.mkv", frames=5, size=(64, 48))
    reader = FrameReader(path, 0)
    small = list(reader.thumbnails((32, 24)))
    reader.close()
    assert [picture.time for picture in small] == [Fraction(k, 25) for k in range(5)]
    assert {plane.shape for picture in small for plane in picture.planes} == {(24, 32)}
    assert (reader.errors, reader.corrupt, reader.interlaced) == (0, 0, 0)


# ---- pictures


def picture(
    seed: int,
    *,
    time: int | None = 0,
    color: ColorSpec | None = None,
    change: float = 1.0,
    box: int | None = None,
) -> Thumbnail:
    """Smooth colours with a bright box."""
    x, y = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 48))
    luma = 60 + 60 * x + 40 * y
    place = seed if box is None else box
    luma[10:30, place * 7 % 44 : place * 7 % 44 + 20] = 200
    planes = [luma * change, 90 + 60 * x, 170 - 60 * y]
    return Thumbnail(
        time=None if time is None else time * MS,
        planes=tuple(plane.clip(0, 255).round().astype(np.uint8) for plane in planes),
        format=PixelFormat(family="yuv"),
        color=color or ColorSpec(matrix=6, full_range=False),
        size=(640, 480),
        orientation=Orientation(),
        interlaced=False,
        corrupt=False,
    )


def film(count: int, **options) -> list[Thumbnail]:
    return [picture(k, time=40 * k, **options) for k in range(count)]


def judged(source: list[Thumbnail], output: list[Thumbnail]) -> set[str]:
    judge = PictureJudge()
    for now, near in pair_up(source, output, Fraction(0)):
        judge.add(now, near)
    return {finding.check for finding in judge.findings() if finding.level == "fault"}


def test_equal_pictures_are_right():
    assert judged(film(6), film(6)) == set()
    assert judged([], []) == {"pictures"}


@pytest.mark.parametrize(
    ("color", "fits"),
    [((1, False), {"colour"}), ((6, True), {"colour", "luma"}), ((5, False), set())],
)
def test_another_matrix_or_range_shows(color, fits):
    matrix, full = color
    meant = film(4, color=ColorSpec(matrix=matrix, full_range=full))
    found = judged(film(4), meant)
    assert found == fits or (fits and "colour" in found)


def test_order_frozen_black_and_dark_show():
    frames = film(6)
    assert judged(frames, [frames[0], frames[1], frames[3], frames[2], *frames[4:]])
    still = [picture(k, time=40 * k, box=min(k, 2)) for k in range(6)]
    assert "order" in judged(frames, still)
    assert "frozen" in judged(frames, still)
    dark = [*frames[:2], picture(2, time=80, change=0.05), *frames[3:]]
    assert "black" in judged(frames, dark)
    dim = [picture(k, time=40 * k, change=0.95) for k in range(6)]
    assert "luma" in judged(frames, dim)


def test_frames_pair_by_time_and_without_times_by_order():
    frames = film(6)
    short = [frames[0], frames[3], frames[5]]
    pairs = [near[1].picture.time for _, near in pair_up(frames, short, Fraction(0))]
    assert pairs == [frame.time for frame in short]
    untimed = [picture(k, time=None) for k in range(3)]
    pairs = list(pair_up(untimed, untimed, Fraction(0)))
    assert all(now.picture is near[1].picture for now, near in pairs)
    assert len(pairs) == 3


def test_colours_follow_h273():
    gray = picture(0)
    samples = np.array([[[235, 128, 128], [16, 128, 128]]], np.float32)
    rgb = to_rgb(samples, gray, 1, full_range=False)
    np.testing.assert_allclose(rgb[0], [[255] * 3, [0] * 3], atol=1e-3)
    # pure red of BT.601 limited range: Y 81.5, Cb 90.2, Cr 240
    red = to_rgb(np.array([[[81.481, 90.203, 240]]], np.float32), gray, 6, full_range=False)
    np.testing.assert_allclose(red[0, 0], [255, 0, 0], atol=0.05)


def test_pictures_are_turned_upright():
    one = picture(1)
    turned = Thumbnail(
        **{name: getattr(one, name) for name in Thumbnail.__dataclass_fields__}
        | {"orientation": Orientation(turns=1, mirrored=True)}
    )
    expected = np.rot90(upright(one)[:, ::-1])
    np.testing.assert_array_equal(upright(turned), expected)
