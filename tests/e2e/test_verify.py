"""Our own outputs are found right, and every deliberate fault in them is found."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import OutputContainer
from av.video.stream import VideoStream

from tests.media import clip, pictures
from vsr.cli.main import run
from vsr.cli.verify import Wrong
from vsr.jobs import run as run_job
from vsr.planning import UpscaleJob
from vsr.verification import Expected, Report, verify

VFR = [0, 40, 80, 100, 180, 220, 221, 300, 500, 540, 580, 660, 700, 740, 780, 820, 860, 900]
CUES = [(0.0, 0.1, "Hello"), (0.2, 0.36, "there")]
CHAPTERS = [("One", 0, 400), ("Two", 400, 940)]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What `forge` does to a file; nothing by default.

    `frames` takes and gives pairs of time and picture; `dropped` are packets by kind and number;
    times are in milliseconds.
    """

    frames: Callable[[list], list] = list
    dropped: Sequence[tuple[str, int]] = ()
    without: Sequence[str] = ()
    audio_late: int = 0
    late: int = 0
    matrix: int = 6
    full_range: bool = False
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    chapters: bool = True
    title: str = "A film"
    language: str = "eng"


NOTHING = Changes()


def forge(source: Path, target: Path, changes: Changes = NOTHING) -> Path:
    """Encodes the picture of a file anew and copies the rest, with changes."""
    with av.open(source) as file:
        frames = [(frame.pts, frame) for frame in file.decode(video=0)]
    with av.open(source) as file, av.open(target, "w", options={"fflags": "+bitexact"}) as made:
        encoded = _picture(made, file.streams.video[0].time_base, frames[0][1], changes)
        made.metadata["title"] = changes.title
        made.set_chapters(_chapters() if changes.chapters else [])
        copies = {}
        for stream in file.streams:
            if stream.type not in ("video", *changes.without):
                copy = made.add_stream_from_template(stream, opaque=True)
                copy.metadata["language"] = changes.language
                copy.time_base = stream.time_base
                copies[stream.index] = copy, stream.type
        counts = dict.fromkeys(copies, -1)
        for packet in file.demux():
            index = packet.stream.index
            if packet.size and index in copies:
                counts[index] += 1
                packet.stream, kind = copies[index]
                late = changes.late + (changes.audio_late if kind == "audio" else 0)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
                if (kind, counts[index]) not in changes.dropped:
                    made.mux(packet)
        for pts, frame in changes.frames(frames):
            fresh = frame.reformat(format="yuv420p")
            fresh.pts, fresh.time_base, fresh.pict_type = pts + changes.late, encoded.time_base, 0
            fresh.colorspace = fresh.color_primaries = fresh.color_trc = changes.matrix
            made.mux(encoded.encode(fresh))
        made.mux(encoded.encode())
    return target


def _picture(
    made: OutputContainer, tick: Fraction, first: av.VideoFrame, changes: Changes
) -> VideoStream:
    encoded = made.add_stream("libx264", rate=25, options={"crf": "10"})
    context = encoded.codec_context
    context.width, context.height, context.pix_fmt = first.width, first.height, "yuv420p"
    encoded.time_base = context.time_base = tick
    context.thread_count = 1
    context.colorspace = context.color_primaries = context.color_trc = changes.matrix
    context.color_range = 2 if changes.full_range else 1
    context.sample_aspect_ratio = changes.aspect
    if changes.rotation:
        encoded.set_display_rotation(changes.rotation)
    return encoded


def _chapters() -> list[dict]:
    return [
        {
            "id": number,
            "start": start,
            "end": end,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": title},
        }
        for number, (title, start, end) in enumerate(CHAPTERS)
    ]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of uneven times with sound, subtitles, chapters and tags."""
    folder = tmp_path_factory.mktemp("verify")
    plain = clip(
        folder / "plain.mkv",
        frames=pictures(len(VFR), (96, 64)),
        pts=VFR,
        time_base=Fraction(1, 1000),
        audio="aac",
        audio_seconds=0.94,
        subtitles=CUES,
    )
    return forge(plain, folder / "film.mkv")


def upscale(source: Path, output: Path, *options: str) -> Path:
    arguments = ["upscale", str(source), "-s", "2", "--model", "bicubic", "-q", "-o", str(output)]
    assert run([*arguments, *options]) == 0
    return output


@pytest.fixture(scope="module")
def good(film):
    # not by the command line, which sets up logging before the fixture that restores it
    job = UpscaleJob(source=film, target=film.with_name("good.mkv"), scale=2, model="bicubic")
    return run_job(job, lambda _: None).target


def told(report: Report) -> str:
    return "\n".join(f"{f.level} {f.check}: {f.text}" for f in report.findings)


def checks(report: Report) -> set[str]:
    return {finding.check for finding in report.faults}


# ---- no false alarms


@pytest.mark.parametrize("full", [False, True])
def test_an_output_is_right(film, good, full):
    report = verify(film, good, Expected(scale=Fraction(2), frames=len(VFR)), full=full)
    assert report.ok, told(report)
    assert not report.notes, told(report)
    looked_at = {finding.check for finding in report.findings}
    assert {"frames", "times", "audio packets", "audio times", "chapters", "colour"} <= looked_at


@pytest.mark.parametrize("full", [False, True])
def test_a_forgery_without_changes_is_right(film, good, tmp_path, full):
    report = verify(film, forge(good, tmp_path / "same.mkv"), full=full)
    assert report.ok, told(report)


@pytest.mark.parametrize(
    ("suffix", "options", "expected"),
    [
        ("mp4", [], Expected()),
        ("mov", [], Expected()),
        ("mkv", ["--no-audio"], Expected(audio=False)),
        ("mkv", ["--no-subs"], Expected(subtitles=False)),
        ("mkv", ["--audio-codec", "flac"], Expected(audio_codec="flac")),
        ("mkv", ["--audio-codec", "flac"], Expected()),
        ("webm", ["--audio-codec", "libopus"], Expected()),
        (
            "mkv",
            ["--start", "0.2", "--end", "0.7"],
            Expected(start=Fraction(1, 5), end=Fraction(7, 10)),
        ),
        ("mp4", ["--start", "0.2"], Expected(start=Fraction(1, 5))),
        ("mkv", ["--color", "bt709"], Expected(color="bt709")),
        ("mkv", ["-c", "ffv1"], Expected()),
    ],
)
def test_planned_changes_are_no_faults(film, tmp_path, suffix, options, expected):
    report = verify(film, upscale(film, tmp_path / f"out.{suffix}", *options), expected, full=True)
    assert report.ok, told(report)


def test_an_interlaced_film_has_one_frame_for_each(tmp_path):
    # 50 fields of a box that moves, woven
    shots = pictures(24, (96, 64))
    woven = [
        np.where(np.arange(64)[:, None, None] % 2, b, a)
        for a, b in zip(shots[::2], shots[1::2], strict=True)
    ]
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    source = clip(
        tmp_path / "woven.mkv", frames=[w.astype(np.uint8) for w in woven], options=options
    )
    report = verify(source, upscale(source, tmp_path / "out.mkv"), full=True)
    assert report.ok, told(report)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_turning_is_kept(film, tmp_path, rotation, suffix):
    source = forge(film, tmp_path / "turned.mkv", Changes(rotation=rotation))
    report = verify(source, upscale(source, tmp_path / f"out.{suffix}"), full=True)
    assert report.ok, told(report)


def test_a_source_that_is_damaged_itself_is_no_fault_of_the_output(film, tmp_path):
    source = tmp_path / "cut.mkv"
    data = film.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    report = verify(source, upscale(source, tmp_path / "out.mkv"), full=True)
    assert report.ok, told(report)
    assert "source" in {finding.check for finding in report.notes}


# ---- every fault is found


def doubled(frames):
    return [*frames[:7], (frames[7][0], frames[6][1]), *frames[8:]]


def swapped(frames):
    (t, a), (u, b) = frames[7:9]
    return [*frames[:7], (t, b), (u, a), *frames[9:]]


def flattened(frames):
    return [(40 * number, frame) for number, (_, frame) in enumerate(frames)]


def painted(indices, change):
    def paint(frames):
        made = []
        for number, (pts, frame) in enumerate(frames):
            if number in indices:
                planes = frame.to_ndarray(format="yuv420p")
                change(planes, frame.height)
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")  # noqa: PLW2901
            made.append((pts, frame))
        return made

    return paint


def blackened(planes, height):
    planes[:height], planes[height:] = 16, 128


def holed(planes, height):
    planes[height // 2 : height * 3 // 4, 40:90] = 0  # what a tile of NaN becomes


def dimmed(planes, height):
    planes[:height] -= planes[:height] // 12


def reconverted(frames):
    """BT.601 samples become BT.709 samples."""
    return [
        (pts, frame.reformat(format="yuv444p", src_colorspace=5, dst_colorspace=1))
        for pts, frame in frames
    ]


CHEAP = {
    "dropped": (Changes(frames=lambda f: f[:7] + f[8:]), "frames"),
    "cut off": (Changes(frames=lambda f: f[:-3]), "frames"),
    "too many": (Changes(frames=lambda f: [*f[:8], (f[7][0] + 10, f[7][1]), *f[8:]]), "frames"),
    "flattened": (Changes(frames=flattened), "times"),
    "one time off by a tick": (
        Changes(frames=lambda f: [*f[:7], (f[7][0] + 1, f[7][1]), *f[8:]]),
        "times",
    ),
    "all late": (Changes(late=40), "shift"),
    "sound late by 5 ms": (Changes(audio_late=5), "audio times"),
    "sound early by 5 ms": (Changes(audio_late=-5), "audio times"),
    "a packet of sound lost": (Changes(dropped=[("audio", 7)]), "audio packets"),
    "sound lost": (Changes(without=["audio"]), "audio streams"),
    "subtitles lost": (Changes(without=["subtitle"]), "subtitle streams"),
    "a subtitle lost": (Changes(dropped=[("subtitle", 0)]), "subtitle packets"),
    "chapters lost": (Changes(chapters=False), "chapters"),
    "title lost": (Changes(title="Another"), "file tags"),
    "language lost": (Changes(language="deu"), "language"),
    "retagged": (Changes(matrix=1), "colour tags"),
    "reconverted": (Changes(frames=reconverted), "colour"),
    "retagged and reconverted": (Changes(frames=reconverted, matrix=1), "colour tags"),
    "full range": (Changes(full_range=True), "colour"),
    "pixels of another shape": (Changes(aspect=Fraction(64, 45)), "pixel aspect"),
    "turned by 90": (Changes(rotation=90), "size"),
    "turned by 180": (Changes(rotation=180), "rotation"),
    "all black": (Changes(frames=painted(range(18), blackened)), "black"),
    "darker": (Changes(frames=painted(range(18), dimmed)), "luma"),
}
FULL = {
    "doubled": (Changes(frames=doubled), "order"),
    "swapped": (Changes(frames=swapped), "order"),
    "frozen": (
        Changes(frames=lambda f: [(t, f[min(k, 9)][1]) for k, (t, _) in enumerate(f)]),
        "frozen",
    ),
    "a black run": (Changes(frames=painted(range(5, 9), blackened)), "black"),
    "a hole": (Changes(frames=painted([11], holed)), "broken"),
}


@pytest.mark.parametrize("name", CHEAP)
def test_a_fault_is_found(name, film, good, tmp_path):
    changes, check = CHEAP[name]
    report = verify(film, forge(good, tmp_path / "bad.mkv", changes))
    assert check in checks(report), told(report)


@pytest.mark.parametrize("name", FULL)
def test_a_fault_in_pictures_is_found(name, film, good, tmp_path):
    changes, check = FULL[name]
    bad = forge(good, tmp_path / "bad.mkv", changes)
    report = verify(film, bad, full=True)
    assert check in checks(report), told(report)


def test_a_wrong_turn_is_found_by_the_pictures(film, tmp_path):
    source = forge(film, tmp_path / "turned.mkv", Changes(rotation=180))
    bad = forge(upscale(film, tmp_path / "upright.mkv"), tmp_path / "bad.mkv")
    report = verify(source, bad)
    assert not report.ok, told(report)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_truncated_file_is_found(film, tmp_path, share, suffix):
    whole = upscale(film, tmp_path / f"whole.{suffix}")
    data = whole.read_bytes()
    whole.write_bytes(data[: round(len(data) * share)])
    assert not verify(film, whole).ok


def test_another_size_than_asked_for_is_found(film, good):
    assert checks(verify(film, good, Expected(scale=Fraction(3)))) == {"size"}
    assert checks(verify(film, good, Expected(width=190))) == {"size"}
    assert verify(film, good, Expected(width=192, height=128)).ok


def test_fewer_frames_than_the_job_wrote_is_found(film, good):
    assert checks(verify(film, good, Expected(frames=19))) == {"frames"}


def test_sound_that_was_to_be_left_out_is_found(film, good):
    assert checks(verify(film, good, Expected(audio=False))) == {"audio streams"}


# ---- the command


def test_the_command_tells_and_exits(film, good, tmp_path, capsys):
    assert run(["verify", str(film), str(good)]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    bad = forge(good, tmp_path / "bad.mkv", Changes(audio_late=5))
    assert run(["verify", str(film), str(bad)]) == Wrong.exit_code
    said = capsys.readouterr()
    assert "FAULT" in said.out
    assert said.err.startswith("vsr: error: ")
    assert len(said.err.splitlines()) == 1


def test_the_command_prints_json(film, good, tmp_path, capsys):
    bad = forge(good, tmp_path / "bad.mkv", Changes(chapters=False))
    assert run(["verify", str(film), str(bad), "--json", "--full"]) == Wrong.exit_code
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["faults"] == 1
    found = {finding["check"]: finding for finding in answer["findings"]}
    assert found["chapters"]["level"] == "fault"
    assert found["chapters"]["details"] == {"source": 2, "output": 0}


def test_the_command_knows_what_was_asked_for(film, tmp_path):
    cut = upscale(film, tmp_path / "cut.mkv", "--start", "0.2", "--no-audio")
    assert run(["verify", str(film), str(cut), "-q"]) == Wrong.exit_code
    assert run(["verify", str(film), str(cut), "--start", "0.2", "--no-audio", "-q"]) == 0


def test_a_missing_source_is_no_fault_of_the_output(good):
    assert run(["verify", "missing.mkv", str(good)]) == 3
