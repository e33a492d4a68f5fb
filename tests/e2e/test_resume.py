"""Interrupted jobs go on, and end with the bytes of an undisturbed run."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vsr
from tests import media
from vsr import jobs
from vsr.cli.main import run as vsr_command
from vsr.errors import CancelledError, JournalError
from vsr.io.atomic import PartialFile
from vsr.io.folder import Stills
from vsr.io.journal import JobFolder, find_folders, folder_of, read_journal
from vsr.io.segments import SegmentWriter
from vsr.planning import UpscaleJob
from vsr.recording import from_plain, plain

TIMES = [0, 40, 81, 120, 160, 161, 240, 280, 500, 501, 540, 700, 741, 780, 820, 900, 1000, 1001]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen pictures at uneven times, with sound, a chapter and a title."""
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    shots = media.pictures(len(TIMES), (40, 26))
    return media.clip(
        path,
        frames=shots,
        pts=TIMES,
        time_base=Fraction(1, 1000),
        audio="aac",
        tags={"title": "T"},
    )


def job_for(source: Path, target: Path, **more: Any) -> UpscaleJob:
    given = {"model": "bicubic", "device": "cpu", "scale": 2, "segment": 5, "keep_after": 0} | more
    return UpscaleJob(source=source, target=target, **given)


def interrupted(job: UpscaleJob, frame: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a job that is stopped before a frame is written."""
    from vsr.io.av_sink import AvSink

    write, seen = AvSink.write, []

    def counted(self: AvSink, given: Any) -> None:
        seen.append(given)
        if len(seen) > frame:
            raise CancelledError
        write(self, given)

    with monkeypatch.context() as patched:
        patched.setattr(AvSink, "write", counted)
        with pytest.raises(CancelledError):
            jobs.run(job)


ENCODERS = [
    ("x264", "mkv", {}),
    ("x264", "mp4", {"preset": "veryslow"}),
    ("x265", "mkv", {"preset": "fast"}),
    ("svtav1", "mp4", {}),
    ("vp9", "webm", {}),
    ("ffv1", "mkv", {}),
    ("prores", "mov", {}),
]


@pytest.mark.parametrize(("encoder", "suffix", "more"), ENCODERS)
def test_an_interrupted_job_goes_on_to_the_same_bytes(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    encoder: str,
    suffix: str,
    more: dict[str, Any],
) -> None:
    options = vsr.SinkOptions(encoder=encoder, audio=suffix != "webm", **more)
    whole = job_for(source, tmp_path / f"whole.{suffix}", sink=options)
    jobs.run(whole)
    broken = replace(whole, target=tmp_path / f"broken.{suffix}")
    interrupted(broken, 12, monkeypatch)
    assert not broken.target.exists()
    assert "10 frames of" in caplog.text
    journal = read_journal(folder_of(broken.target))
    assert journal is not None
    assert (journal.frames, len(journal.segments)) == (10, 2)
    caplog.clear()
    result = jobs.run(broken)
    assert "10 frames are there already" in caplog.text
    assert (result.frames, result.begun) == (18, 10)
    assert broken.target.read_bytes() == whole.target.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"broken.{suffix}",
        f"whole.{suffix}",
    ]


def test_segments_change_nothing_that_is_seen(source: Path, tmp_path: Path) -> None:
    """Without loss the joined film is, picture by picture, that of one segment."""
    ffv1 = vsr.SinkOptions(encoder="ffv1")
    for name, segment in (("one", 500), ("many", 4)):
        jobs.run(job_for(source, tmp_path / f"{name}.mkv", sink=ffv1, segment=segment))
    one, many = (media.decoded(tmp_path / f"{name}.mkv") for name in ("one", "many"))
    assert [time for time, _ in many] == [Fraction(t, 1000) for t in TIMES]
    for (a, p), (b, q) in zip(one, many, strict=True):
        assert a == b
        assert (p == q).all()


def test_alpha_survives_the_journey_through_segments(tmp_path: Path) -> None:
    film = media.clip(tmp_path / "in.mkv", codec="ffv1", fmt="yuva420p", size=(32, 24))
    alphas = {}
    for segment in (500, 3):
        target = tmp_path / f"{segment}.webm"
        vp9 = vsr.SinkOptions(encoder="vp9", crf=10)
        jobs.run(job_for(film, target, sink=vp9, segment=segment))
        with vsr.open_source(target) as reader:
            assert reader.info.format.alpha
            alphas[segment] = np.stack([frame.planes[-1] for frame in reader]).astype(int)
    assert alphas[3].shape == alphas[500].shape
    assert np.abs(alphas[3] - alphas[500]).mean() < 2


def test_a_trimmed_job_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = vsr.SourceOptions(start=Fraction(1, 10), end=Fraction(95, 100))
    whole = job_for(source, tmp_path / "whole.mkv", options=options, segment=4)
    jobs.run(whole)
    broken = replace(whole, target=tmp_path / "broken.mkv")
    interrupted(broken, 9, monkeypatch)
    jobs.run(broken)
    assert broken.target.read_bytes() == whole.target.read_bytes()


def test_a_film_of_pictures_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    paths = []
    for number, shot in enumerate(media.pictures(9, (16, 12))):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(shot).save(paths[-1])
    stills = Stills(paths=tuple(paths), rate=Fraction(24), name="pictures")
    whole = UpscaleJob(
        source=stills,
        target=tmp_path / "whole.mkv",
        model="bicubic",
        scale=2,
        segment=4,
        keep_after=0,
    )
    jobs.run(whole)
    broken = replace(whole, target=tmp_path / "broken.mkv")
    interrupted(broken, 6, monkeypatch)
    assert jobs.run(broken).begun == 4
    assert broken.target.read_bytes() == whole.target.read_bytes()


CHANGES = [
    ({"scale": 3}, "the size"),
    ({"model": "lanczos"}, "the model"),
    ({"sink": vsr.SinkOptions(encoder="x264", crf=30)}, "the setting sink.crf"),
    ({"sink": vsr.SinkOptions(encoder="ffv1")}, "the encoder"),
    ({"color": "bt709"}, "the setting color"),
    ({"segment": 6}, "segments of"),
    ({"tile": 64}, "the setting tile"),
    ({"options": vsr.SourceOptions(end=Fraction(1))}, "the setting options.end"),
]


@pytest.mark.parametrize(("change", "name"), CHANGES, ids=[name for _, name in CHANGES])
def test_a_changed_job_is_refused_by_name(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    name: str,
) -> None:
    job = job_for(source, tmp_path / "out.mkv")
    interrupted(job, 6, monkeypatch)
    other = replace(job, **change)
    with pytest.raises(JournalError, match=rf"had {name}.*--restart"):
        jobs.run(other)
    assert jobs.run(replace(other, restart=True)).begun == 0


def test_a_changed_input_and_version_are_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "in.mkv"
    shutil.copy(source, film)
    job = job_for(film, tmp_path / "out.mkv")
    interrupted(job, 6, monkeypatch)
    data = bytearray(film.read_bytes())
    data[-1] ^= 1
    film.write_bytes(data)
    with pytest.raises(JournalError, match="had an input of"):
        jobs.run(job)
    shutil.copy(source, film)
    with monkeypatch.context() as patched:
        patched.setattr("vsr.resuming.metadata.version", lambda name: f"{name} 99")
        with pytest.raises(JournalError, match="the version of vsr"):
            jobs.run(job)
    assert jobs.run(job).begun == 5


def test_what_changes_no_byte_may_change(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(source, tmp_path / "out.mkv")
    interrupted(job, 6, monkeypatch)
    moved = tmp_path / "elsewhere.mkv"
    shutil.copy(source, moved)
    profile = tmp_path / "profile.json"
    assert jobs.run(replace(job, source=moved, profile=profile, verify=False)).begun == 5


# ---- power cuts: the disk as it was at every moment


class _Disk:
    """Copies a folder whenever something happens on it; what was not synced is torn."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self.folder, self.copies = folder, copies
        self.moments, self.watching = 0, True
        self.synced: dict[str, int] = {}

    def snap(self) -> None:
        if not self.watching:
            return
        for kind in ("kept", "torn"):
            copy = self.copies / f"{self.moments:03d}-{kind}"
            shutil.copytree(self.folder, copy)
            if kind == "torn":
                self._tear(copy)
        self.moments += 1

    def _tear(self, copy: Path) -> None:
        for path in copy.rglob("*"):
            if path.is_file() and path.suffix != ".part":
                size = path.stat().st_size
                safe = self.synced.get(str(path.relative_to(copy)), 0)
                if size > safe:
                    os.truncate(path, safe + (size - safe) // 2)

    def sync(self, fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_file() and path.is_relative_to(self.folder):
            self.synced[str(path.relative_to(self.folder))] = path.stat().st_size

    def moved(self, old: Path, new: Path) -> None:
        if not self.watching:
            return
        names = [str(path.relative_to(self.folder)) for path in (old, new)]
        self.synced[names[1]] = self.synced.get(names[0], 0)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Disk]:
    """The folder `work`, copied at every write, sync, rename and removal of a job."""
    (tmp_path / "work").mkdir()
    found = _Disk(tmp_path / "work", tmp_path / "copies")
    fsync, move, link, add = os.fsync, Path.replace, os.link, SegmentWriter.add

    def fsync_and_look(fd: int) -> None:
        found.snap()
        fsync(fd)
        found.sync(fd)
        found.snap()

    def move_and_look(self: Path, target: Path) -> Path:
        found.snap()
        moved = move(self, target)
        found.moved(self, Path(target))
        found.snap()
        return moved

    def link_and_look(old: Path, new: Path) -> None:
        link(old, new)
        found.moved(Path(old), Path(new))
        found.snap()

    def add_and_look(self: SegmentWriter, piece: Any) -> None:
        add(self, piece)
        if self.frames == 3:
            found.snap()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync_and_look)
        patched.setattr(Path, "replace", move_and_look)
        patched.setattr(os, "link", link_and_look)
        patched.setattr(SegmentWriter, "add", add_and_look)
        yield found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_after_a_power_cut_at_any_moment_the_job_ends_with_the_same_bytes(
    source: Path, tmp_path: Path, disk: _Disk
) -> None:
    job = job_for(source, disk.folder / "out.mkv", segment=7, verify=False)
    jobs.run(job)
    disk.snap()
    disk.watching = False
    whole = job.target.read_bytes()
    begun = set()
    assert disk.moments > 20
    for copy in sorted((tmp_path / "copies").iterdir()):
        target = copy / "out.mkv"
        if target.exists():
            assert target.read_bytes() == whole, copy.name
            continue
        begun.add(jobs.run(replace(job, target=target)).begun)
        assert target.read_bytes() == whole, copy.name
        assert [path.name for path in copy.iterdir()] == ["out.mkv"], copy.name
    assert begun == {0, 7, 14, 18}


_KILLED = """
import os, signal, sys
from vsr.io.folder import Stills
from vsr.io.journal import JobFolder
from vsr.cli.main import run
real = JobFolder.add
def add(self, segment):
    real(self, segment)
    if len(self.journal.segments) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
JobFolder.add = add
run(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_process_is_gone_on_with_by_the_same_command(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.mkv"
    command = ["upscale", str(source), "-s", "2", "--model", "bicubic", "--segment", "5"]
    command += ["--keep-after", "0"]
    script = [sys.executable, "-c", _KILLED, *command, "-o", str(target)]
    killed = subprocess.run(script, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    assert vsr_command(["jobs", "list", str(tmp_path)]) == 0
    assert "10 of" in capfd.readouterr().out
    assert vsr_command([*command, "-o", str(target)]) == 0
    assert "10 frames are there already" in capfd.readouterr().err
    assert vsr_command([*command, "-o", str(tmp_path / "whole.mkv")]) == 0
    assert target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()


# ---- vsr jobs


def test_jobs_are_listed_gone_on_with_and_removed(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "b"):
        interrupted(job_for(source, tmp_path / f"{name}.mkv"), 6, monkeypatch)
    assert vsr_command(["jobs", "list", str(tmp_path), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [(one["output"], one["frames"]) for one in told] == [
        (str(tmp_path / f"{name}.mkv"), 5) for name in ("a", "b")
    ]
    assert vsr_command(["jobs", "clean", str(tmp_path / "a.mkv")]) == 0
    assert [path.name for path in find_folders(tmp_path)] == [folder_of(tmp_path / "b.mkv").name]
    assert vsr_command(["jobs", "resume", str(tmp_path)]) == 0
    assert (tmp_path / "b.mkv").is_file()
    assert find_folders(tmp_path) == []
    capfd.readouterr()
    assert vsr_command(["jobs", "list", str(tmp_path)]) == 0
    assert "no unfinished jobs" in capfd.readouterr().err


def test_a_running_job_is_neither_removed_nor_run_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with JobFolder(tmp_path / "a.mkv", facts={}):
        assert vsr_command(["jobs", "clean", str(tmp_path)]) == 0
        assert "stays" in capfd.readouterr().err
        assert vsr_command(["jobs", "list", str(tmp_path)]) == 0
        assert "running" in capfd.readouterr().out
        assert folder_of(tmp_path / "a.mkv").is_dir()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", [["jobs", "clean"], ["jobs", "list", "nothing-here"]])
def test_jobs_without_a_place_are_one_line(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert vsr_command(arguments) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


# ---- recorded jobs


def test_a_recorded_job_comes_back_as_it_was(tmp_path: Path) -> None:
    recorded = [
        job_for(tmp_path / "a", tmp_path / "b", scale=Fraction(3, 2)),
        job_for(
            tmp_path / "a",
            tmp_path / "b",
            options=vsr.SourceOptions(start=Fraction(1, 3), strict=True),
            sink=vsr.SinkOptions(extra={"g": "12"}, preset="slow"),
            faces=vsr.FaceOptions(weight=0.5),
        ),
        replace(
            job_for(tmp_path / "a", tmp_path / "b"),
            source=Stills(paths=(tmp_path / "1.png",), rate=Fraction(24), name="x"),
        ),
    ]
    for job in recorded:
        assert from_plain(json.loads(json.dumps(plain(job)))) == job


@pytest.mark.parametrize("value", [{"kind": "os.system"}, {"kind": "UpscaleJob", "extra": 1}, {}])
def test_a_record_of_something_else_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(vsr.errors.UsageError):
        from_plain(value)


def test_a_full_disk_keeps_what_is_finished(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_for(source, tmp_path / "out.mkv")

    def full(self: PartialFile, _data: bytes) -> int:
        self.error = OSError(28, os.strerror(28))
        raise self.error

    with monkeypatch.context() as patched:
        patched.setattr(PartialFile, "write", full)
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(vsr.errors.SinkError, match="disk full"),
        ):
            jobs.run(job)
    assert "18 frames of" in caplog.text
    assert [path.suffix for path in tmp_path.iterdir()] == [".vsr-job"]
    assert jobs.run(job).begun == 18
