"""Raw video: every handled pixel format comes back bit by bit, and others are refused."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.pipes import fed
from vsr.errors import SinkError, SourceError, UsageError
from vsr.io.rawvideo import RawSink, RawSource, parse_raw


class Kept(io.BytesIO):
    error = None

    def commit(self):
        pass

    discard = commit


def size_of(name, width, height):
    """Bytes of a picture as FFmpeg's own encoder packs it."""
    context = av.CodecContext.create("rawvideo", "w")
    context.width, context.height, context.pix_fmt = width, height, name
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame(width, height, name)
    frame.pts = 0
    return len(b"".join(bytes(packet) for packet in context.encode(frame)))


NAMES = [
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv444p",
    "yuv410p",
    "yuv411p",
    "yuv440p",
    "yuva420p",
    "yuva444p",
    "gray",
    "ya8",
    "gbrp",
    "gbrap",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "yuv420p16le",
    "gray10le",
    "gray16le",
    "gray16be",
    "yuv420p10be",
    "ya16le",
    "gbrp10le",
    "gbrap16le",
    "rgb24",
    "bgr24",
    "rgba",
    "bgra",
    "argb",
    "abgr",
    "rgb48le",
    "bgr48le",
    "rgba64le",
    "rgb48be",
    "nv12",
    "nv21",
    "nv16",
    "nv24",
    "p010le",
    "p016le",
    "p012le",
    "p010be",
    "p210le",
    "yuyv422",
    "uyvy422",
    "yvyu422",
    "y210le",
    "x2rgb10le",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_every_format_comes_back_bit_by_bit(name, size):
    """From planes to bytes and back, and the bytes are as many as FFmpeg's."""
    spec = parse_raw(f"{size[0]}x{size[1]}:{name}:25")
    layout = spec.layout
    random = np.random.default_rng(2)
    blank = bytes(size_of(name, *size))
    (frame,) = RawSource(fed(blank), spec)
    planes = tuple(
        random.integers(0, 1 << layout.bits, plane.shape).astype(plane.dtype)
        for plane in frame.planes
    )
    out = Kept()
    RawSink(out, spec).write(type(frame)(
        planes=planes, format=layout, color=frame.color, pts=0, time_base=Fraction(1, 25)
    ))  # fmt: skip
    assert len(out.getvalue()) == len(blank)
    (back,) = RawSource(fed(out.getvalue()), spec)
    for ours, theirs in zip(back.planes, planes, strict=True):
        assert np.array_equal(ours, theirs)


def test_samples_lie_where_ffmpeg_has_them():
    spec = parse_raw("2x2:p010le:25")
    data = np.array([1, 2, 3, 4, 5, 6], "<u2") << 6
    (frame,) = RawSource(fed(data.tobytes()), spec)
    assert [plane.ravel().tolist() for plane in frame.planes] == [[1, 2, 3, 4], [5], [6]]
    (frame,) = RawSource(fed(bytes([1, 2, 3, 4, 5, 6])), parse_raw("2x2:nv21:25"))
    assert [plane.ravel().tolist() for plane in frame.planes] == [[1, 2, 3, 4], [6], [5]]
    (frame,) = RawSource(fed(b"\1\2"), parse_raw("1x1:gray16be:25"))
    assert frame.planes[0].tolist() == [[0x0102]]
    (frame,) = RawSource(fed(bytes(6)), parse_raw("2x2:yuvj420p:25"))
    assert frame.color.full_range is True


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "WxH:pix_fmt:fps"),
        ("64x48", "WxH:pix_fmt:fps"),
        ("64x48:yuv420p:x", "WxH:pix_fmt:fps"),
        ("64x48:yuv420p:1/0", "WxH:pix_fmt:fps"),
        ("0x48:yuv420p:25", "above 0"),
        ("64x48:yuv420p:0", "above 0"),
        ("64x48:yuv42p:25", "did you mean .*yuv420p"),
        ("64x48:qqqqqqq:25", "pix_fmts"),
        ("64x48:pal8:25", "not handled"),
        ("64x48:rgb565le:25", "not handled"),
        ("64x48:grayf32le:25", "not handled"),
        ("64x48:cuda:25", "not handled"),
        ("64x48:x2rgb10be:25", "written back"),
    ],
)
def test_specifications_that_make_no_sense(text, match):
    with pytest.raises(UsageError, match=match):
        parse_raw(text)


def test_specifications_in_other_words():
    assert parse_raw("64x48:gray8").rate == 25
    assert parse_raw("64x48:GRAY8:23.976").rate == Fraction(23976, 1000)
    assert parse_raw("64x48:gray8").pix_fmt == "gray"
    assert parse_raw("64x48:yuv420p10:25").pix_fmt in ("yuv420p10le", "yuv420p10be")


@pytest.mark.parametrize("name", ["gray", "rgb24"])
def test_a_last_picture_that_is_cut(name):
    spec = parse_raw(f"4x4:{name}:25")
    size = size_of(name, 4, 4)
    seen = []

    source = RawSource(fed(bytes(2 * size + 5)), spec)
    with pytest.raises(SourceError, match=f"inside frame 2, {size - 5} of its {size} bytes"):
        seen.extend(frame.pts for frame in source)
    assert seen == [0, 1]


def test_raw_video_has_no_times():
    spec = parse_raw("4x4:gray:25")
    first, second = RawSource(fed(bytes(32)), spec)
    sink = RawSink(Kept(), spec)
    sink.write(second)
    with pytest.raises(SinkError, match="raw video has no times"):
        sink.write(first)
