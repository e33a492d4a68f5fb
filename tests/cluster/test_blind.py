"""Machines that do not see the source get what they need of it, and make the same bytes."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vsr
from tests import media
from tests.cluster.test_parts import InlineCrew, compared, in_time, job_for
from vsr import jobs
from vsr.cluster import copies, driver, shipping
from vsr.cluster.copies import Copies, Load, copy_of, digest_of
from vsr.cluster.crew import Errand, Lost, Outcome, Unseen
from vsr.cluster.likeness import likeness
from vsr.cluster.shipping import Shipping
from vsr.cluster.worker import Worker
from vsr.errors import SinkError, SourceError, SourceNotFoundError, VsrError
from vsr.io import extents
from vsr.io.folder import Stills
from vsr.io.journal import folder_of

BLOCK = 2048


class BlindCrew(InlineCrew):
    """Two workers that see nothing of what the driver sees, unless they may; all is brought."""

    def __init__(self, *, seeing: bool = False) -> None:
        super().__init__()
        self.seeing = seeing
        self.shipping = Shipping()
        self.sent: list[Load] = []
        self.unseen = 0
        self.workers_of = {name: Worker("cpu", f"test-{os.getpid()}-{name}") for name in "ab"}
        self._turns = 0

    def fate(self, errand: Errand) -> Outcome:
        self._turns += 1
        name = "ab"[self._turns % 2]
        try:
            return self._told(errand, name)
        except VsrError as error:
            return error

    def _told(self, errand: Errand, name: str) -> Outcome:
        worker, blind = self.workers_of[name], replace(errand, likeness="another file")
        if self.seeing:
            (outcome,) = worker.run([errand], self._models.__getitem__)
            return outcome
        if errand.part is not None and not self.shipping.blind(name, errand):
            (outcome,) = worker.run([blind], self._models.__getitem__)
            assert isinstance(outcome, Unseen)
            self.unseen += 1
            self.shipping.learn(name, errand)
        while not self.shipping.blind(name, errand) or not self.shipping.complete(name, errand):
            if errand.part is None:
                break
            load = self.shipping.load(name, errand)
            assert load is not None
            self.sent.append(load)
            assert worker.receive(load) is None
            self.shipping.arrived(name, errand.film, load)
        if errand.part is not None:
            blind = self.shipping.addressed(blind)
        (outcome,) = worker.run([blind], self._models.__getitem__)
        if errand.part is not None:
            self.made.append(errand.part.number)
            self.outcomes.append(outcome)
        return outcome

    def forget(self, film: int) -> None:
        for name in self.shipping.forget(film):
            self.workers_of[name].forget(copies.Copy(folder=str(film), suffixes=()))

    def close(self) -> None:
        for worker in self.workers_of.values():
            worker.close()


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlindCrew]:
    monkeypatch.setattr(shipping, "BLOCK", BLOCK)
    monkeypatch.setattr(extents, "_AHEAD", 24)
    found = BlindCrew()
    yield found
    found.close()
    assert not list(copies.Path(copies.tempfile.gettempdir()).glob(f"*test-{os.getpid()}-*"))


def noise(frames: int, size: tuple[int, int] = (48, 32)) -> list[Any]:
    """Pictures that stay large, however well they are compressed."""
    random = np.random.default_rng(3)
    return [random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8) for _ in range(frames)]


def bytes_sent(crew: BlindCrew) -> int:
    return sum(length for load in crew.sent for _, length in load.pieces)


LATE: dict[str, dict[str, Any]] = {
    "mkv": {"options": {"g": "10", "bf": "2"}},
    "mp4": {"options": {"g": "10", "bf": "3"}, "audio": "aac", "audio_seconds": 40.0},
    "mov": {"options": {"g": "12"}, "muxing": {"movflags": "+faststart"}},
    "nut": {"codec": "ffv1", "options": {"g": "5"}},
    "webm": {"codec": "libvpx-vp9", "options": {"g": "10"}, "color": (1, 1, 1)},
    "hevc.mp4": {
        # x265 writes beyond its memory where a smaller picture is noise
        "frames": noise(200, (96, 64)),
        "codec": "libx265",
        "options": {"x265-params": "log-level=0:keyint=8"},
    },
}


@pytest.mark.parametrize("suffix", LATE)
def test_a_late_excerpt_travels_in_pieces(suffix: str, tmp_path: Path, crew: BlindCrew) -> None:
    given = {"frames": noise(200), "rate": 5} | LATE[suffix]
    source = media.clip(tmp_path / f"in.{suffix}", **given)
    options = vsr.SourceOptions(start=Fraction(24))
    compared(job_for(source, tmp_path / "out.mkv", segment=40, options=options), crew)
    assert in_time(crew.outcomes)
    assert crew.unseen == 2, "each machine once"
    assert bytes_sent(crew) < 2 * source.stat().st_size, "a part of it is never needed"


def test_a_whole_film_is_brought_once_to_each(tmp_path: Path, crew: BlindCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=noise(100), rate=5, options={"g": "10"})
    compared(job_for(source, tmp_path / "out.mkv", segment=10), crew)
    assert in_time(crew.outcomes)
    assert len(crew.made) == 10
    for name in "ab":
        pieces = [(load.number, at) for load in crew.sent for at, _ in load.pieces]
        assert pieces, name
    assert bytes_sent(crew) <= 2 * source.stat().st_size


@pytest.mark.parametrize("kind", ["ts", "fields", "damaged"])
def test_where_frames_are_counted_all_is_brought(
    kind: str, tmp_path: Path, crew: BlindCrew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "_LOAD", 3 * BLOCK)
    more = {"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}} if kind == "fields" else {}
    suffix = "ts" if kind == "ts" else "mkv"
    source = media.clip(tmp_path / f"in.{suffix}", frames=noise(30), rate=5, **more)
    if kind == "damaged":
        data = bytearray(source.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 60] = bytes(60)
        source.write_bytes(data)
    compared(job_for(source, tmp_path / "out.mkv", segment=8), crew)
    assert len(crew.sent) > 4, "in small messages"


def test_an_error_names_the_source_as_the_user_does(tmp_path: Path, crew: BlindCrew) -> None:
    parts = [
        media.clip(tmp_path / f"{width}.h264", frames=12, size=(width, 32)) for width in (48, 64)
    ]
    source = tmp_path / "in.h264"
    source.write_bytes(b"".join(path.read_bytes() for path in parts))
    told = []
    for run in (jobs.run, lambda job: driver.run(job, crew)):
        with pytest.raises(SourceError, match="the picture changes from 48x32") as caught:
            run(job_for(source, tmp_path / "out.mkv"))
        told.append(str(caught.value))
        shutil.rmtree(folder_of(tmp_path / "out.mkv"), ignore_errors=True)
    assert told[0] == told[1]
    assert str(source) in told[0]


def test_of_pictures_those_that_are_needed_are_brought(tmp_path: Path, crew: BlindCrew) -> None:
    from PIL import Image

    paths = []
    for number, shot in enumerate(media.pictures(9, (16, 12))):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(shot).save(paths[-1])
    stills = Stills(paths=tuple(paths), rate=Fraction(24), name="pictures")
    compared(job_for(stills, tmp_path / "out.mkv", segment=3), crew)
    brought = [load.number for load in crew.sent]
    assert sorted(brought) == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8], "the first one is each one's measure"


def test_a_copy_that_is_lost_is_brought_anew(tmp_path: Path, crew: BlindCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=noise(60), rate=5, options={"g": "10"})
    fate, lost = crew.fate, []

    def unlucky(errand: Errand) -> Outcome:
        if errand.part is not None and errand.part.number == 2 and not lost:
            lost.append(errand)
            for worker in crew.workers_of.values():
                worker.forget(copy_of(errand.film, source))
            found = fate(errand)
            assert isinstance(found, Unseen), "nothing but holes would be worse"
            for name in "ab":
                crew.shipping.learn(name, errand)
            return Lost(reason="its copy of the source is gone")
        return fate(errand)

    crew.fate = unlucky  # type: ignore[method-assign]
    compared(job_for(source, tmp_path / "out.mkv", segment=10), crew)
    assert lost


def test_a_source_that_is_gone_everywhere_is_one_line(tmp_path: Path, crew: BlindCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=noise(20), rate=5)
    crew.backwards = False

    def removed(_: object) -> None:
        source.unlink(missing_ok=True)

    with pytest.raises(SourceNotFoundError, match="is not there any more, and a node") as caught:
        driver.run(job_for(source, tmp_path / "out.mkv"), crew, removed)
    assert "\n" not in str(caught.value)


def test_a_source_that_shrinks_is_one_line(tmp_path: Path, crew: BlindCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=noise(20), rate=5)
    fate = crew.fate

    def cut(errand: Errand) -> Outcome:
        if errand.part is not None:
            crew.shipping.learn("a", errand)
            crew.shipping.learn("b", errand)
            crew.shipping.complete("a", errand)
            os.truncate(source, 3000)
        return fate(errand)

    crew.fate = cut  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="bytes, now it has 3000: wait"):
        driver.run(job_for(source, tmp_path / "out.mkv"), crew)


def test_another_file_of_that_name_is_not_taken(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(bytes(3 << 20))
    b.write_bytes(bytes(3 << 20))
    assert likeness([a]) == likeness([b])
    for at in (0, 1 << 20, (3 << 20) - 1):
        data = bytearray(3 << 20)
        data[at] = 1
        b.write_bytes(data)
        if at != 1 << 20:  # between two samples; then the frames tell
            assert likeness([a]) != likeness([b])
    b.write_bytes(bytes((3 << 20) + 1))
    assert likeness([a]) != likeness([b])
    with pytest.raises(FileNotFoundError):
        likeness([tmp_path / "c"])


def load_of(data: bytes, **more: Any) -> Load:
    given = {
        "copy": copy_of(1, Path("film.mkv")),
        "number": 0,
        "size": 100,
        "pieces": ((90, len(data)),),
        "digest": digest_of(data),
        "data": data,
    }
    return Load(**given | more)


def test_what_arrives_damaged_or_finds_no_room_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies.tempfile, "gettempdir", lambda: str(tmp_path))
    kept = Copies("one")
    with pytest.raises(SinkError, match="did not arrive as it was sent"):
        kept.receive(load_of(b"0123456789", digest=digest_of(b"another")))
    kept.receive(load_of(b"0123456789"))
    local = kept.local(Path("film.mkv"), copy_of(1, Path("film.mkv")))
    assert isinstance(local, Path)
    assert local.read_bytes() == bytes(90) + b"0123456789"
    kept.receive(load_of(b"abcde", pieces=((3, 2), (50, 3))))
    data = local.read_bytes()
    assert (data[:6], data[50:54], data[90:]) == (b"\0\0\0ab\0", b"cde\0", b"0123456789")
    with pytest.raises(SinkError, match=r"copy of the source cannot be written .* set TMPDIR"):
        kept.receive(load_of(b"0123456789", size=1 << 62))
    kept.close()
    assert not list(tmp_path.iterdir())


def test_what_dead_workers_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies.tempfile, "gettempdir", lambda: str(tmp_path))
    living, second = Copies("living"), Copies("living")
    living.receive(load_of(b"0123456789"))
    for name in ("dead", "young"):
        (tmp_path / f"vsr-source-{name}").mkdir()
    (tmp_path / "vsr-source-dead" / "1.lock").touch()
    second.receive(load_of(b"0123456789"))
    assert {path.name for path in tmp_path.iterdir()} == {
        "vsr-source-living",
        "vsr-source-young",
    }
    old = time.time() - 3600
    os.utime(tmp_path / "vsr-source-young", (old, old))
    copies.remove_stale()
    assert [path.name for path in tmp_path.iterdir()] == ["vsr-source-living"]


def test_a_crew_that_brings_nothing_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = media.clip(tmp_path / "in.mkv", frames=6, size=(32, 24))
    blind = InlineCrew()
    blind.fate = lambda errand: (  # type: ignore[method-assign]
        InlineCrew.fate(blind, errand) if errand.part is None else Unseen(host="n1")
    )
    with pytest.raises(SourceNotFoundError, match="node n1 does not see the source"):
        driver.run(job_for(source, tmp_path / "out.mkv"), blind)
