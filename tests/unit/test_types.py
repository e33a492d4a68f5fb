"""Plane shapes, sizes in bytes, what untagged colour means, exact times."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.types import ColorSpec, Family, Frame, PixelFormat, Progress

YUV420 = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        (YUV420, ((5, 7), (3, 4), (3, 4))),
        (PixelFormat(family="yuv", chroma_w=1), ((5, 7), (5, 4), (5, 4))),
        (PixelFormat(family="yuv", chroma_w=2), ((5, 7), (5, 2), (5, 2))),
        (PixelFormat(family="yuv", alpha=True), ((5, 7),) * 4),
        (PixelFormat(family="rgb"), ((5, 7),) * 3),
        (PixelFormat(family="gray"), ((5, 7),)),
        (PixelFormat(family="gray", alpha=True), ((5, 7),) * 2),
    ],
)
def test_planes_of_an_odd_picture(layout: PixelFormat, shapes: tuple[tuple[int, int], ...]) -> None:
    assert layout.plane_shapes(7, 5) == shapes
    assert layout.plane_count == len(shapes)
    assert layout.frame_bytes(7, 5) == sum(h * w for h, w in shapes)


@given(
    st.builds(
        PixelFormat,
        family=st.sampled_from(["yuv", "gray", "rgb"]),
        bits=st.integers(8, 16),
        chroma_w=st.integers(0, 2),
        chroma_h=st.integers(0, 2),
        alpha=st.booleans(),
    ),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_chroma_covers_the_picture_with_no_sample_to_spare(
    layout: PixelFormat, width: int, height: int
) -> None:
    shapes = layout.plane_shapes(width, height)
    assert len(shapes) == layout.plane_count
    assert shapes[0] == (height, width)
    if layout.family == "yuv":
        rows, columns = shapes[1]
        assert (rows - 1) << layout.chroma_h < height <= rows << layout.chroma_h
        assert (columns - 1) << layout.chroma_w < width <= columns << layout.chroma_w
    assert layout.frame_bytes(width, height) == sum(
        np.empty(shape, layout.dtype).nbytes for shape in shapes
    )


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (9, np.uint16), (16, np.uint16)])
def test_samples_of_more_than_eight_bits_take_two_bytes(bits: int, dtype: type) -> None:
    assert PixelFormat(family="gray", bits=bits).dtype == dtype


@pytest.mark.parametrize(("bits", "dtype"), [(16, np.float16), (32, np.float32)])
def test_floating_samples_are_half_or_single(bits: int, dtype: type) -> None:
    form = PixelFormat(family="yuv", bits=bits, chroma_w=1, chroma_h=1, floating=True)
    assert form.dtype == dtype
    assert form.frame_bytes(6, 4) == 36 * bits // 8
    assert form != PixelFormat(family="yuv", bits=bits, chroma_w=1, chroma_h=1)


@pytest.mark.parametrize(
    ("width", "height", "matrix"),
    [
        (720, 576, 6),
        (1279, 576, 6),
        (1280, 576, 1),
        (1024, 577, 1),
        (1920, 1080, 1),
        (3840, 2160, 1),
        (1, 1, 6),
    ],
)
def test_untagged_sd_is_601_and_hd_is_709(width: int, height: int, matrix: int) -> None:
    for tagged in (ColorSpec(), ColorSpec(matrix=0), ColorSpec(matrix=3)):
        color = tagged.resolved(width, height, "yuv")
        assert (color.matrix, color.full_range, color.siting) == (matrix, False, 1)


@pytest.mark.parametrize("family", ["yuv", "gray"])
def test_tags_are_believed_over_sizes(family: Family) -> None:
    tagged = ColorSpec(matrix=9, primaries=9, transfer=16, full_range=True, siting=3)
    assert tagged.resolved(320, 240, family) == tagged
    assert ColorSpec(matrix=5).resolved(3840, 2160, family).matrix == 5


def test_rgb_has_no_matrix_and_is_full_range_unless_it_says_otherwise() -> None:
    assert ColorSpec(matrix=6).resolved(64, 48, "rgb").matrix == 0
    assert ColorSpec().resolved(64, 48, "rgb").full_range is True
    assert ColorSpec(full_range=False).resolved(64, 48, "rgb").full_range is False


def test_resolving_twice_changes_nothing() -> None:
    for family in ("yuv", "gray", "rgb"):
        once = ColorSpec().resolved(720, 480, family)
        assert once.resolved(720, 480, family) == once


def test_the_time_of_a_frame_is_exact() -> None:
    planes = tuple(np.zeros(shape, np.uint8) for shape in YUV420.plane_shapes(6, 4))
    frame = Frame(
        planes=planes,
        format=YUV420,
        color=ColorSpec(),
        pts=1001 * 10**12 + 1,
        time_base=Fraction(1, 30000),
    )
    assert (frame.width, frame.height) == (6, 4)
    assert frame.seconds == Fraction(1001 * 10**12 + 1, 30000)
    assert frame.side_data == {}


@pytest.mark.parametrize("value", [YUV420, ColorSpec()])
def test_values_are_frozen_and_slotted(value: PixelFormat | ColorSpec) -> None:
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")
    assert hash(value) == hash(dataclasses.replace(value))


def test_speed_is_frames_over_wall_time() -> None:
    assert Progress(frames=50, total=None, seconds=2.0, size=(2, 2)).fps == 25
    assert Progress(frames=0, total=9, seconds=0.0, size=(2, 2)).fps == 0
