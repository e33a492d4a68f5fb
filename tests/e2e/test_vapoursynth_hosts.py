"""The filter in real hosts: vspipe, mpv, and interpreters that end at a bad moment."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import vsr
from tests.media import REPO, clip, decoded

vs = pytest.importorskip("vapoursynth")
pytestmark = pytest.mark.vapoursynth
UPSCALE, MPV = REPO / "filters" / "upscale.vpy", REPO / "filters" / "mpv.vpy"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(REPO),
    "OMP_NUM_THREADS": "1",
}


def run(*command, **options):
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        timeout=120,
        **options,
    )


@pytest.fixture(scope="module")
def vspipe():
    beside = Path(sys.executable).with_name("vspipe")
    found = str(beside) if beside.exists() else shutil.which("vspipe")
    if found is None:
        pytest.skip("no vspipe beside this Python")
    return found


@pytest.fixture(autouse=True)
def _outputs():
    yield
    vs.clear_outputs()


def test_vspipe_writes_y4m(vspipe, tmp_path):
    target = tmp_path / "out.y4m"
    done = run(vspipe, "-c", "y4m", "-a", "source=test", "-a", "scale=3", UPSCALE, target)
    assert done.returncode == 0, done.stderr.decode()
    assert target.read_bytes().startswith(b"YUV4MPEG2 C420 W480 H270 F24:1")
    with av.open(target) as file:
        piped = [frame.to_ndarray() for frame in file.decode(video=0)]
    runpy.run_path(str(UPSCALE), {"source": "test", "scale": "3"}, run_name="__vapoursynth__")
    here = [frame[0] for frame in vs.get_output(0).clip.frames()]
    assert len(piped) == len(here) == 6
    for a, b in zip(piped, here, strict=True):
        assert np.array_equal(a[:270], np.asarray(b))


def test_vspipe_pixels_are_those_of_the_api(vspipe, tmp_path):
    """One clip through a y4m file and `upscale_frames`, and through a script in vspipe."""
    source, target = tmp_path / "in.y4m", tmp_path / "out.y4m"
    script = tmp_path / "own.vpy"
    script.write_text(
        "import vapoursynth as vs\n"
        "from vsr.vapoursynth import upscale\n"
        "clip = vs.core.std.BlankClip(width=64, height=48, format=vs.YUV420P10, length=4)\n"
        "clip = vs.core.text.FrameNum(vs.core.text.CoreInfo(clip))\n"
        "clip = vs.core.std.SetFrameProps(clip, _Matrix=6, _Range=0, _ChromaLocation=0)\n"
        "clip.set_output(0)\n"
        "upscale(clip, scale=2, device='cpu').set_output(1)\n",
        encoding="utf-8",
    )
    for index, path in enumerate((source, target)):
        done = run(vspipe, "-c", "y4m", "-o", index, script, path)
        assert done.returncode == 0, done.stderr.decode()
    frames = list(vsr.upscale_frames(source, scale=2, device="cpu"))
    with av.open(target) as file:
        piped = list(file.decode(video=0))
    assert len(frames) == len(piped) == 4
    for ours, theirs in zip(frames, piped, strict=True):
        rows = np.frombuffer(theirs.planes[0], np.uint16).reshape(theirs.height, -1)
        assert ours.planes[0].std() > 50, "the text is there"
        assert np.array_equal(ours.planes[0], rows[:, : theirs.width])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no source: give -a source=film.mkv"),
        (["-a", "source=test", "-a", "scale=99"], "the scale must be above 0 and at most 16"),
        (["-a", "source=test", "-a", "model=nope"], "no model is called 'nope'"),
    ],
)
def test_vspipe_shows_one_clear_line(vspipe, arguments, said):
    done = run(vspipe, "-c", "y4m", *arguments, UPSCALE, "--")
    assert done.returncode == 1
    (line,) = (
        text for text in done.stderr.decode().splitlines() if text.startswith("Python exception:")
    )
    assert said in line


def test_vspipe_reads_a_film_with_bestsource(vspipe, tmp_path):
    film = clip(tmp_path / "film.mkv", frames=5)
    target = tmp_path / "out.y4m"
    done = run(vspipe, "-c", "y4m", "-a", f"source={film}", UPSCALE, target)
    if not hasattr(vs.core, "bs"):
        assert "pip install vapoursynth-bestsource" in done.stderr.decode()
        pytest.skip("the plugin vapoursynth-bestsource is not installed")
    assert done.returncode == 0, done.stderr.decode()
    assert [picture.shape for _, picture in decoded(target)] == [(96, 128, 3)] * 5


def test_the_script_for_mpv_asks_for_no_frame_before_its_end():
    """In mpv `video_in` has no frames yet while the script runs."""
    asked = []
    blank = vs.core.std.BlankClip(width=32, height=24, format=vs.YUV420P8, length=1 << 26)
    video_in = vs.core.std.FrameEval(blank, lambda n: asked.append(n) or blank)
    runpy.run_path(str(MPV), {"video_in": video_in}, run_name="__vapoursynth__")
    result = vs.get_output(0).clip
    assert not asked
    assert (result.width, result.height, result.num_frames) == (64, 48, 1 << 26)
    for n in (0, 1, 2, 3):
        assert result.get_frame(n).width == 64
    assert set(asked) <= {0, 1, 2, 3}


def test_mpv_plays_through_the_filter(tmp_path):
    mpv = shutil.which("mpv")
    if mpv is None:
        pytest.skip("mpv is not installed")
    if "vapoursynth" not in run(mpv, "--no-config", "--vf=help").stdout.decode():
        pytest.skip("this mpv was built without VapourSynth (`mpv --vf=help` does not list it)")
    film, target = clip(tmp_path / "film.mkv", frames=6), tmp_path / "out.mkv"
    done = run(
        mpv, "--no-config", "--no-terminal", f"--vf=vapoursynth={MPV}", f"--o={target}", film
    )
    assert done.returncode == 0, done.stderr.decode()
    pictures = decoded(target)
    assert len(pictures) == 6
    assert all(picture.shape == (96, 128, 3) for _, picture in pictures)


SETUP = """
import sys, time, threading
import vapoursynth as vs
from vsr.vapoursynth import upscale
core = vs.core
blank = core.std.BlankClip(width=160, height=90, format=vs.YUV420P8, length=400, keep=True)
clip = upscale(blank, scale=2, device="cpu", batch_size={batch}, num_streams={streams})
asked = [clip.get_frame_async(n) for n in range(40)]
"""
ENDINGS = {
    "while frames are under way": "",
    "with the clip freed": "del clip, blank; asked[3].result(); del asked",
    "with the outputs cleared": "clip.set_output(); del clip; vs.clear_outputs()",
    "from within an error": "asked[0].result(); raise SystemExit(7)",
    "from another thread's request": (
        "t = threading.Thread(target=lambda: clip.get_frame(300)); t.start()"
    ),
}


@pytest.mark.parametrize(("ending", "batch"), list(zip(ENDINGS, (1, 2, 2, 1, 1), strict=True)))
def test_an_interpreter_that_ends_midway_neither_hangs_nor_crashes(ending, batch):
    code = SETUP.format(batch=batch, streams=batch) + ENDINGS[ending]
    done = run(sys.executable, "-c", code)
    assert done.returncode == (7 if "SystemExit" in code else 0), done.stderr.decode()


def test_a_closed_reader_ends_vspipe(vspipe):
    command = [vspipe, "-c", "y4m", "-a", "source=test", str(UPSCALE), "-"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(9) == b"YUV4MPEG2"
        process.stdout.close()
        process.wait(60)
