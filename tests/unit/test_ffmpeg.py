"""The chain ffmpeg → vsr pipe → ffmpeg: what it runs, what it keeps, what it says when it fails."""

import os
import shutil
import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import pytest
import torch

import vsr
import vsr.ffmpeg as chain_of
from tests.media import REPO, clip, decoded, packets
from vsr.checkpoints import save_checkpoint
from vsr.errors import SinkExistsError, ToolError, UnsupportedSourceError
from vsr.io.probe import probe
from vsr.models.compact import Compact, CompactConfig

pytestmark = [
    pytest.mark.ffmpeg,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed"),
]


def lossless(**more: object) -> dict[str, object]:
    return {"vcodec": "ffv1", **more}


def test_pixels_equal_the_python_door(film: Path, folder: Path) -> None:
    target = folder / "out.mkv"
    chain_of.upscale(film, target, scale=2, model="bicubic", output=lossless())
    expected = list(vsr.upscale_frames(film, scale=2, model="bicubic"))
    with closing(vsr.open_source(target)) as source:
        found = list(source)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.seconds == theirs.seconds
        assert all((a == b).all() for a, b in zip(ours.planes, theirs.planes, strict=True))


def test_times_sound_and_tags_stay(film: Path, folder: Path) -> None:
    target = folder / "out.mkv"
    chain_of.upscale(film, target, scale=2, model="bicubic")
    assert [time for time, _ in decoded(target)] == [time for time, _ in decoded(film)]
    assert packets(target, "audio") == packets(film, "audio")
    wanted, got = (probe(path).streams[0].video for path in (film, target))
    assert wanted is not None
    assert got is not None
    assert (got.width, got.height) == (2 * wanted.width, 2 * wanted.height)
    assert got.color.matrix == wanted.color.resolved(wanted.width, wanted.height, "yuv").matrix


def test_a_graph_of_filters_keeps_its_commands(film: Path) -> None:
    source = ffmpeg.input(str(film))
    chain = chain_of.through(source.video.filter("hflip"), scale=2, model="bicubic", tta=True)
    first, middle, last = chain.commands(ffmpeg.output(chain.video.filter("vflip"), "out.mkv"))
    assert "[0:v]hflip[s0]" in first
    assert middle[:4] == [sys.executable, "-m", "vsr", "pipe"]
    assert middle[4:] == ["--progress", "none", "--scale", "2", "--model", "bicubic", "--tta"]
    assert "[0:v]vflip[s0]" in last


def test_times_before_zero_are_shifted_in_the_pipe_only(film: Path) -> None:
    chain = chain_of.through(ffmpeg.input(str(film)).video, start=Fraction(-3, 2))
    first, _, last = chain.commands(ffmpeg.output(chain.video, "out.mkv"))
    assert first[first.index("-output_ts_offset") + 1] == "2"
    assert last[last.index("-itsoffset") + 1] == "-2"


def test_every_failed_process_is_named(film: Path, folder: Path) -> None:
    chain = chain_of.through(ffmpeg.input(str(film)).video, scale=2, model="no-such-model")
    with pytest.raises(ToolError, match=r"vsr pipe failed \(5\): .*no-such-model"):
        chain.run(ffmpeg.output(chain.video, str(folder / "out.mkv")))


@pytest.mark.usefixtures("folder")
def test_a_decoder_that_fails_is_the_one_to_blame(folder: Path) -> None:
    chain = chain_of.through(ffmpeg.input(str(folder / "absent.mkv")).video, scale=2)
    with pytest.raises(ToolError, match=r"ffmpeg \(decode\) failed .*absent\.mkv"):
        chain.run(ffmpeg.output(chain.video, str(folder / "out.mkv")))


def test_nothing_half_written_under_the_name(film: Path, folder: Path) -> None:
    target = folder / "out.mkv"
    with pytest.raises(ToolError, match="no-such-codec"):
        chain_of.upscale(film, target, scale=2, model="bicubic", output={"vcodec": "no-such-codec"})
    assert list(folder.iterdir()) == []


def test_an_existing_target_stays(film: Path, folder: Path) -> None:
    target = folder / "out.mkv"
    target.write_bytes(b"older")
    with pytest.raises(SinkExistsError):
        chain_of.upscale(film, target, scale=2)
    assert target.read_bytes() == b"older"


def test_a_source_without_video_is_refused(folder: Path) -> None:
    sound = folder / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.planes[0].update(bytes(1600))
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UnsupportedSourceError, match="no video"):
        chain_of.upscale(sound, folder / "out.mkv", scale=2)


def test_a_missing_ffmpeg_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ToolError, match=r"pip install vsr\[ffmpeg\]"):
        chain_of.ffmpeg_program()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_shell_script_does_the_same(film: Path, folder: Path) -> None:
    target = folder / "-out put.mkv"
    script = REPO / "filters" / "ffmpeg_pipe.sh"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(script), str(film), str(target), "-s", "2", "-n", "bicubic"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path}, timeout=120)
    assert [time for time, _ in decoded(target)] == [time for time, _ in decoded(film)]
    assert packets(target, "audio") == packets(film, "audio")


@pytest.mark.parametrize(("color", "full"), [((1, 1, 1), True), ((9, 9, 14), False)])
def test_colour_is_told_past_the_pipe(
    color: tuple[int, int, int], full: bool, folder: Path
) -> None:
    torch.manual_seed(0)
    config = CompactConfig(features=4, convs=1, scale=2)
    save_checkpoint(folder / "rgb.safetensors", Compact(config).state_dict(), "compact", config)
    source, target = folder / "in.mkv", folder / "out.mkv"
    clip(source, codec="ffv1", color=color, full_range=full)
    model = {"model_path": folder / "rgb.safetensors"}
    chain_of.upscale(source, target, scale=2, output=lossless(), **model)
    with closing(vsr.open_source(target)) as written:
        found = list(written)
    for ours, theirs in zip(found, vsr.upscale_frames(source, scale=2, **model), strict=True):
        assert (ours.color.matrix, ours.color.full_range) == (color[0], full)
        assert all((a == b).all() for a, b in zip(ours.planes, theirs.planes, strict=True))
