"""Whole jobs through the Python API, read back by PyAV and by ffprobe."""

import logging
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

import vsr
from tests import media
from vsr.errors import (
    SinkExistsError,
    SourceNotFoundError,
    UnknownModelError,
    UnsupportedSourceError,
    UsageError,
    VerificationError,
)
from vsr.metrics import psnr
from vsr.planning import stored_size
from vsr.types import ColorSpec, PixelFormat, VideoInfo

VFR = [0, 10, 20, 41, 500, 501, 900, 1400]


def quick(source, target, **settings):
    return vsr.upscale(source, target, **{"model": "bicubic", "device": "cpu"} | settings)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_times_and_streams_stay(tmp_path, suffix):
    source = media.clip(
        tmp_path / "in.mkv", pts=VFR, time_base=Fraction(1, 1000), audio="aac", tags={"title": "T"}
    )
    target = tmp_path / f"out{suffix}"
    result = quick(source, target, scale=2)
    assert (result.frames, result.size) == (8, (128, 96))
    assert [t for t, _ in media.decoded(target)] == [Fraction(p, 1000) for p in VFR]
    before, after = (media.packets(p, "audio") for p in (source, target))
    assert [data for _, data in after] == [data for _, data in before]


def test_frames_from_the_iterator_equal_those_of_a_lossless_file(film, tmp_path):
    target = tmp_path / "out.mkv"
    quick(film, target, scale=3, sink=vsr.SinkOptions(encoder="ffv1"))
    with vsr.open_source(target) as written:
        frames = list(vsr.upscale_frames(film, scale=3, model="bicubic", device="cpu"))
        for ours, theirs in zip(frames, written, strict=True):
            assert abs(ours.seconds - theirs.seconds) <= Fraction(1, 1000)
            for p, q in zip(ours.planes, theirs.planes, strict=True):
                assert np.array_equal(p, q)


@pytest.mark.parametrize("scale", [2, 3, 4, 1.5, 6])
def test_the_embedded_model_beats_bicubic_on_line_art(scale, tmp_path):
    """A picture is reduced and brought back; the network must come closer than interpolation."""
    y, x = np.mgrid[0:192, 0:192]
    art = np.where(np.sin(np.hypot(x - 60, y - 80) / 6) > 0, 220, 40).astype(np.uint8)
    size = int(192 / scale)
    tensor = torch.from_numpy(art).float()[None, None] / 255
    small = vsr.resample.resize(tensor, size, size, "bicubic").clamp(0, 1)
    shot = (small[0, 0].numpy() * 255).round().astype(np.uint8)[..., None].repeat(3, 2)
    source = media.clip(tmp_path / "in.mkv", codec="ffv1", fmt="gray", frames=[shot] * 2)
    scores = {}
    for model in ("auto", "bicubic"):
        frames = list(
            vsr.upscale_frames(source, scale=Fraction(192, size), model=model, device="cpu")
        )
        assert frames[0].planes[0].shape == (192, 192)
        scores[model] = psnr(frames[1].planes[0], art, crop=8)
    assert scores["auto"] > scores["bicubic"] + (0.3 if scale <= 4 else 0)


def test_a_fractional_scale_and_a_height(film, tmp_path):
    assert quick(film, tmp_path / "a.mkv", scale=1.5).size == (96, 72)
    assert quick(film, tmp_path / "b.mkv", height=90).size == (120, 90)
    assert quick(film, tmp_path / "c.mkv", width=100, height=50).size == (100, 50)


def test_trimming_keeps_absolute_times(film, tmp_path):
    options = vsr.SourceOptions(start=Fraction(1, 10), end=Fraction(3, 10))
    result = quick(film, tmp_path / "out.mkv", options=options)
    times = [t for t, _ in media.decoded(tmp_path / "out.mkv")]
    assert times == [Fraction(n, 25) for n in range(3, 8)]
    assert result.frames == 5


@pytest.mark.ffmpeg
def test_an_independent_program_agrees(film, tmp_path):
    target = tmp_path / "out.mkv"
    quick(film, target, scale=2)
    before, after = media.probe(film), media.probe(target)
    kinds = [s["codec_type"] for s in before["streams"]]
    assert [s["codec_type"] for s in after["streams"]] == kinds == ["video", "audio", "subtitle"]
    video = after["streams"][0]
    assert (video["width"], video["height"]) == (128, 96)
    assert int(video["nb_read_frames"]) == 10
    assert video["color_space"] == "smpte170m"
    assert after["format"]["tags"]["title"] == "A film"


def test_two_runs_give_the_same_bytes(film, tmp_path):
    for name in ("a.mkv", "b.mkv"):
        quick(film, tmp_path / name, model="auto")
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_refusals_leave_nothing(film, tmp_path):
    out = tmp_path / "out.mkv"
    with pytest.raises(SourceNotFoundError):
        quick(tmp_path / "none.mkv", out)
    with pytest.raises(UsageError, match="scale"):
        quick(film, out, scale=0)
    with pytest.raises(UsageError, match="scale"):
        quick(film, out, scale=17)
    with pytest.raises(UnknownModelError):
        quick(film, out, model="no-such-model")
    with pytest.raises(TypeError):
        quick(film, out, no_such_setting=1)
    assert list(tmp_path.iterdir()) == []
    out.write_bytes(b"precious")
    with pytest.raises(SinkExistsError):
        quick(film, out)
    assert out.read_bytes() == b"precious"


def test_a_failure_in_the_middle_leaves_nothing_and_no_thread(film, tmp_path, monkeypatch):
    out = tmp_path / "out.mkv"
    before = threading.enumerate()

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vsr.jobs.time.perf_counter", iter(range(10_000)).__next__)
    with pytest.raises(KeyboardInterrupt):
        vsr.upscale(film, out, model="bicubic", device="cpu", report=stop)
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t not in before]


def test_hdr_is_named_once(tmp_path, caplog):
    source = media.clip(
        tmp_path / "in.mkv",
        codec="libx265",
        fmt="yuv420p10le",
        color=(9, 9, 16),
        options={"x265-params": "log-level=none"},
    )
    with caplog.at_level(logging.WARNING, "vsr"):
        vsr.upscale(source, tmp_path / "out.mkv", scale=2, device="cpu")
    assert sum("SDR" in r.message for r in caplog.records) == 1


def test_rgb_of_a_frame_is_near_ffmpegs(film):
    with vsr.open_source(film) as source:
        ours = [vsr.to_rgb(frame) for frame in source]
    for mine, (_, theirs) in zip(ours, media.decoded(film), strict=True):
        assert mine.shape == theirs.shape
        assert psnr(mine, theirs) > 30


def test_no_frames_at_all_is_refused(tmp_path):
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(b"not a film at all" * 100)
    with pytest.raises(UnsupportedSourceError):
        quick(bad, tmp_path / "out.mkv")


def test_sizes_are_meant_as_shown(tmp_path):
    """A phone's upright film is stored lying; 96 rows are 96 rows on the screen."""
    info = VideoInfo(
        width=64,
        height=48,
        format=PixelFormat(family="yuv", chroma_w=1, chroma_h=1),
        color=ColorSpec(),
        time_base=Fraction(1, 25),
        rotation=90,
    )
    job = vsr.UpscaleJob(source=tmp_path, target=tmp_path, height=128)
    assert stored_size(job, info) == (128, 96)
    assert stored_size(job, replace(info, rotation=0)) == (170, 128)


def test_an_output_that_is_not_right_gets_another_name(film, tmp_path, monkeypatch):
    from vsr.io.av_sink import AvSink

    lost = AvSink.write

    def forgetful(self, frame):
        if frame.pts:
            lost(self, frame)

    monkeypatch.setattr(AvSink, "write", forgetful)
    out = tmp_path / "out.mkv"
    with pytest.raises(VerificationError, match=r"out\.faulty\.mkv"):
        vsr.upscale(film, out, model="bicubic", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["out.faulty.mkv"]
    assert len(media.decoded(tmp_path / "out.faulty.mkv")) == len(media.decoded(film)) - 1


def test_a_network_that_changes_the_picture_is_only_told_of(film, tmp_path, caplog):
    from vsr.checkpoints import save_checkpoint
    from vsr.models.compact import Compact, CompactConfig

    config = CompactConfig(features=4, convs=1, scale=2)
    network = Compact(config)
    network.body[-1].bias.data.fill_(0.3)
    save_checkpoint(tmp_path / "light.safetensors", network.state_dict(), "compact", config)
    out = tmp_path / "out.mkv"
    with caplog.at_level(logging.WARNING, "vsr"):
        vsr.upscale(film, out, model_path=tmp_path / "light.safetensors", device="cpu")
    assert out.exists()
    assert "changes what is seen" in caplog.text
