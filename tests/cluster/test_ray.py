"""On two nodes of Ray, whose workers and nodes are killed, a job ends with one machine's bytes."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import media
from tests.cluster import small
from tests.cluster.test_blind import noise
from vsr import jobs
from vsr.cluster import driver, rays, shipping
from vsr.cluster.crew import Answer
from vsr.errors import DeviceError, SourceNotFoundError, UsageError
from vsr.io.journal import folder_of, read_journal
from vsr.planning import UpscaleJob
from vsr.types import Progress

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of sockets and processes at its end
]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head and a second node, each with one core."""
    with small.cluster(2) as found:
        yield found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty frames with predicted ones, of which late parts are sought."""
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    return media.clip(path, frames=60, size=(48, 32), rate=5, options={"g": "12", "bf": "2"})


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one machine makes of it."""
    target = tmp_path_factory.mktemp("whole") / "out.mkv"
    jobs.run(job_for(source, target))
    return target


@pytest.fixture(scope="module")
def crew(nodes: Any) -> Iterator[rays.RayCrew]:
    """One for all tests: who was killed is replaced."""
    found = rays.RayCrew(nodes.address, patience=300)
    yield found
    found.close()


def job_for(source: Path, target: Path, **more: Any) -> UpscaleJob:
    given = {"model": "bicubic", "scale": 2, "segment": 5, "keep_after": 0, "verify": False} | more
    return UpscaleJob(source=source, target=target, **given)


class Killer:
    """Does something once, when so many frames are done."""

    def __init__(self, at: int, deed: Callable[[], None]) -> None:
        self.at, self.deed, self.done = at, deed, False

    def __call__(self, progress: Progress) -> None:
        if not self.done and progress.frames >= self.at:
            self.done = True
            self.deed()


def slowed(crew: rays.RayCrew, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes one answer at a time, so that a death comes midway; gives the parts that came."""
    real, came = crew.answers, []

    def one(seconds: float) -> list[Answer]:
        found = real(seconds)
        came.extend(a.errand.part.number for a in found if a.errand.part is not None)
        return found

    monkeypatch.setattr(crew, "answers", one)
    return came


def pids(crew: rays.RayCrew) -> list[int]:
    return [
        crew._ray.get(hand.actor.__ray_call__.remote(lambda _: os.getpid()))
        for hand in crew._hands.values()
    ]


def test_a_node_of_another_version_is_refused(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the others, whose workers take all cores."""
    other = {**rays.own_versions(), "torch": "1.0"}
    monkeypatch.setattr(rays, "own_versions", lambda: other)
    with pytest.raises(DeviceError, match=r"node \S+ has torch .*, this machine has 1\.0"):
        rays.RayCrew(nodes.address, patience=300)


def test_a_device_that_no_node_has_is_one_line(nodes: Any) -> None:
    with pytest.raises(DeviceError, match="no node of the cluster has a GPU"):
        rays.RayCrew(nodes.address, device="cuda", patience=5)
    with pytest.raises(UsageError, match="one machine"):
        rays.RayCrew(nodes.address, device="cuda:1")


def test_both_workers_take_part_and_one_may_be_killed(
    crew: rays.RayCrew,
    source: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert (crew.workers, crew.free()) == (2, 4)
    victim = pids(crew)[0]
    came = slowed(crew, monkeypatch)
    killer = Killer(5, lambda: os.kill(victim, signal.SIGKILL))
    job = job_for(source, tmp_path / "out.mkv")
    result = driver.run(job, crew, killer)
    assert killer.done
    assert "a worker is gone" in caplog.text
    assert sorted(set(came)) == list(range(12))
    assert result.frames == 60
    assert job.target.read_bytes() == whole.read_bytes()


def test_a_driver_that_was_stopped_goes_on_where_it_was(
    crew: rays.RayCrew, source: Path, whole: Path, tmp_path: Path
) -> None:
    job = job_for(source, tmp_path / "out.mkv")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.run(job, crew, Killer(20, stop))
    journal = read_journal(folder_of(job.target))
    assert journal is not None
    result = driver.run(job, crew)
    assert result.begun == journal.frames
    assert job.target.read_bytes() == whole.read_bytes()


def test_a_source_that_nobody_sees_any_more_is_one_line(
    crew: rays.RayCrew, source: Path, tmp_path: Path
) -> None:
    own = tmp_path / "in.mkv"
    own.write_bytes(source.read_bytes())
    job = job_for(own, tmp_path / "out.mkv")
    with pytest.raises(SourceNotFoundError, match="not there any more, and a node") as caught:
        driver.run(job, crew, Killer(0, own.unlink))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pieces", "whole", "through a work dir", "killed"])
def test_nodes_that_do_not_see_the_source_are_brought_it(
    kind: str,
    crew: rays.RayCrew,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The path leads through this process's own folder, in which the workers are not."""
    suffix, frames = ("ts", 40) if kind == "whole" else ("mkv", 200)
    film = media.clip(tmp_path / f"in.{suffix}", frames=noise(frames), rate=5)
    whole = job_for(film, tmp_path / "whole.mkv", segment=20)
    jobs.run(whole)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipping, "BLOCK", 4096)
    monkeypatch.setattr(shipping, "_LOAD", 8 * 4096)
    unseen = Path(f"/proc/self/cwd/in.{suffix}")
    job = replace(whole, source=unseen, target=tmp_path / "out.mkv")
    shared = tmp_path / "shared"
    shared.mkdir()
    work_dir = str(shared) if "work dir" in kind else None
    victim = pids(crew)[0] if kind == "killed" else 0
    deed = (lambda: os.kill(victim, signal.SIGKILL)) if victim else (lambda: None)
    driver.run(job, crew, Killer(20, deed), work_dir=work_dir)
    assert job.target.read_bytes() == whole.target.read_bytes()
    assert "does not see the source of out.mkv: it gets what it needs from here" in caplog.text
    assert not list(shared.iterdir())
    assert not any(hand.held or hand.loads for hand in crew._hands.values())


def test_many_short_films_travel_together(
    crew: rays.RayCrew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = [media.clip(tmp_path / f"{number}.mkv", frames=3, size=(48, 32)) for number in range(4)]
    packs: list[int] = []
    give = crew.give
    monkeypatch.setattr(crew, "give", lambda errands: (packs.append(len(errands)), give(errands)))
    made = [job_for(film, tmp_path / f"out{film.name}", segment=12) for film in films]
    result = driver.run_all(made, crew)
    assert not result.failed
    assert max(packs) > 1
    for job in made:
        alone = replace(job, target=tmp_path / f"alone{job.source.name}")
        jobs.run(alone)
        assert job.target.read_bytes() == alone.target.read_bytes()


def test_a_node_may_be_lost(
    nodes: Any, crew: rays.RayCrew, source: Path, whole: Path, tmp_path: Path
) -> None:
    """The last test: the cluster has one node then."""
    second = next(iter(nodes.worker_nodes))
    killer = Killer(10, lambda: nodes.remove_node(second, allow_graceful=False))
    job = job_for(source, tmp_path / "out.mkv")
    driver.run(job, crew, killer)
    assert killer.done
    assert job.target.read_bytes() == whole.read_bytes()
    assert crew.workers == 1
