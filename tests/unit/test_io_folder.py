"""What is in a folder, in which order, and how frames become its files."""

import os
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vsr.errors import SinkError, SinkExistsError, SourceError, SourceNotFoundError
from vsr.io.av_source import SourceOptions
from vsr.io.folder import (
    Stills,
    common_folder,
    is_pattern,
    natural_key,
    numbered,
    pictures_in,
    series,
)
from vsr.io.folder_sink import FolderSink
from vsr.io.stills import StillsSource, read_still
from vsr.io.workers import Workers, ordered
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

GRAY = PixelFormat(family="gray")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def save(path: Path, picture: np.ndarray, fmt: str) -> Path:
    from PIL import Image

    Image.fromarray(picture, fmt).save(path) if fmt else Image.fromarray(picture).save(path)
    return path


def picture_info(width: int, height: int, **changes: object) -> VideoInfo:
    color = ColorSpec(matrix=6, full_range=True)
    info = VideoInfo(
        width=width, height=height, format=GRAY, color=color, time_base=Fraction(1, 25)
    )
    return replace(info, **changes)


def gray_frame(value: int, size: tuple[int, int] = (8, 6), pts: int = 0) -> Frame:
    plane = np.full(size[::-1], value, np.uint8)
    color = ColorSpec(matrix=6, full_range=True)
    return Frame(planes=(plane,), format=GRAY, color=color, pts=pts, time_base=Fraction(1, 25))


@pytest.mark.parametrize(
    "names",
    [
        ["f1.png", "f2.png", "f9.png", "f10.png", "f100.png"],
        ["2-10.png", "10-2.png"],
        ["a.png", "B.png", "c.png"],
        ["a/2.png", "a/10.png", "b/1.png"],
        ["x007.png", "x7a.png"],
    ],
)
def test_order_is_natural(names):
    paths = [Path(name) for name in names]
    assert sorted([*paths[1:], paths[0]], key=natural_key) == paths


def test_a_folder_gives_its_pictures_alone(tmp_path):
    touch(tmp_path, "f10.png", "f9.PNG", "notes.txt", ".hidden.png", "film.mkv", "sub/f1.png")
    assert [p.name for p in pictures_in(tmp_path)] == ["f9.PNG", "f10.png"]
    deep = [p.relative_to(tmp_path).as_posix() for p in pictures_in(tmp_path, recursive=True)]
    assert deep == ["f9.PNG", "f10.png", "sub/f1.png"]
    besides = tmp_path / "sub"
    assert len(pictures_in(tmp_path, recursive=True, besides=besides)) == 2


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_a_folder_does_not_make_a_circle(tmp_path):
    touch(tmp_path, "a/f1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(pictures_in(tmp_path, recursive=True)) == 1


def test_a_folder_of_nothing_is_one_clear_line(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(SourceError, match="holds no pictures") as error:
        pictures_in(tmp_path)
    assert "\n" not in str(error.value)


def test_series(tmp_path):
    touch(tmp_path, "000002.png", "000010.png", "000001.png", "2.png", "x000003.png", "1234567.png")
    assert list(series(tmp_path / "%06d.png")) == [1, 2, 10, 1234567]
    assert list(series(tmp_path / "%d.png")) == [2, 1234567]
    with pytest.raises(SourceNotFoundError, match=r"f0001\.jpg"):
        series(tmp_path / "f%04d.jpg")
    with pytest.raises(SourceNotFoundError, match="no such folder"):
        series(tmp_path / "none" / "%d.png")


def test_numbers_in_names():
    assert numbered(Path("a/%06d.png"), 7) == Path("a/000007.png")
    assert numbered(Path("f-%d.png"), 12) == Path("f-12.png")
    assert numbered(Path("f-%3d.png"), 12) == Path("f- 12.png")
    assert is_pattern("a/%06d.png")
    assert not is_pattern("a%06d/b.png")
    assert common_folder([Path("/a/b/1.png"), Path("/a/c/2.png")]) == Path("/a")


def test_workers_keep_the_order_and_run_side_by_side():
    together = threading.Barrier(3, timeout=20)

    def work(number: int) -> int:
        together.wait()
        time.sleep(0.02 * (3 - number % 3))
        return number

    assert list(ordered(work, range(9), 3, "test")) == list(range(9))


def test_workers_raise_what_a_call_raised():
    def work(number: int) -> int:
        if number == 2:
            msg = "two"
            raise ValueError(msg)
        return number

    results = ordered(work, range(5), 2, "test")
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("test")]


def test_workers_are_bounded_in_bytes():
    with Workers[None](4, "test", most_bytes=100) as workers:
        assert not workers.full(1000)
        workers.submit(lambda: None, 60)
        assert not workers.full(40)
        assert workers.full(41)
        workers.take()
        assert not workers.full(41)


def film_of(tmp_path: Path, *pictures: np.ndarray) -> Stills:
    paths = [save(tmp_path / f"{k}.png", picture, "") for k, picture in enumerate(pictures)]
    return Stills(tuple(paths), Fraction(24000, 1001), "film")


def test_stills_have_exact_times_and_the_first_ones_layout(tmp_path):
    rng = np.random.default_rng(1)
    black = np.zeros((6, 8), np.uint8)
    rgb = rng.integers(0, 256, (6, 8, 3), np.uint8)
    source = StillsSource(film_of(tmp_path, black, rgb, black), SourceOptions())
    frames = list(source)
    assert source.info.frame_count == 3
    assert [frame.seconds for frame in frames] == [Fraction(1001 * k, 24000) for k in range(3)]
    assert {frame.format for frame in frames} == {PixelFormat(family="rgb")}
    assert np.array_equal(np.stack([frames[1].planes[k] for k in (2, 0, 1)], -1), rgb)
    assert not any(plane.any() for plane in frames[2].planes)


def test_stills_of_another_size_are_named(tmp_path):
    small, large = np.zeros((6, 8, 3), np.uint8), np.zeros((12, 8, 3), np.uint8)
    source = StillsSource(film_of(tmp_path, small, small, large), SourceOptions())
    with pytest.raises(SourceError, match=r"2\.png is 8x12, but 0\.png is 8x6"):
        list(source)


def test_a_jpeg_among_pngs_is_converted_by_its_own_matrix(tmp_path):
    red = np.full((16, 16, 3), (200, 40, 40), np.uint8)
    paths = (save(tmp_path / "a.png", red, ""), save(tmp_path / "b.jpg", red, ""))
    first, second = StillsSource(Stills(paths, Fraction(25), "x"), SourceOptions())
    for p, q in zip(first.planes, second.planes, strict=True):
        assert np.abs(p.astype(int) - q).max() <= 4


def test_an_adam7_png_is_no_interlaced_video(tmp_path):
    rng = np.random.default_rng(2)
    rgb = rng.integers(0, 256, (17, 16, 3), np.uint8)
    path = tmp_path / "a.png"
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
    frame.pts = 0
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = 16, 17, "rgb24"
    context.time_base = Fraction(1, 25)
    context.options = {"flags": "+ildct"}  # which here means Adam7
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
    assert path.read_bytes()[28] == 1
    planes = read_still(path).frame.planes
    assert np.array_equal(np.stack([planes[k] for k in (2, 0, 1)], -1), rgb)


def test_frames_become_numbered_files(tmp_path):
    sink = FolderSink(tmp_path / "new" / "%03d.png", picture_info(8, 6))
    assert not (tmp_path / "new").exists()
    for number in range(5):
        sink.write(gray_frame(number * 10))
    sink.finish()
    sink.abort()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        f"{n:03}.png" for n in range(1, 6)
    ]
    read = read_still(tmp_path / "new" / "003.png").frame
    assert read.format == GRAY
    assert (read.planes[0] == 20).all()


def test_an_aborted_series_leaves_nothing(tmp_path):
    sink = FolderSink(tmp_path / "new" / "%03d.png", picture_info(8, 6))
    for number in range(4):
        sink.write(gray_frame(number))
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_series_does_not_overwrite_unasked(tmp_path):
    touch(tmp_path, "001.png", "7.png", "009.png")
    with pytest.raises(SinkExistsError, match=r"001\.png exists"):
        FolderSink(tmp_path / "%03d.png", picture_info(8, 6))
    sink = FolderSink(tmp_path / "%03d.png", picture_info(8, 6), overwrite=True)
    sink.write(gray_frame(5))
    sink.finish()
    assert (read_still(tmp_path / "001.png").frame.planes[0] == 5).all()
    assert (tmp_path / "009.png").read_bytes() == b"x"


def test_a_series_needs_a_folder_that_can_be(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(SinkError, match="does not exist"):
        FolderSink(tmp_path / "a" / "b" / "%d.png", picture_info(8, 6))
    with pytest.raises(SinkError, match="no folder"):
        FolderSink(tmp_path / "file" / "%d.png", picture_info(8, 6))


def test_a_frame_of_another_size_fails_the_series(tmp_path):
    sink = FolderSink(tmp_path / "%d.png", picture_info(8, 6))
    sink.write(gray_frame(1, (4, 4)))
    with pytest.raises(SinkError, match="4x4"):
        sink.finish()
    sink.abort()
    assert list(tmp_path.iterdir()) == []
