"""The program between others: real pipes, real signals, FFmpeg on both sides."""

import contextlib
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import vsr
from tests import media
from tests.e2e.test_acceptance import FILES, _options, judge  # noqa: F401 - a fixture
from tests.e2e.test_acceptance import media as accepted  # noqa: F401 - a fixture
from tests.unit.test_io_y4m import parsed, planes_for, stream
from vsr.cli.main import run

VSR = [sys.executable, "-m", "vsr"]
PIPE = [*VSR, "pipe", "-s", "2", "--model", "bicubic", "--device", "cpu"]
VFR = [0, 10, 20, 41, 500, 501, 900, 1400]


def started(arguments, **more):
    return subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=media.REPO,
        **more,
    )


def frame_bytes(planes):
    return b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)


@pytest.fixture
def through(capfdbinary, tmp_path):
    """Runs a command line in this process with bytes on descriptor 0; gives (code, out, err)."""

    def work(arguments, data):
        kept = os.dup(0)
        (tmp_path / "stdin").write_bytes(data)
        fd = os.open(tmp_path / "stdin", os.O_RDONLY)
        os.dup2(fd, 0)
        try:
            code = run(arguments)
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(fd)
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return work


@pytest.mark.ffmpeg
@pytest.mark.parametrize("container", ["yuv4mpegpipe", "nut"])
def test_between_two_ffmpegs(container, tmp_path):
    film = media.clip(
        tmp_path / "in.mkv", codec="ffv1", pts=VFR if container == "nut" else None,
        time_base=Fraction(1, 1000) if container == "nut" else None, audio="pcm_s16le",
    )  # fmt: skip
    target = tmp_path / "out.mkv"
    sound = ["-c:a", "copy"] if container == "nut" else ["-an"]
    quiet = ["ffmpeg", "-v", "error", "-nostdin"]
    exact = ["-fps_mode", "passthrough"]
    if container == "nut":
        exact += ["-enc_time_base", "-1"]
        picture = ["-c:v", "rawvideo"]
    else:  # y4m tells the siting, and FFmpeg takes an untold one for centred
        picture = ["-chroma_sample_location", "left"]
    first = subprocess.Popen(
        [*quiet, "-copyts", "-i", film, *exact, *picture, *sound, "-f", container, "-"],
        stdout=subprocess.PIPE,
    )
    second = subprocess.Popen(
        PIPE, stdin=first.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=media.REPO
    )
    first.stdout.close()
    done = subprocess.run(
        [*quiet, "-copyts", "-i", "-", *exact, "-c:v", "ffv1", *sound, target],
        stdin=second.stdout,
        check=False,
    )
    second.stdout.close()
    said = second.stderr.read().decode()
    second.stderr.close()
    assert (first.wait(60), second.wait(60), done.returncode) == (0, 0, 0), said
    times = [t for t, _ in media.decoded(target)]
    assert times == [t for t, _ in media.decoded(film)]
    with vsr.open_source(target) as written:
        expected = vsr.upscale_frames(film, scale=2, model="bicubic", device="cpu")
        for ours, theirs in zip(written, expected, strict=True):
            for p, q in zip(ours.planes, theirs.planes, strict=True):
                assert np.array_equal(p, q)
    if container == "nut":
        before, after = (b"".join(d for _, d in media.packets(f, "audio")) for f in (film, target))
        assert after == before


@pytest.mark.parametrize("arguments", [["pipe"], ["upscale", "-", "-o", "-"], ["upscale", "-"]])
def test_two_spellings(arguments, through):
    header = parsed("W8 H6 F25:1")
    data = stream(header, planes_for(header.format, 8, 6))
    options = ["-s", "2", "--model", "bicubic", "--device", "cpu", "--progress", "json"]
    code, out, err = through([*arguments, *options], data)
    assert code == 0, err
    assert out.startswith(b"YUV4MPEG2 W16 H12 F25:1\nFRAME\n")
    assert len(out) == len(b"YUV4MPEG2 W16 H12 F25:1\n") + 2 * (6 + 16 * 12 * 3 // 2)
    assert '"event": "done"' in err


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_what_comes_through_a_pipe_is_encoded_into_a_film(suffix, through, tmp_path):
    header = parsed("W16 H8 F25:1")
    data = stream(header, planes_for(header.format, 16, 8, count=4))
    target = tmp_path / f"out.{suffix}"
    options = ["-s", "2", "--model", "bicubic", "-c", "x264", "--crf", "3", "-o", str(target)]
    code, out, err = through(["upscale", "-", *options], data)
    assert (code, out) == (0, b""), err
    frames = media.decoded(target)
    assert [time for time, _ in frames] == [Fraction(n, 25) for n in range(4)]
    assert frames[0][1].shape == (16, 32, 3)
    code, _, err = through(["upscale", "-", *options], data)
    assert code == 4
    assert "exists" in err
    code, _, err = through(["pipe", "-o", str(tmp_path / "new.mp4")], data)
    assert code == 2
    assert "does not write .mp4" in err
    assert {path.name for path in tmp_path.iterdir()} == {"stdin", f"out.{suffix}"}


@pytest.mark.parametrize(
    ("arguments", "data", "code", "match"),
    [
        (["pipe"], b"", 3, "empty"),
        (["pipe"], b"garbage, not video", 3, "neither"),
        (["pipe", "--raw", "2x2:yuv42p:25"], b"", 2, "did you mean"),
        (["pipe", "-f", "avi"], b"", 2, "avi"),
        (["pipe", "-i", "none.y4m"], b"", 3, "does not exist"),
        (["upscale", "-", "a.mkv", "-o", "-"], b"", 2, "one input"),
        (["upscale", "-", "-o", "-", "--crf", "9"], b"", 2, "--crf"),
        (["upscale", "-", "-o", "-", "-f", "mp4"], b"", 2, "mp4"),
        (["pipe", "-n", "no-such-model"], b"YUV4MPEG2 W8 H8\n", 5, "no-such-model"),
    ],
)
def test_refusals_are_one_line_and_nothing_on_stdout(arguments, data, code, match, through):
    got, out, err = through(arguments, data)
    assert got == code
    assert out == b""
    assert len(err.strip().splitlines()) == 1
    assert match in err


def test_the_first_frame_leaves_before_the_second_comes_and_a_closed_reader_is_a_quiet_stop():
    header = parsed("W96 H64 F25:1")
    (planes,) = planes_for(header.format, 96, 64, count=1)
    process = started(PIPE)
    process.stdin.write(header.line() + frame_bytes(planes))
    process.stdin.flush()
    assert process.stdout.readline() == b"YUV4MPEG2 W192 H128 F25:1\n"
    assert len(process.stdout.read(6 + 192 * 128 * 3 // 2)) == 6 + 192 * 128 * 3 // 2
    process.stdout.close()
    try:
        for _ in range(2000):
            process.stdin.write(frame_bytes(planes))
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.wait(20) == 1
    assert process.stderr.read() == b""
    process.stderr.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("name", "sent"), [("SIGINT", 1), ("SIGTERM", 0)])
def test_a_signal_ends_it_while_it_waits_for_input(name, sent):
    header = parsed("W8 H6 F25:1")
    process = started(PIPE)
    process.stdin.write(header.line())
    for planes in planes_for(header.format, 8, 6, count=sent):
        process.stdin.write(frame_bytes(planes))
    process.stdin.flush()
    assert process.stdout.readline().startswith(b"YUV4MPEG2 W16")
    if sent:
        process.stdout.read(6 + 16 * 12 * 3 // 2)
    process.send_signal(getattr(signal, name))
    assert process.wait(20) == 130
    assert b"Traceback" not in process.stderr.read()
    for file in (process.stdin, process.stdout, process.stderr):
        file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_length():
    header = parsed("W64 H36 F24:1")
    (planes,) = planes_for(header.format, 64, 36, count=1)
    process = started(PIPE)
    process.stdin.write(header.line())
    process.stdin.flush()
    peaks = []
    frame, answer = frame_bytes(planes), 6 + 128 * 72 * 3 // 2
    process.stdout.readline()
    for _ in range(6):
        for _ in range(50):
            process.stdin.write(frame * 10)
            process.stdin.flush()
            assert len(process.stdout.read(10 * answer)) == 10 * answer
        peaks.append(peak_of(process.pid))
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()
    process.stderr.close()
    assert peaks[-1] < peaks[1] + (8 << 20)


def peak_of(pid):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines["VmHWM"].split()[0]) << 10


PIPES = [case for case in FILES if case.get("pipe")]


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("case", PIPES, ids=lambda case: case["file"])
def test_accepted_streams(case, accepted, judge, through, tmp_path):  # noqa: F811
    source, output = accepted / case["file"], tmp_path / "out.y4m"
    scale = str(case.get("scale", 2))
    code, out, err = through(["pipe", "-s", scale, "--model", "bicubic"], source.read_bytes())
    assert "Traceback" not in err
    if case["kind"] == "error":
        assert 1 <= code <= 127
        assert err.strip()
        assert out == b""
        return
    if case["kind"] == "degraded":
        assert 1 <= code <= 127
        assert err.strip(), "damage was not reported"
    else:
        assert code == 0, err
    if case.get("max_frames") == 0:
        assert out.startswith(b"YUV4MPEG2 ")
        return
    output.write_bytes(out)
    result = judge(source, output, _options(case))
    assert result["ok"], result["fail"]
