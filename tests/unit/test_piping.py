"""Pipe jobs inside this process: what goes in at one descriptor comes out upscaled at another."""

import io
import os
import re
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import vsr
from tests import media
from tests.pipes import fed
from tests.unit.test_io_y4m import parsed, planes_for, stream
from vsr.errors import (
    ContainerError,
    ModelError,
    SinkError,
    SinkExistsError,
    SourceError,
    UnsupportedSourceError,
    UsageError,
)
from vsr.io.av_source import SourceOptions
from vsr.io.plan import SinkOptions
from vsr.io.rawvideo import RawSource, parse_raw
from vsr.io.y4m import Y4mSource
from vsr.piping import PipeJob, run
from vsr.planning import UpscaleJob

VFR = [0, 10, 20, 41, 500, 501, 900, 1400]


def piped(data, *, form=None, raw=None, said=None, **settings):
    """Sends bytes through a job and gives what comes out."""
    (far, near), (heard, spoken) = os.pipe(), os.pipe()
    got = []

    def send():
        with os.fdopen(near, "wb") as file:
            try:
                file.write(data)
            except BrokenPipeError:
                return

    def receive():
        with os.fdopen(heard, "rb") as file:
            got.append(file.read())

    threads = [threading.Thread(target=work, daemon=True) for work in (send, receive)]
    for thread in threads:
        thread.start()
    how = {"scale": 2, "model": "bicubic", "device": "cpu"} | settings
    work = UpscaleJob(source=f"/dev/fd/{far}", target=Path(f"/dev/fd/{spoken}"), **how)
    try:
        run(PipeJob(upscale=work, format=form, raw=parse_raw(raw) if raw else None))
    except Exception as error:
        if said is None:
            raise
        said.append(error)
    finally:
        os.close(far)
        os.close(spoken)
        for thread in threads:
            thread.join(20)
    return got[0]


def frames_of(data):
    return list(Y4mSource(fed(data)))


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(
        np.array_equal(p, q)
        for a, b in zip(ours, theirs, strict=True)
        for p, q in zip(a.planes, b.planes, strict=True)
    )


@pytest.fixture
def opened():
    """Reads a container from memory: exact times, planes as bytes, and packets of sound."""
    files = []

    def read(data):
        files.append(av.open(io.BytesIO(data)))
        return files[-1]

    yield read
    for file in files:
        file.close()


def times_of(file):
    return [frame.pts * Fraction(frame.time_base) for frame in file.decode(video=0)]


@pytest.mark.parametrize(
    "name", ["420jpeg", "420paldv", "420p10", "422", "444p12", "444alpha", "411", "mono", "mono16"]
)
@pytest.mark.parametrize("model", ["bicubic", "auto"])
def test_pictures_equal_those_of_the_iterator(name, model):
    data = stream(parsed(f"W9 H7 F25:1 Ip C{name} XCOLORRANGE=FULL"), [])
    layout = Y4mSource(fed(data)).info.format
    data = stream(
        parsed(f"W9 H7 F25:1 Ip C{name} XCOLORRANGE=FULL"), planes_for(layout, 9, 7), b" Xn"
    )
    out = piped(data, model=model)
    assert out.startswith(f"YUV4MPEG2 W18 H14 F25:1 Ip C{name} XCOLORRANGE=FULL\n".encode())
    assert out.count(b"FRAME Xn\n") == 2
    expected = vsr.upscale_frames(Y4mSource(fed(data)), scale=2, model=model, device="cpu")
    assert equal(frames_of(out), list(expected))


@pytest.mark.parametrize("container", ["nut", "matroska"])
def test_times_survive_a_pipe_and_pictures_are_the_same(container, tmp_path, opened):
    suffix = {"nut": ".nut", "matroska": ".mkv"}[container]
    codec = {"nut": "rawvideo", "matroska": "ffv1"}[container]
    film = media.clip(
        tmp_path / f"in{suffix}",
        codec=codec,
        pts=VFR,
        time_base=Fraction(1, 1000),
        audio="aac",
        tags={"title": "A film"},
    )
    out = piped(film.read_bytes())
    file = opened(out)
    assert container in file.format.name
    assert file.metadata["title"] == "A film"
    assert [stream.type for stream in file.streams] == ["video", "audio"]
    before = [time for time, _ in media.decoded(film)]  # NUT has moved all by the sound's run-up
    assert [time - before[0] for time in before] == [Fraction(time, 1000) for time in VFR]
    assert times_of(file) == before
    sound = [bytes(p) for p in opened(out).demux(audio=0) if p.size]
    assert sound == [data for _, data in media.packets(film, "audio")]
    (tmp_path / "out").write_bytes(out)
    with vsr.open_source(tmp_path / "out") as written:
        if container == "matroska":
            assert written.info.color.matrix == 6
        expected = vsr.upscale_frames(film, scale=2, model="bicubic", device="cpu")
        assert equal(list(written), list(expected))


def test_pixels_that_are_not_square_are_told(tmp_path, caplog):
    film = media.clip(tmp_path / "in.mkv", aspect=Fraction(4, 3))
    piped(film.read_bytes(), form="nut")
    assert "setsar=4/3" in caplog.text


def test_other_streams_that_cannot_come_along_are_named(tmp_path, caplog):
    film = media.clip(tmp_path / "in.mkv", codec="ffv1", audio="aac")
    out = piped(film.read_bytes(), form="y4m")
    assert len(frames_of(out)) == 8
    assert "#1 (audio)" in caplog.text


def test_times_that_y4m_cannot_tell_are_an_error(tmp_path):
    film = media.clip(tmp_path / "in.mkv", codec="ffv1", pts=VFR, time_base=Fraction(1, 1000))
    with pytest.raises(SinkError, match="-f nut"):
        piped(film.read_bytes(), form="y4m")


def test_from_raw_to_raw_and_to_a_container(opened):
    layout = parsed("W8 H6 C420jpeg").format
    pictures = planes_for(layout, 8, 6, count=3)
    data = b"".join(plane.tobytes() for planes in pictures for plane in planes)
    raw = piped(data, raw="8x6:yuv420p:24")
    as_y4m = piped(data, raw="8x6:yuv420p:24", form="y4m")
    assert as_y4m.startswith(b"YUV4MPEG2 W16 H12 F24:1 Ip A1:1 C420mpeg2")
    assert raw == b"".join(p.tobytes() for f in frames_of(as_y4m) for p in f.planes)
    assert times_of(opened(piped(data, raw="8x6:yuv420p:24", form="nut"))) == [
        Fraction(n, 24) for n in range(3)
    ]


def test_interlaced_y4m_is_answered_as_progressive():
    header = parsed("W16 H8 F25:1 It A1:1 C420jpeg")
    out = piped(stream(header, planes_for(header.format, 16, 8)))
    assert out.startswith(b"YUV4MPEG2 W32 H16 F25:1 Ip A1:1 C420jpeg\n")
    assert len(frames_of(out)) == 2
    with pytest.raises(UnsupportedSourceError, match="woven"):
        piped(stream(header, []), options=SourceOptions(deinterlace="off"))


def test_what_comes_before_damage_is_sent_and_then_it_is_told():
    header = parsed("W8 H6 F25:1")
    data = stream(header, planes_for(header.format, 8, 6, count=5))
    for batch in (1, 3):
        said = []
        out = piped(data[:-10], said=said, batch=batch)
        assert len(frames_of(out)) == 4
        assert isinstance(said[0], SourceError)
        assert "inside frame 4, 10 of its 72 bytes" in str(said[0])


def test_a_header_alone_is_answered_and_refused():
    said = []
    assert piped(b"YUV4MPEG2 W8 H6 F25:1\n", said=said) == b"YUV4MPEG2 W16 H12 F25:1\n"
    assert isinstance(said[0], UnsupportedSourceError)


@pytest.mark.parametrize(
    ("data", "settings", "error", "match"),
    [
        (b"", {}, UnsupportedSourceError, "empty"),
        (b"\0" * 5000, {}, UnsupportedSourceError, "neither y4m, NUT nor Matroska"),
        (b"#EXTM3U\nhttp://x\n", {}, UnsupportedSourceError, "neither"),
        (b"nut/multimedia container\0" + b"x" * 99, {}, UnsupportedSourceError, "damaged"),
        (b"\x1aE\xdf\xa3" + b"x" * 99, {}, UnsupportedSourceError, "damaged|no video|no frame"),
        (b"YUV4MPEG2 W8 H8\n", {"model": "no-such"}, ModelError, "no-such"),
        (b"YUV4MPEG2 W8 H8\n", {"scale": 99}, UsageError, "99"),
        (b"YUV4MPEG2 W8 H8\n", {"color": "bt709"}, UsageError, "--color"),
        (b"abc", {"raw": "60000x60000:gray:25"}, UnsupportedSourceError, "limit"),
        (b"abcde", {"raw": "2x2:gray:25"}, SourceError, "inside frame 1"),
        (b"abcd", {"raw": "2x2:rgba:25", "form": "y4m"}, ContainerError, "-f nut"),
    ],
)
def test_what_cannot_work_is_one_line(data, settings, error, match):
    said = []
    out = piped(data, said=said, **settings)
    assert isinstance(said[0], error)
    assert "\n" not in str(said[0])
    assert re.search(match, str(said[0]))
    assert out == b"" or "inside" in match


def test_no_frame_waits_for_the_next(tmp_path):
    """Frame by frame: the answer is read before the next frame is sent, whatever the batch."""
    header = parsed("W8 H6 F25:1")
    pictures = planes_for(header.format, 8, 6, count=4)
    (far, near), (heard, spoken) = os.pipe(), os.pipe()
    work = UpscaleJob(
        source=f"/dev/fd/{far}",
        target=Path(f"/dev/fd/{spoken}"),
        scale=2,
        model="bicubic",
        device="cpu",
        batch=4,
    )
    thread = threading.Thread(target=run, args=(PipeJob(upscale=work),), daemon=True)
    thread.start()
    with os.fdopen(near, "wb", 0) as sent, os.fdopen(heard, "rb") as answers:
        sent.write(header.line())
        assert answers.readline() == b"YUV4MPEG2 W16 H12 F25:1\n"
        for planes in pictures:
            sent.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes))
            assert len(answers.read(6 + 16 * 12 * 3 // 2)) == 6 + 16 * 12 * 3 // 2
        sent.close()
        thread.join(20)
        assert not thread.is_alive()
    os.close(far)
    os.close(spoken)
    assert not list(tmp_path.iterdir())


def test_a_closed_reader_ends_the_job_even_while_it_waits():
    (far, near), (heard, spoken) = os.pipe(), os.pipe()
    header = parsed("W8 H6 F25:1")
    os.write(near, stream(header, planes_for(header.format, 8, 6, count=1)))
    os.close(heard)
    work = UpscaleJob(
        source=f"/dev/fd/{far}", target=Path(f"/dev/fd/{spoken}"), model="bicubic", device="cpu"
    )
    with pytest.raises(BrokenPipeError):
        run(PipeJob(upscale=work))
    for fd in (far, near, spoken):
        os.close(fd)


def test_files_and_fifos(tmp_path):
    header = parsed("W8 H6 F25:1 Cmono")
    source, target, fifo = (tmp_path / name for name in ("in.y4m", "out.nut", "fifo"))
    source.write_bytes(stream(header, planes_for(header.format, 8, 6)))
    how = {"model": "bicubic", "device": "cpu", "scale": 2}

    def job(source, target, **more):
        return PipeJob(upscale=UpscaleJob(source=str(source), target=target, **how, **more))

    assert run(job(source, target)).frames == 2
    with vsr.open_source(target) as written:
        assert written.format_name == "nut"
        assert (written.info.width, written.info.height) == (16, 12)
    with pytest.raises(SinkExistsError, match="-y"):
        run(job(source, target))
    run(job(source, target, sink=SinkOptions(overwrite=True)))
    with pytest.raises(SinkError, match="input itself"):
        run(job(source, source, sink=SinkOptions(overwrite=True)))
    cut = tmp_path / "cut.y4m"
    cut.write_bytes(source.read_bytes()[:-5])
    with pytest.raises(SourceError, match="inside"):
        run(job(cut, tmp_path / "cut.nut"))
    os.mkfifo(fifo)
    got = []
    thread = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    thread.start()
    run(job(source, fifo))
    thread.join(20)
    assert got[0].startswith(b"YUV4MPEG2 W16 H12 F25:1 Cmono\n")
    assert {p.name for p in tmp_path.iterdir()} == {"in.y4m", "out.nut", "cut.y4m", "fifo"}


def test_an_ordinary_file_goes_into_a_pipe_too(film, tmp_path):
    target = tmp_path / "out.y4m"
    work = UpscaleJob(
        source=str(film.with_suffix(".mkv")), target=target, model="bicubic", device="cpu", scale=2
    )
    run(PipeJob(upscale=work, format="y4m"))
    expected = vsr.upscale_frames(film, scale=2, model="bicubic", device="cpu")
    assert equal(frames_of(target.read_bytes()), list(expected))


def test_raw_pictures_are_read_as_the_specification_says():
    source = RawSource(fed(bytes(range(12))), parse_raw("2x2:rgb24:30000/1001"))
    (frame,) = source
    green, blue, red = frame.planes
    assert red.tolist() == [[0, 3], [6, 9]]
    assert green.tolist() == [[1, 4], [7, 10]]
    assert blue.tolist() == [[2, 5], [8, 11]]
    assert source.info.frame_rate == Fraction(30000, 1001)
