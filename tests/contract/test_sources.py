"""What every `FrameSource` promises. To put another one under test, add its maker to `SOURCES`.

A maker gets an empty folder and gives a `Case`: how to open the source, and the exact times (in
seconds), size and layout of the frames that must come.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests import media
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.base import FrameSource
from vsr.pipeline import Prefetch
from vsr.types import PixelFormat

YUV420 = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    open: Callable[[], FrameSource]
    times: tuple[Fraction, ...]
    size: tuple[int, int]
    layout: PixelFormat


def h264_with_b_frames(folder: Path) -> Case:
    path = media.clip(folder / "x.mkv", frames=9, size=(50, 34), options={"bf": "3"}, audio="aac")
    return Case(
        open=lambda: open_source(path),
        times=tuple(Fraction(40 * n, 1000) for n in range(9)),
        size=(50, 34),
        layout=YUV420,
    )


def variable_rate(folder: Path) -> Case:
    stamps = (0, 33, 67, 100, 167, 168, 250, 500, 1777)
    tick = Fraction(1, 1000)
    path = media.clip(folder / "x.mkv", frames=9, pts=stamps, time_base=tick, rate=30)
    return Case(
        open=lambda: open_source(path),
        times=tuple(stamp * tick for stamp in stamps),
        size=(64, 48),
        layout=YUV420,
    )


def without_stamps(folder: Path) -> Case:
    rate = Fraction(30000, 1001)
    path = media.clip(folder / "x.h264", frames=7, rate=rate, options={"bf": "2"})
    return Case(
        open=lambda: open_source(path),
        times=tuple(n / rate for n in range(7)),
        size=(64, 48),
        layout=YUV420,
    )


def excerpt(folder: Path) -> Case:
    path = media.clip(folder / "x.mp4", frames=20, options={"g": "5"})
    options = SourceOptions(start=Fraction(1, 5), end=Fraction(2, 5))
    return Case(
        open=lambda: open_source(path, options),
        times=tuple(Fraction(n, 25) for n in range(5, 10)),
        size=(64, 48),
        layout=YUV420,
    )


def picture(folder: Path) -> Case:
    path = media.clip(folder / "x.png", codec="png", fmt="rgb24", frames=1, size=(31, 17))
    return Case(
        open=lambda: open_source(path),
        times=(Fraction(0),),
        size=(31, 17),
        layout=PixelFormat(family="rgb"),
    )


def ten_bits(folder: Path) -> Case:
    path = media.clip(folder / "x.mkv", codec="ffv1", fmt="yuv422p10le", frames=3, size=(33, 21))
    return Case(
        open=lambda: open_source(path),
        times=tuple(Fraction(n, 25) for n in range(3)),
        size=(33, 21),
        layout=PixelFormat(family="yuv", bits=10, chroma_w=1),
    )


SOURCES = [h264_with_b_frames, variable_rate, without_stamps, excerpt, picture, ten_bits]


@pytest.fixture(params=SOURCES, ids=lambda maker: maker.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return request.param(tmp_path)


def test_every_frame_comes_once_with_its_exact_time(case: Case):
    source = case.open()
    frames = list(source)
    source.close()
    assert tuple(frame.seconds for frame in frames) == case.times
    assert all(isinstance(frame.pts, int) and isinstance(frame.duration, int) for frame in frames)
    assert {frame.time_base for frame in frames} == {source.info.time_base}


def test_info_is_right_before_the_first_frame(case: Case):
    source = case.open()
    assert (source.info.width, source.info.height) == case.size
    assert source.info.format == case.layout
    first = next(iter(source))
    assert first.color == source.info.color
    source.close()


def test_planes_have_the_promised_shapes_and_types(case: Case):
    source = case.open()
    for frame in source:
        assert frame.format == case.layout
        assert tuple(plane.shape for plane in frame.planes) == case.layout.plane_shapes(*case.size)
        for plane in frame.planes:
            assert plane.dtype == case.layout.dtype
            assert plane.strides[1] == plane.itemsize
            assert int(plane.max()) < 1 << case.layout.bits
    source.close()


def test_frames_outlive_the_source(case: Case):
    source = case.open()
    frames = list(source)
    before = [plane.copy() for frame in frames for plane in frame.planes]
    source.close()
    del source
    again = case.open()
    list(again)
    again.close()
    for kept, plane in zip(before, (p for f in frames for p in f.planes), strict=True):
        np.testing.assert_array_equal(kept, plane)


def test_two_readings_give_the_same_bytes(case: Case):
    def read() -> list[bytes]:
        source = case.open()
        found = [plane.tobytes() for frame in source for plane in frame.planes]
        source.close()
        return found

    assert read() == read()


def test_closing_twice_and_midway(case: Case):
    source = case.open()
    source.close()
    source.close()
    source = case.open()
    next(iter(source))
    source.close()
    source.close()


def test_reading_in_one_thread_and_closing_in_another(case: Case):
    source = case.open()
    with Prefetch(source, items=1) as frames:
        next(frames)
    source.close()
    assert not any(thread.name == "vsr-prefetch" for thread in threading.enumerate())


def test_a_prefetched_source_gives_the_same_frames(case: Case):
    source = case.open()
    with Prefetch(source) as frames:
        assert tuple(frame.seconds for frame in frames) == case.times
    source.close()


def test_many_openings_leak_no_files(case: Case):
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc to count open files in")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        source = case.open()
        next(iter(source))
        source.close()
    assert len(list(descriptors.iterdir())) == before
