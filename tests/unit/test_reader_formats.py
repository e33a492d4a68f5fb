"""Pixel formats, planes and colour tags: everything goes through without a changed sample."""

from fractions import Fraction

import av
import numpy as np
import pytest

from vsr.errors import UnsupportedSourceError
from vsr.io import color, formats
from vsr.types import ColorSpec, Frame, PixelFormat


def planar(layout: PixelFormat, width: int = 33, height: int = 21) -> Frame:
    random = np.random.default_rng(3)
    planes = tuple(
        random.integers(0, 1 << layout.bits, shape).astype(layout.dtype)
        for shape in layout.plane_shapes(width, height)
    )
    return Frame(planes=planes, format=layout, color=ColorSpec(), pts=0, time_base=Fraction(1, 25))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("yuv420p", PixelFormat(family="yuv", chroma_w=1, chroma_h=1)),
        ("yuvj422p", PixelFormat(family="yuv", chroma_w=1)),
        ("yuv444p12le", PixelFormat(family="yuv", bits=12)),
        ("yuv411p", PixelFormat(family="yuv", chroma_w=2)),
        ("yuv410p", PixelFormat(family="yuv", chroma_w=2, chroma_h=2)),
        ("yuv440p10le", PixelFormat(family="yuv", bits=10, chroma_h=1)),
        ("yuva420p", PixelFormat(family="yuv", chroma_w=1, chroma_h=1, alpha=True)),
        ("gray", PixelFormat(family="gray")),
        ("gray9le", PixelFormat(family="gray", bits=9)),
        ("ya8", PixelFormat(family="gray", alpha=True)),
        ("ya16le", PixelFormat(family="gray", bits=16, alpha=True)),
        ("gbrp", PixelFormat(family="rgb")),
        ("gbrap12le", PixelFormat(family="rgb", bits=12, alpha=True)),
    ],
)
def test_names_and_layouts_are_inverse(name: str, layout: PixelFormat):
    assert formats.pixel_format(name) == layout
    assert formats.ffmpeg_name(layout) == name.replace("yuvj", "yuv")


@pytest.mark.parametrize("name", ["nv12", "rgb24", "yuv420p10be", "cuda", "nonsense"])
def test_other_names_have_no_layout(name: str):
    assert formats.pixel_format(name) is None


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("nv12", "yuv420p"),
        ("nv21", "yuv420p"),
        ("p010le", "yuv420p10le"),
        ("p216le", "yuv422p16le"),
        ("yuyv422", "yuv422p"),
        ("uyyvyy411", "yuv411p"),
        ("yuvj420p", "yuv420p"),
        ("yuv420p10be", "yuv420p10le"),
        ("rgb24", "gbrp"),
        ("bgra", "gbrap"),
        ("rgb0", "gbrp"),
        ("pal8", "gbrap"),
        ("rgb48be", "gbrp16le"),
        ("rgba64le", "gbrap16le"),
        ("rgb555le", "gbrp"),
        ("x2rgb10le", "gbrp10le"),
        ("gbrpf32le", "gbrp16le"),
        ("xyz12le", "gbrp12le"),
        ("monow", "gray"),
        ("gray16be", "gray16le"),
        ("grayf32le", "gray16le"),
        ("ya8", "ya8"),
        ("ya16be", "ya16le"),
        ("ayuv64le", "yuva444p16le"),
        ("y210le", "yuv422p10le"),
    ],
)
def test_canonical_names(name: str, canonical: str):
    assert formats.canonical_name(name) == canonical


def test_every_software_format_of_this_build_has_a_canonical_one():
    for name in av.video.format.names:
        if av.VideoFormat(name, 64, 64).components:
            assert formats.pixel_format(formats.canonical_name(name)) is not None, name


@pytest.mark.parametrize("name", ["cuda", "nonsense"])
def test_formats_without_samples_are_refused(name: str):
    with pytest.raises(UnsupportedSourceError, match=name):
        formats.canonical_name(name)


def test_a_layout_that_ffmpeg_lacks_is_refused():
    with pytest.raises(UnsupportedSourceError, match="--pix-fmt"):
        formats.ffmpeg_name(PixelFormat(family="yuv", chroma_h=1, alpha=True))


@pytest.mark.parametrize(
    "name",
    ["yuv420p", "yuv410p", "yuva444p10le", "gray", "gray12le", "ya8", "ya16le", "gbrap16le"],
)
def test_planes_survive_the_way_there_and_back(name: str):
    layout = formats.pixel_format(name)
    assert layout is not None
    source = planar(layout)
    made = formats.from_planes(source)
    assert made.format.name == name
    for before, after in zip(source.planes, formats.to_planes(made, layout), strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.strides[1] == after.itemsize


def test_padded_and_reversed_rows_are_copied_right():
    layout = PixelFormat(family="gray")
    padded = np.arange(12 * 40, dtype=np.uint8).reshape(12, 40)[::-1, 3:20]
    source = Frame(planes=(padded,), format=layout, color=ColorSpec(), pts=0, time_base=Fraction(1))
    (after,) = formats.to_planes(formats.from_planes(source), layout)
    np.testing.assert_array_equal(padded, after)


def test_planar_frames_are_not_copied():
    frame = av.VideoFrame(64, 48, "yuv420p")
    plane = formats.to_planes(frame, PixelFormat(family="yuv", chroma_w=1, chroma_h=1))[0]
    plane[5, 7] = 99
    assert bytes(frame.planes[0])[5 * frame.planes[0].line_size + 7] == 99


@pytest.mark.parametrize("full", [1, 2])
def test_rgb_and_palette_keep_their_colours(full: int):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.color_range, frame.colorspace = full, 1
    green, blue, red = formats.to_planes(frame, PixelFormat(family="rgb"))
    np.testing.assert_array_equal(np.stack([red, green, blue], axis=2), pixels)

    paletted = av.VideoFrame(4, 4, "pal8")
    np.frombuffer(paletted.planes[0], np.uint8)[:] = 7
    palette = np.frombuffer(paletted.planes[1], np.uint32)
    palette[7] = 0x80102030  # ARGB
    found = formats.to_planes(paletted, PixelFormat(family="rgb", alpha=True))
    assert [int(plane[0, 0]) for plane in found] == [0x20, 0x30, 0x10, 0x80]


@pytest.mark.parametrize("full", [0, 1, 2])
@pytest.mark.parametrize("name", ["nv12", "p010le", "yuyv422", "yuv420p10be", "gray16be"])
def test_moving_samples_never_converts_them(name: str, full: int):
    layout = formats.pixel_format(formats.canonical_name(name))
    assert layout is not None
    source = planar(layout, 34, 22)
    packed = formats.reformatted(formats.from_planes(source), name)
    assert packed.format.name == name
    packed.color_range, packed.colorspace = full, 1
    for before, after in zip(source.planes, formats.to_planes(packed, layout), strict=True):
        np.testing.assert_array_equal(before, after)


def test_full_range_names_keep_their_samples():
    frame = av.VideoFrame(16, 16, "yuvj420p")
    for plane, value in zip(frame.planes, (3, 130, 250), strict=True):
        np.frombuffer(plane, np.uint8)[:] = value
    planes = formats.to_planes(frame, PixelFormat(family="yuv", chroma_w=1, chroma_h=1))
    assert [int(plane[0, 0]) for plane in planes] == [3, 130, 250]
    assert color.read_color(None, frame).full_range is True


def test_fractions_of_unset_values_are_none():
    assert color.fraction(None) is None
    assert color.fraction(av.rational.AVRational(0, 1)) is None
    assert color.fraction(av.rational.AVRational(30000, 1001)) == Fraction(30000, 1001)


def test_frame_tags_win_and_the_context_fills_gaps():
    context = av.CodecContext.create("libx264", "w")
    context.pix_fmt = "yuv420p"
    color.apply_color(context, ColorSpec(matrix=1, primaries=1, transfer=1, siting=1))
    frame = av.VideoFrame(16, 16, "yuv420p")
    color.tag_frame(frame, ColorSpec(matrix=6, full_range=False))
    found = color.read_color(context, frame)
    assert found == ColorSpec(matrix=6, primaries=1, transfer=1, full_range=False, siting=1)


def test_a_gbr_matrix_on_yuv_samples_means_untagged():
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.colorspace = 0
    assert color.read_color(None, frame).matrix == 2
    frame = av.VideoFrame(16, 16, "gbrp")
    frame.colorspace = 0
    assert color.read_color(None, frame).matrix == 0


def test_names_for_people():
    assert color.matrix_name(6) == "smpte170m"
    assert color.primaries_name(9) == "bt2020"
    assert color.transfer_name(16) == "smpte2084"
    assert color.siting_name(3) == "topleft"
    assert [color.range_name(full) for full in (None, False, True)] == ["unknown", "tv", "pc"]
    assert color.matrix_name(99) == "reserved-99"
