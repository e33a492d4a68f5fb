"""y4m: headers understood and answered, planes where they belong, damage told in one line."""

import io
import os
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tests.pipes import fed
from vsr.errors import (
    CancelledError,
    ContainerError,
    SinkError,
    SourceError,
    UnsupportedSourceError,
    UsageError,
)
from vsr.io.ends import ByteReader, ByteWriter, is_stream, open_reader, open_writer
from vsr.io.y4m import FRAME_PARAMETERS, Y4mSink, Y4mSource, header_for, parse_header
from vsr.types import ColorSpec, PixelFormat

FORMS = {
    "420jpeg": (PixelFormat(family="yuv", chroma_w=1, chroma_h=1), 2),
    "420mpeg2": (PixelFormat(family="yuv", chroma_w=1, chroma_h=1), 1),
    "420paldv": (PixelFormat(family="yuv", chroma_w=1, chroma_h=1), 3),
    "420": (PixelFormat(family="yuv", chroma_w=1, chroma_h=1), 2),
    "420p9": (PixelFormat(family="yuv", bits=9, chroma_w=1, chroma_h=1), 0),
    "420p10": (PixelFormat(family="yuv", bits=10, chroma_w=1, chroma_h=1), 0),
    "420p12": (PixelFormat(family="yuv", bits=12, chroma_w=1, chroma_h=1), 0),
    "420p14": (PixelFormat(family="yuv", bits=14, chroma_w=1, chroma_h=1), 0),
    "420p16": (PixelFormat(family="yuv", bits=16, chroma_w=1, chroma_h=1), 0),
    "422": (PixelFormat(family="yuv", chroma_w=1), 0),
    "422p10": (PixelFormat(family="yuv", bits=10, chroma_w=1), 0),
    "444": (PixelFormat(family="yuv"), 0),
    "444p12": (PixelFormat(family="yuv", bits=12), 0),
    "444alpha": (PixelFormat(family="yuv", alpha=True), 0),
    "411": (PixelFormat(family="yuv", chroma_w=2), 0),
    "410": (PixelFormat(family="yuv", chroma_w=2, chroma_h=2), 0),
    "mono": (PixelFormat(family="gray"), 0),
    "mono9": (PixelFormat(family="gray", bits=9), 0),
    "mono12": (PixelFormat(family="gray", bits=12), 0),
    "mono16": (PixelFormat(family="gray", bits=16), 0),
}


def source_of(data, **options):
    return Y4mSource(fed(data), **options)


def parsed(text):
    return parse_header(b"YUV4MPEG2 " + text.encode() + b"\n", "in")


class Kept(io.BytesIO):
    error = None
    ended = None

    def commit(self):
        self.ended = "commit"

    def discard(self):
        self.ended = self.ended or "discard"


def stream(header, frames, parameters=b""):
    return header.line() + b"".join(
        b"FRAME" + parameters + b"\n" + b"".join(p.tobytes() for p in planes) for planes in frames
    )


def planes_for(layout, width=7, height=5, count=2):
    random = np.random.default_rng(1)
    return [
        tuple(
            random.integers(0, 1 << layout.bits, shape).astype(layout.dtype)
            for shape in layout.plane_shapes(width, height)
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_comes_back_bit_by_bit(name):
    layout, siting = FORMS[name]
    header = parsed(f"W7 H5 F30000:1001 It A4:3 C{name} XYSCSS=ODD XTHING=1")
    header = replace(header, interlacing="p")
    assert header.format == layout
    assert header.color.siting == siting
    pictures = planes_for(layout)
    data = stream(parsed(f"W7 H5 F30000:1001 Ip A4:3 C{name} XTHING=1"), pictures)
    source = source_of(data)
    assert source.info.frame_rate == Fraction(30000, 1001)
    assert source.info.sample_aspect == Fraction(4, 3)
    out = Kept()
    sink = Y4mSink(out, source.header.line(), source.info.frame_rate)
    for n, frame in enumerate(source):
        assert frame.pts == n
        for plane, expected in zip(frame.planes, pictures[n], strict=True):
            assert np.array_equal(plane, expected)
        sink.write(frame)
    sink.finish()
    assert out.getvalue() == data
    assert out.ended == "commit"


def test_the_answer_has_another_size_and_echoes_the_rest():
    header = parsed("H64 W96 F25:1 I? A0:0 Cmono XCOLORRANGE=FULL XWHATEVER Zfuture")
    answer = header.answer(192, 128, progressive=False)
    assert answer == (
        b"YUV4MPEG2 H128 W192 F25:1 I? A0:0 Cmono XCOLORRANGE=FULL XWHATEVER Zfuture\n"
    )
    assert b" Ip " in parsed("W4 H4 It F1:1").answer(8, 8, progressive=True)


def test_what_is_not_said():
    header = parsed("W96 H64")
    assert (header.rate, header.aspect, header.interlacing) == (None, 1, "?")
    assert header.color == ColorSpec(siting=2)
    assert parsed("W96 H64 F0:0 A0:0").rate is None
    assert parsed("W2 H2 XYSCSS=420P10").format.bits == 10
    assert parsed("W2 H2 XCOLORRANGE=FULL").color.full_range is True
    assert parsed("W2 H2 XCOLORRANGE=LIMITED").color.full_range is False


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (b"YUV5MPEG2 W96 H64\n", "not y4m"),
        (b"", "not y4m"),
        (b"YUV4MPEG2 W0 H64\n", "W0"),
        (b"YUV4MPEG2 H64\n", "W"),
        (b"YUV4MPEG2 W-4 H64\n", "W-4"),
        (b"YUV4MPEG2 W9x H64\n", "W9x"),
        (b"YUV4MPEG2 W99999999999 H64\n", "W9999"),
        (b"YUV4MPEG2 W8 H8 F25\n", "F25"),
        (b"YUV4MPEG2 W8 H8 A1:x\n", "A1:x"),
        (b"YUV4MPEG2 W8 H8 C421\n", "C421"),
        (b"YUV4MPEG2 W8 H8 Ix\n", "Ix"),
        (b"YUV4MPEG2 W8 H8 X" + b"a" * 9000 + b"\n", "does not end within"),
        (b"YUV4MPEG2 W100000 H100000 F25:1\n", "limit"),
        (b"YUV4MPEG2 W8 H8 Im\n", "mixes"),
    ],
)
def test_headers_that_make_no_sense(line, match):
    with pytest.raises(UnsupportedSourceError, match=match):
        source_of(line)


def test_interlaced_streams_are_filtered_or_refused():
    layout = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
    header = parsed("W32 H24 F25:1 It C420jpeg")
    chroma = np.full((12, 16), 128, np.uint8)
    woven = []
    for n in range(4):  # a bar that moves four pixels from field to field
        picture = np.full((24, 32), 40, np.uint8)
        picture[0::2, 8 * n : 8 * n + 4] = picture[1::2, 8 * n + 4 : 8 * n + 8] = 200
        woven.append(picture)
    data = stream(header, [(picture, chroma, chroma) for picture in woven], b" Itii Xkept")
    with pytest.raises(UnsupportedSourceError, match="woven"):
        source_of(data, deinterlace="off")
    source = source_of(data)
    frames = list(source)
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    assert source.filtered
    combed, smooth = (
        np.abs(np.diff(luma.astype(int), axis=0)).mean() for luma in (woven[1], frames[1].planes[0])
    )
    assert smooth < combed / 2
    assert frames[1].format == layout
    assert frames[0].side_data[FRAME_PARAMETERS] == b" Xkept"


@pytest.mark.parametrize(
    ("tail", "count", "match"),
    [
        (b"FRAME\n" + b"\1" * 92, 2, "inside frame 2, 4 of its 96 bytes"),
        (b"FRAME\n", 2, "inside frame 2, 96 of its 96 bytes"),
        (b"FRA", 2, "inside frame 2"),
        (b"FRAMES\n" + b"\1" * 96, 2, "should begin"),
        (b"garbage\n", 2, "should begin"),
        (b"\1" * 9000, 2, "should begin"),
    ],
)
@pytest.mark.parametrize("interlacing", ["p", "b"])
def test_damage_comes_after_the_frames_before_it(tail, count, match, interlacing):
    header = parsed(f"W8 H8 F25:1 I{interlacing}")
    data = stream(header, planes_for(header.format, 8, 8)) + tail
    seen = []
    source = source_of(data)
    with pytest.raises(SourceError, match=match):
        seen.extend(frame.pts for frame in source)
    assert len(seen) == count


def test_a_video_of_another_container_in_words_of_y4m():
    info = source_of(b"YUV4MPEG2 W7 H5 F24:1 C420mpeg2\n").info
    info = replace(info, color=ColorSpec(matrix=1, full_range=True, siting=3))
    header = header_for(replace(info, sample_aspect=Fraction(8, 9)))
    assert header.line() == b"YUV4MPEG2 W7 H5 F24:1 Ip A8:9 C420paldv XCOLORRANGE=FULL\n"
    deep = replace(info, format=PixelFormat(family="yuv", bits=10, chroma_w=1, chroma_h=1))
    assert b" C420p10 XYSCSS=420P10 " in header_for(deep).line()
    assert parse_header(header_for(deep).line(), "x").format == deep.format
    assert b" F0:0 " in header_for(replace(info, frame_rate=None)).line()
    for layout in (
        PixelFormat(family="rgb"),
        PixelFormat(family="gray", alpha=True),
        PixelFormat(family="yuv", chroma_w=1, chroma_h=1, alpha=True),
    ):
        with pytest.raises(ContainerError, match="-f nut"):
            header_for(replace(info, format=layout))


def test_frames_off_the_beat_are_refused_since_y4m_has_no_times():
    (frame, late) = source_of(
        stream(parsed("W4 H4 F25:1"), planes_for(PixelFormat(family="gray"), 4, 6))
    )
    sink = Y4mSink(Kept(), b"", Fraction(25))
    sink.write(frame)
    with pytest.raises(SinkError, match=r"0\.160 s and not at 0\.040 s.*-f nut"):
        sink.write(replace(late, pts=4))
    free = Y4mSink(Kept(), b"", None)
    free.write(frame)
    free.write(replace(late, pts=4))


# ---- the ends


def test_a_reader_that_waits_is_freed_by_another_thread():
    read, write = os.pipe()
    reader = ByteReader(read, "in")
    errors = []

    def wait():
        try:
            reader.read()
        except CancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    reader.release()
    thread.join(10)
    assert not thread.is_alive()
    assert len(errors) == 1
    reader.close()
    reader.close()
    os.close(write)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname != "Linux", reason="Linux only")
def test_a_reader_that_waits_sees_that_nobody_listens():
    (read, write), (heard, spoken) = os.pipe(), os.pipe()
    reader, writer = ByteReader(read, "in"), ByteWriter(spoken, "out")
    reader.listen(writer)
    os.close(heard)
    with pytest.raises(BrokenPipeError):
        reader.read()
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")
    assert isinstance(writer.error, BrokenPipeError)
    reader.close()
    writer.discard()
    assert writer.closed
    os.close(write)


def test_peeking_and_lines_leave_the_rest():
    reader = fed(b"abc\ndef")
    assert reader.peek(2) == b"ab"
    assert reader.line(100) == b"abc\n"
    assert reader.line(2) == b"de"
    assert reader.read(100) == b"f"
    assert reader.read(100) == b""
    assert reader.peek(3) == b""


def test_a_writer_waits_for_a_pipe_that_does_not_block():
    read, write = os.pipe()
    os.set_blocking(write, False)
    data = os.urandom(1 << 18)
    got = []

    def receive():
        with os.fdopen(read, "rb") as file:
            got.append(file.read())

    thread = threading.Thread(target=receive)
    thread.start()
    writer = ByteWriter(write, "out")
    assert writer.write(data) == len(data)
    writer.commit()
    thread.join(10)
    assert got == [data]


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
def test_terminals_are_refused_with_a_hint():
    near, far = os.openpty()
    with pytest.raises(UsageError, match="terminal: send a video"):
        open_reader(f"/dev/fd/{far}")
    with pytest.raises(UsageError, match="terminal: send it on"):
        open_writer(f"/dev/fd/{far}")
    os.close(near)
    os.close(far)


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
def test_what_is_a_stream(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    assert is_stream("-")
    assert is_stream("/dev/fd/7")
    assert is_stream("/dev/stdout")
    assert is_stream(tmp_path / "fifo")
    assert is_stream(os.devnull)
    assert not is_stream(tmp_path / "file")
    assert not is_stream(tmp_path / "none")
    assert not is_stream(tmp_path)
    with pytest.raises(SourceError, match="does not exist"):
        open_reader(str(tmp_path / "none"))
    with pytest.raises(SourceError, match="folder"):
        open_reader(str(tmp_path))
    with pytest.raises(SinkError, match="does not exist"):
        open_writer(str(tmp_path / "no" / "such"))
