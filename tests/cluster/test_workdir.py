"""Bytes that travel through a shared place come whole, or are missed in one line."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import media
from tests.cluster.test_blind import BlindCrew, noise
from tests.cluster.test_parts import job_for, stopped
from vsr import jobs
from vsr.cli.main import run as vsr_command
from vsr.cluster import driver
from vsr.cluster.crew import Errand, Outcome
from vsr.cluster.workdir import WorkDir
from vsr.errors import SinkError, ToolError, UsageError
from vsr.io.journal import folder_of, read_journal
from vsr.parts import Done


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that all see."""
    found = tmp_path / "shared"
    found.mkdir()
    return found


@pytest.fixture(params=[True, False], ids=["seeing", "blind"])
def crew(request: pytest.FixtureRequest) -> Iterator[BlindCrew]:
    found = BlindCrew(seeing=request.param)
    yield found
    found.close()


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_segments_and_sources_travel_through_it(
    scheme: str, tmp_path: Path, shared: Path, crew: BlindCrew
) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=noise(30), rate=5, options={"g": "10"})
    whole = job_for(source, tmp_path / "whole.mkv", segment=10)
    jobs.run(whole)
    job = replace(whole, target=tmp_path / "out.mkv")
    fate, names = crew.fate, []

    def told(errand: Errand) -> Outcome:
        made = fate(errand)
        if isinstance(made, Done):
            assert not made.data, "nothing but its name travels with the answer"
            names.append(made.parcel)
        return made

    crew.fate = told  # type: ignore[method-assign]
    driver.run(job, crew, work_dir=f"{scheme}{shared}")
    assert job.target.read_bytes() == whole.target.read_bytes()
    assert len(set(names)) == 3
    assert all(load.parcel and not load.data for load in crew.sent)
    assert bool(crew.sent) is not crew.seeing
    assert not list(shared.iterdir()), "all is removed"


def test_what_a_dead_run_left_is_removed_by_the_next(tmp_path: Path, shared: Path) -> None:
    target = tmp_path / "movie.mkv"
    dead = WorkDir.begin(str(shared), target)
    old = dead.put(b"something", suffix=".packets")
    other = WorkDir.begin(str(shared), tmp_path / "other.mkv")
    kept = other.put(b"another's", suffix=".packets")
    after = WorkDir.begin(str(shared), target)
    with pytest.raises(SinkError, match="cannot be read"):
        after.take(old)
    assert other.take(kept) == b"another's"
    with pytest.raises(SinkError, match=r"does not see --work-dir .* as the driver does"):
        WorkDir(dead.place).put(b"late", suffix=".packets")
    after.remove()
    after.remove()
    other.remove()
    assert not list(shared.iterdir())


def test_what_is_changed_there_is_not_taken(shared: Path) -> None:
    work = WorkDir.begin(str(shared), Path("movie.mkv"))
    parcel = work.put(b"0123456789", suffix=".packets")
    (path,) = shared.rglob("*.packets")
    for data in (b"0123456780", b"0123", b""):
        path.write_bytes(data)
        with pytest.raises(SinkError, match=f"has {len(data)} bytes that are not the 10"):
            work.take(parcel)
    work.remove()


def test_a_node_that_sees_another_place_is_one_line_and_the_journal_is_kept(
    tmp_path: Path, shared: Path
) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=18, size=(32, 24))
    crew = BlindCrew(seeing=True)
    crew.backwards = False
    fate = crew.fate

    def elsewhere(errand: Errand) -> Outcome:
        if errand.part is not None and errand.part.number == 2:
            assert errand.place is not None
            errand = replace(errand, place=replace(errand.place, url=str(shared.parent)))
        return fate(errand)

    crew.fate = elsewhere  # type: ignore[method-assign]
    job = job_for(source, tmp_path / "out.mkv")
    with pytest.raises(SinkError, match="does not see --work-dir") as caught:
        driver.run(job, crew, work_dir=str(shared))
    assert "\n" not in str(caught.value)
    journal = read_journal(folder_of(job.target))
    assert journal is not None
    assert journal.frames == 10
    assert not list(shared.iterdir())
    crew.fate = fate  # type: ignore[method-assign]
    crew.packs.clear()
    assert driver.run(job, crew).begun == 10
    crew.close()
    whole = replace(job, target=tmp_path / "whole.mkv")
    jobs.run(whole)
    assert job.target.read_bytes() == whole.target.read_bytes()


def test_a_place_that_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(UsageError, match="--work-dir takes a path or a URL such as s3://"):
        WorkDir.begin("nosuch://there", target)
    with pytest.raises(SinkError, match="is no folder: make it where all nodes see it"):
        WorkDir.begin(str(tmp_path / "typo"), target)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="is no folder"):
        WorkDir.begin(str(tmp_path / "file"), target)
    import fsspec.core

    def missing(_: str) -> None:
        text = "Install s3fs to access S3"
        raise ImportError(text)

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ToolError, match=r"s3://b/p needs a driver, .*: Install s3fs to access S3"):
        WorkDir.begin("s3://b/p", target)


def test_a_place_that_refuses_is_one_line(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = WorkDir.begin("memory://refusing", Path("movie.mkv"))

    def refused(*_: Any, **__: Any) -> None:
        text = "An error occurred (403)\nof many lines"
        raise RuntimeError(text)

    monkeypatch.setattr(type(work._files), "pipe_file", refused)
    with pytest.raises(SinkError, match=r"cannot be written on \S+ \(An error occurred \(403\)\)"):
        work.put(b"data", suffix=".packets")
    full = WorkDir.begin(str(shared), Path("movie.mkv"))
    shutil.rmtree(next(shared.iterdir()))
    with pytest.raises(SinkError, match=r"cannot be written on .* \(No such file or directory\)"):
        full.put(b"data", suffix=".packets")


def test_without_a_cluster_it_means_nothing(
    film: Path, shared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = ["upscale", str(film), "-s", "2", "-n", "bicubic", "--work-dir", str(shared)]
    assert vsr_command([*asked, "-o", str(shared / "o.mkv")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "--work-dir is where a cluster's segments travel: give --cluster" in line


def test_a_job_that_is_stopped_leaves_nothing_there(
    tmp_path: Path, shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    source = media.clip(tmp_path / "in.mkv", frames=40, size=(32, 24))
    crew = BlindCrew(seeing=True)
    crew.backwards = False
    run = driver.run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "run", lambda *given: run(*given, work_dir=str(shared)))
        stopped(job_for(source, tmp_path / "out.mkv"), crew, 10)
    crew.close()
    assert "are kept" in caplog.text
    assert not list(shared.iterdir())
