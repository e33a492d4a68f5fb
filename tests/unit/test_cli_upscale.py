"""`vsr upscale` and the reports of a running job, with a job that only pretends."""

import json
import logging
import sys
import time
from fractions import Fraction
from pathlib import Path

import click
import pytest

from vsr import jobs
from vsr.cli import progress as shown
from vsr.cli.main import run
from vsr.cli.pictures import RateType, WorkersType
from vsr.errors import EncoderError, SinkExistsError
from vsr.io.av_source import SourceOptions
from vsr.io.plan import SinkOptions
from vsr.planning import UpscaleJob
from vsr.types import Progress


def result_of(job, **changes):
    facts = {
        "frames": 30,
        "seconds": 2.0,
        "target": job.target,
        "size": (64, 48),
        "bottleneck": "device",
        "damaged": 0,
        "peak_host_bytes": 1 << 20,
        "precision": "fp32",
        "device": "cpu",
        "busy": {"decode": 0.1, "device": 0.99},
    }
    return jobs.JobResult(**facts | changes)


class Pretender:
    """Stands in for `jobs.run`: remembers the jobs and does what it was told."""

    def __init__(self):
        self.jobs = []
        self.failing = {}
        self.fetched = []

    def __call__(self, job, report=lambda _: None):
        self.jobs.append(job)
        for frames in (10, 30):
            report(Progress(frames=frames, total=30, seconds=frames / 15, size=(64, 48)))
        error = self.failing.get(str(job.source))
        if error is not None:
            raise error
        return result_of(job)


@pytest.fixture
def pretender(monkeypatch):
    pretender = Pretender()
    monkeypatch.setattr("vsr.jobs.run", pretender)
    monkeypatch.setattr(
        "vsr.cli.fetching.fetch_for",
        lambda name, scale, *, denoise: pretender.fetched.append((name, scale, denoise)),
    )
    logger = logging.getLogger("vsr")
    before = (logger.level, list(logger.handlers))
    yield pretender
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]
    logging.captureWarnings(capture=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4", "c.mp4", "photo.png"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(pretender, folder):  # noqa: ARG001 - the folder must be there
    """Runs `vsr upscale a.mp4` with options and gives the job."""

    def made(*options):
        assert run(["upscale", "a.mp4", *options]) == 0
        return pretender.jobs[-1]

    return made


def test_defaults(job):
    made = job("-s", "2")
    assert made == UpscaleJob(
        source=Path("a.mp4"),
        target=Path("a_x2.mkv"),
        scale=Fraction(2),
        options=SourceOptions(hwaccel="auto"),
        sink=SinkOptions(extra={}),
    )


@pytest.mark.parametrize(
    ("options", "scale"), [("", 4), ("-n bicubic", 4), ("-n realesrgan-x2plus", 2)]
)
def test_without_a_size_the_factor_is_the_models(job, options, scale):
    made = job(*options.split())
    assert (made.scale, made.target) == (scale, Path(f"a_x{scale}.mkv"))


def test_models_are_fetched_before_the_work(job, pretender):
    job("-n", "realesrgan-x4plus", "-s", "2", "-dn", "1")
    job("-n", "realesrgan-x4plus", "-s", "720p")
    job("-n", "realesrgan-x4plus", "--offline")
    assert pretender.fetched == [
        ("realesrgan-x4plus", 2, True),
        ("realesrgan-x4plus", None, False),
    ]


def test_an_address_stays_as_typed(pretender):
    assert run(["upscale", "--allow-url", "https://host/a/film.mp4?x=1#y", "-s", "2"]) == 0
    made = pretender.jobs[0]
    assert made.source == "https://host/a/film.mp4?x=1#y"
    assert made.target == Path("film_x2.mkv")


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("--outscale 1.5", "scale", Fraction(3, 2)),
        ("-s 1080p", "height", 1080),
        ("--width 640", "width", 640),
        ("-n realesrgan-x4plus", "model", "realesrgan-x4plus"),
        ("--model_name bicubic", "model", "bicubic"),
        ("-dn 0.5", "denoise", 0.5),
        ("--denoise_strength 1", "denoise", 1.0),
        ("-t 256", "tile", 256),
        ("--tile 0", "tile", 0),
        ("--tile_pad 10", "tile_pad", 10),
        ("-d cpu", "device", "cpu"),
        ("-g 0", "device", "cuda:0"),
        ("--gpu-id -1", "device", "cpu"),
        ("-d cuda:0,cuda:1,cpu", "device", "cuda:0,cuda:1,cpu"),
        ("-g 0,1", "device", "cuda:0,cuda:1"),
        ("-g 0,1 -d cuda:0,cuda:1", "device", "cuda:0,cuda:1"),
        ("--fp32", "precision", "fp32"),
        ("--half", "precision", "fp16"),
        ("--precision bf16", "precision", "bf16"),
        ("--batch 4", "batch", 4),
        ("-x", "tta", True),
        ("--color bt709", "color", "bt709"),
        ("--offline", "offline", True),
        ("-o out.mp4", "target", Path("out.mp4")),
        ("-f mp4", "target", Path("a_x4.mp4")),
        ("--suffix big", "target", Path("a_big.mkv")),
        ("--container mp4", "target", Path("a_x4.mp4")),
    ],
)
def test_options_reach_the_job(job, options, field, value):
    assert getattr(job(*options.split()), field) == value


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("--hwaccel none", "hwaccel", "none"),
        ("-a cuda", "hwaccel", "cuda"),
        ("--start 1:30.5", "start", Fraction(181, 2)),
        ("--end 00:00:02", "end", Fraction(2)),
        ("--deinterlace off", "deinterlace", "off"),
        ("--strict", "strict", True),
        ("--stream 1", "stream", 1),
        ("--allow_url", "allow_url", True),
    ],
)
def test_options_reach_the_source(job, options, field, value):
    assert getattr(job(*options.split()).options, field) == value


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ("-c x265", "encoder", "x265"),
        ("--codec x264", "encoder", "x264"),
        ("--crf 20", "crf", 20),
        ("--preset slow", "preset", "slow"),
        ("--pix_fmt yuv444p", "pix_fmt", "yuv444p"),
        ("-e tune=film -e g=30", "extra", {"tune": "film", "g": "30"}),
        ("-y", "overwrite", True),
        ("--no-audio", "audio", False),
        ("--no_subs", "subtitles", False),
        ("--audio-codec aac", "audio_codec", "aac"),
        ("--fragmented", "fragmented", True),
        ("--no-faststart", "faststart", False),
    ],
)
def test_options_reach_the_sink(job, options, field, value):
    assert getattr(job(*options.split()).sink, field) == value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-s 2 --width 640", "not both"),
        ("-s 0", "above 0"),
        ("-s 17", "at most 16"),
        ("-s nan", "nan"),
        ("-n 4", "-s is the scale"),
        ("-t realesrgan", "-n names the model"),
        ("-m models", "--model-path"),
        ("-p realesrgan", "-n"),
        ("--fps 24", "folders"),
        ("-j 1:2:2", "folders"),
        ("-dn 2", "2"),
        ("-g 0 -d cpu", "contradict"),
        ("--fp32 --half", "one precision"),
        ("--precision int4", "int4"),
        ("--model-path none.pth", "none.pth"),
        ("--model-path photo.png -n bicubic", "not both"),
        ("--start 5 --end 5", "after --start"),
        ("--end 0", "after --start"),
        ("--start soon", "soon"),
        ("-e tune", "key=value"),
        ("--no-audio --audio-codec aac", "contradict"),
        ("--crf 99", "99"),
        ("--batch 0", "0"),
        ("-o out.mkv -f mp4", "contradict"),
        ("--ext ../x", "suffix"),
        ("-o nowhere/", "does not exist"),
        ("--progress dots", "dots"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_options_are_refused_before_any_work(pretender, capsys, options, words):
    assert run(["upscale", "a.mp4", *options.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vsr: error: ")
    assert error.count("\n") == 1
    assert words in error
    assert not pretender.jobs


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("25.0", Fraction(25)),
        ("12.5", Fraction(25, 2)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("119.88", Fraction(120000, 1001)),
        ("23.9", Fraction(239, 10)),
        ("24000/1001", Fraction(24000, 1001)),
    ],
)
def test_rates_are_exact(text, rate):
    assert RateType().convert(text, None, None) == rate


@pytest.mark.parametrize("text", ["fast", "-24", "24/0", "1e3", "2000", "nan", "24:1"])
def test_what_is_no_rate(text):
    with pytest.raises(click.BadParameter):
        RateType().convert(text, None, None)


def test_workers_as_realesrgan_writes_them():
    assert WorkersType().convert("1:2:3", None, None) == (1, 3)
    assert WorkersType().convert("4:1,2,2:5", None, None) == (4, 5)
    for wrong in ("4", "0:1:1", "1:1", "a:b:c", "1:1:100"):
        with pytest.raises(click.BadParameter):
            WorkersType().convert(wrong, None, None)


@pytest.mark.usefixtures("folder")
def test_workers_go_with_a_video_that_becomes_pictures(pretender):
    assert run(["upscale", "a.mp4", "-o", "f%03d.png", "-j", "1:1:4", "--quality", "80"]) == 0
    made = pretender.jobs[0]
    assert (made.target, made.writers, made.quality) == (Path("f%03d.png"), 4, 80)


@pytest.mark.usefixtures("folder")
def test_one_picture_is_a_file_as_any_other(pretender):
    assert run(["upscale", "photo.png", "-s", "2"]) == 0
    assert (pretender.jobs[0].source, pretender.jobs[0].target) == (
        Path("photo.png"),
        Path("photo_x2.png"),
    )


@pytest.mark.usefixtures("folder")
def test_input_may_follow_i(pretender):
    assert run(["upscale", "-i", "a.mp4", "-s", "2", "-o", "out.mkv"]) == 0
    assert pretender.jobs[0].source == Path("a.mp4")


@pytest.mark.usefixtures("pretender", "folder")
def test_no_input_is_a_usage_error(capsys):
    assert run(["upscale", "-s", "2"]) == 2
    assert "no input" in capsys.readouterr().err


def test_pre_pad_is_accepted_and_explained(job, capsys):
    job("--pre_pad", "10")
    assert "vsr: warning: --pre-pad" in capsys.readouterr().err
    job("--pre_pad", "0")
    assert "warning" not in capsys.readouterr().err


def test_a_pattern_is_expanded_into_a_folder(pretender, folder):
    (folder / "out").mkdir()
    assert run(["upscale", "*.mp4", "-s", "2", "-o", "out"]) == 0
    assert [job.target for job in pretender.jobs] == [Path(f"out/{name}_x2.mkv") for name in "abc"]


@pytest.mark.usefixtures("folder")
def test_missing_input_is_refused_before_any_work(pretender, capsys):
    assert run(["upscale", "a.mp4", "none.mp4", "-s", "2"]) == 3
    assert not pretender.jobs
    assert capsys.readouterr().err == "vsr: error: no such file: none.mp4\n"


@pytest.mark.usefixtures("folder")
def test_a_failed_file_does_not_stop_the_others(pretender, capsys):
    pretender.failing = {"a.mp4": SinkExistsError("exists"), "b.mp4": RuntimeError("odd")}
    assert run(["upscale", "a.mp4", "b.mp4", "c.mp4", "-s", "2"]) == 4
    assert len(pretender.jobs) == 3
    error = capsys.readouterr().err
    assert "vsr: error: a.mp4: exists\n" in error
    assert "vsr: error: 2 of 3 files failed: a.mp4, b.mp4\n" in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("folder")
def test_the_only_file_fails_in_one_line(pretender, capsys):
    pretender.failing = {"a.mp4": EncoderError("no such preset 'x'")}
    assert run(["upscale", "a.mp4", "-s", "2"]) == 4
    assert capsys.readouterr().err == "vsr: error: no such preset 'x'\n"


def test_summary_unless_quiet(job, capsys):
    job("-s", "2")
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "vsr: a_x2.mkv: 30 frames of 64x48 in 0:02, 15.0 fps",
        (
            "vsr: busy: decode 10%, device 99%; device bounds it: a smaller model (-n) or a GPU "
            "would be faster"
        ),
    ]
    job("-s", "2", "-q")
    assert capsys.readouterr() == ("", "")


def test_json_is_one_object_per_line(job, capsys):
    job("-s", "2", "--progress", "json")
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["start", "progress", "progress", "done"]
    assert events[1] == {
        "event": "progress",
        "source": "a.mp4",
        "target": "a_x2.mkv",
        "frames": 10,
        "total": 30,
        "seconds": 0.667,
        "fps": 15.0,
        "eta": 1.3,
        "width": 64,
        "height": 48,
        "bottleneck": None,
    }
    assert events[3]["frames"] == 30
    assert err == ""


@pytest.mark.usefixtures("folder")
def test_json_says_what_failed(pretender, capsys):
    pretender.failing = {"a.mp4": EncoderError("no")}
    assert run(["upscale", "a.mp4", "--progress", "json"]) == 4
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["exit_code"], last["error"]) == ("failed", 4, "no")


def test_bar_shows_fps_eta_size_and_bottleneck(job, capsys):
    job("-s", "2", "--progress", "bar")
    drawn = capsys.readouterr().err
    assert "10/30" in drawn
    assert "15.0 fps, ETA 0:01, 64x48" in drawn
    *_, summary, verdict = drawn.splitlines()
    assert summary.startswith("vsr: a_x2.mkv: 30 frames")
    assert verdict.startswith("vsr: busy: decode 10%, device 99%; device bounds it:")


def test_lines_come_every_five_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines = shown.Lines()
    lines.start(Path("a.mp4"), Path("b.mkv"))
    for second in range(12):
        now[0] = float(second)
        lines.update(
            Progress(frames=second, total=None, seconds=second, size=(8, 6), bottleneck="encode")
        )
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "vsr: a.mp4: 5 frames, 1.0 fps, 8x6, bounded by encode"
    assert len(said) == 2


def test_durations():
    assert shown.clock(59.6) == "1:00"
    assert shown.clock(3725) == "1:02:05"


def test_a_reader_of_json_that_leaves_does_not_stop_the_work(monkeypatch):
    class Closed:
        def write(self, _text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    report = shown.Json()
    report.start(Path("a"), Path("b"))
    report.fail(1, "x")
