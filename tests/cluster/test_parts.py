"""Parts made by themselves, in any order, are those of a whole run, byte by byte."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import vsr
from tests import media
from vsr import jobs
from vsr.cluster import driver
from vsr.cluster.crew import Answer, Errand, Lost, Outcome, Way
from vsr.cluster.cutting import film_times
from vsr.engine.fingerprint import fingerprint
from vsr.errors import DeviceError, JournalError, SourceError, VsrError
from vsr.io.folder import Stills
from vsr.io.journal import folder_of, read_journal
from vsr.parts import Done, PartMaker, Unfit
from vsr.planning import UpscaleJob, prepare

UNEVEN = [0, 40, 81, 120, 160, 161, 240, 280, 500, 501, 540, 700, 741, 780, 820, 900, 1000, 1001]


class InlineCrew:
    """A crew in this process; `fate` may change what becomes of an errand."""

    def __init__(self, workers: int = 2, *, backwards: bool = True) -> None:
        self.workers, self.device = workers, "cpu (test)"
        self.packs: list[Sequence[Errand]] = []
        self.made: list[int] = []
        self.outcomes: list[Outcome] = []
        self._models: dict[str, Any] = {}
        self._makers: dict[int, PartMaker] = {}
        self.backwards = backwards

    def share(self, model: Any) -> str:
        name = fingerprint(model)
        self._models[name] = model
        return name

    def free(self) -> int:
        return 2 * self.workers - len(self.packs)

    def give(self, errands: Sequence[Errand]) -> None:
        assert len(self.packs) < 2 * self.workers
        self.packs.append(errands)

    def answers(self, seconds: float) -> list[Answer]:
        del seconds
        if not self.packs:
            return []
        pack = self.packs.pop(-1 if self.backwards else 0)
        return [Answer(errand=errand, outcome=self.fate(errand)) for errand in pack]

    def fate(self, errand: Errand) -> Outcome:
        maker = self._makers.get(errand.film)
        if maker is None:
            maker = self._makers[errand.film] = PartMaker(errand.recipe, self._models[errand.model])
        if errand.part is None:
            maker.ready({})
            return Way(way=maker.way)
        try:
            outcome = maker.make(errand.part, errand.way)
        except VsrError as error:
            return error
        self.made.append(errand.part.number)
        self.outcomes.append(outcome)
        return outcome

    def forget(self, film: int) -> None:
        if film in self._makers:
            self._makers.pop(film).close()

    def close(self) -> None:
        for maker in self._makers.values():
            maker.close()


@pytest.fixture
def crew() -> Iterator[InlineCrew]:
    found = InlineCrew()
    yield found
    found.close()


def job_for(source: Any, target: Path, **more: Any) -> UpscaleJob:
    given = {
        "model": "bicubic",
        "device": "cpu",
        "scale": 2,
        "segment": 5,
        "keep_after": 0,
        "verify": False,
    } | more
    return UpscaleJob(source=source, target=target, **given)


def compared(job: UpscaleJob, crew: InlineCrew) -> list[Outcome]:
    """Runs a job whole and in parts; the files must be equal."""
    whole = replace(job, target=job.target.with_stem("whole"))
    before = jobs.run(whole)
    after = driver.run(job, crew)
    assert job.target.read_bytes() == whole.target.read_bytes()
    assert (after.frames, after.size, after.damaged) == (before.frames, before.size, before.damaged)
    assert after.reused == before.reused
    assert not folder_of(job.target).exists()
    return crew.outcomes


def in_time(outcomes: Sequence[Outcome]) -> bool:
    """Whether all parts were found by their times."""
    return all(isinstance(one, Done) and (one.before or one.number == 0) for one in outcomes)


LONG = {"frames": 60, "size": (32, 24), "rate": 5}
"""Twelve seconds, so that late parts are sought."""
SOURCES: dict[str, dict[str, Any]] = {
    "b-frames": LONG | {"options": {"g": "12", "bf": "3", "x264-params": "b-pyramid=normal"}},
    "open": LONG | {"options": {"x264-params": "open-gop=1:keyint=10:bframes=3:scenecut=0"}},
    "refresh": LONG | {"options": {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}},
    "hevc": LONG | {"codec": "libx265", "options": {"x265-params": "log-level=0:keyint=8"}},
    "vp9": LONG | {"codec": "libvpx-vp9", "options": {"g": "10", "auto-alt-ref": "1"}},
    "ffv1": LONG | {"codec": "ffv1", "options": {"g": "7"}},
    "uneven": {
        "frames": media.pictures(18, (32, 24)),
        "pts": [9 * time for time in UNEVEN],
        "time_base": Fraction(1, 1000),
        "audio": "aac",
        "audio_seconds": 9.0,
        "options": {"g": "6", "bf": "2"},
    },
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_parts_in_any_order_give_the_bytes_of_a_whole_run(
    kind: str, suffix: str, tmp_path: Path, crew: InlineCrew
) -> None:
    source = media.clip(tmp_path / f"in.{suffix}", **SOURCES[kind])
    compared(job_for(source, tmp_path / "out.mkv"), crew)
    assert crew.made != sorted(crew.made), "the order of a whole run proves nothing"
    if kind != "refresh":
        assert in_time(crew.outcomes)


def test_an_excerpt_is_cut_as_by_one_machine(tmp_path: Path, crew: InlineCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", **SOURCES["b-frames"])
    options = vsr.SourceOptions(start=Fraction(61, 10), end=Fraction(11))
    compared(job_for(source, tmp_path / "out.mkv", options=options, segment=4), crew)
    assert in_time(crew.outcomes)


def test_pictures_are_found_by_their_numbers(tmp_path: Path, crew: InlineCrew) -> None:
    from PIL import Image

    paths = []
    for number, shot in enumerate(media.pictures(9, (16, 12))):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(shot).save(paths[-1])
    stills = Stills(paths=tuple(paths), rate=Fraction(24), name="pictures")
    compared(job_for(stills, tmp_path / "out.mkv", segment=4, device="auto"), crew)
    assert len(crew.made) == 3, "none was made again by counting"


def test_where_seeking_gives_other_pictures_frames_are_counted(
    tmp_path: Path, crew: InlineCrew, caplog: pytest.LogCaptureFixture
) -> None:
    """One picture before a late part is another one than its predecessor saw."""
    caplog.set_level(logging.INFO)
    source = media.clip(tmp_path / "in.mkv", **SOURCES["b-frames"])
    fate = crew.fate

    def other(errand: Errand) -> Outcome:
        made = fate(errand)
        if isinstance(made, Done) and made.before and made.number == 9:
            return replace(made, before="another", data=b"wrong", segment=made.segment)
        return made

    crew.fate = other  # type: ignore[method-assign]
    compared(job_for(source, tmp_path / "out.mkv"), crew)
    text = "seeking to segment 9 gave other pictures: frames are counted from the beginning"
    assert text in caplog.text
    late = [one for one in crew.outcomes if isinstance(one, Done) and not one.before]
    assert {one.number for one in late} >= {9, 10, 11}


COUNTED: dict[str, dict[str, Any]] = {
    "fields": {"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}},
    "untimed": {"suffix": "h264"},
    "stream": {"suffix": "ts"},
    "repeated": {"pts": [0, 1, 2, 2 + 1, 4, 5, 6, 7, 8, 9, 10, 11], "suffix": "avi"},
}


@pytest.mark.parametrize("kind", COUNTED)
def test_where_packets_do_not_tell_frames_are_counted(
    kind: str, tmp_path: Path, crew: InlineCrew
) -> None:
    more = dict(COUNTED[kind])
    source = media.clip(tmp_path / f"in.{more.pop('suffix', 'mkv')}", frames=12, **more)
    job = job_for(source, tmp_path / "out.mkv")
    from contextlib import ExitStack

    with ExitStack() as stack:
        assert film_times(job, prepare(job, stack)) is None
    compared(job, crew)
    assert all(isinstance(one, Done) and not one.before for one in crew.outcomes)


def test_a_damaged_film_is_concealed_as_by_one_machine(tmp_path: Path, crew: InlineCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", **LONG, options={"g": "10"})
    data = bytearray(source.read_bytes())
    at = len(data) * 3 // 4
    data[at : at + 40] = bytes(40)
    source.write_bytes(data)
    compared(job_for(source, tmp_path / "out.mkv"), crew)


def test_lost_work_is_done_again_and_in_the_end_refused(
    tmp_path: Path, crew: InlineCrew, caplog: pytest.LogCaptureFixture
) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=18, size=(32, 24))
    lost: list[Errand] = []
    fate = crew.fate

    def unlucky(errand: Errand) -> Outcome:
        number = -1 if errand.part is None else errand.part.number
        if number in (-1, 1, 2) and len(lost) < 5:
            lost.append(errand)
            return Lost(reason="the test")
        return fate(errand)

    crew.fate = unlucky  # type: ignore[method-assign]
    job = job_for(source, tmp_path / "out.mkv", segment=5)
    crew.backwards = False
    with pytest.raises(DeviceError, match=r"the start of .* ended its worker 4 times \(the test\)"):
        driver.run(job, crew)
    lost[:] = [*lost[:1], *lost[:1], *lost[:1]]
    jobs.run(replace(job, target=tmp_path / "whole.mkv"))
    driver.run(job, crew)
    assert job.target.read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert "its work is done again" in caplog.text
    crew.fate = lambda errand: (  # type: ignore[method-assign]
        Lost(reason="the test") if errand.part and errand.part.number == 2 else fate(errand)
    )
    again = replace(job, target=tmp_path / "again.mkv")
    with pytest.raises(DeviceError, match=r"segment 2 of .* 4 times"):
        driver.run(again, crew)
    journal = read_journal(folder_of(again.target))
    assert journal is not None
    assert journal.frames == 10
    crew.fate = fate  # type: ignore[method-assign]
    assert driver.run(again, crew).begun == 10
    assert again.target.read_bytes() == job.target.read_bytes()


def stopped(job: UpscaleJob, crew: InlineCrew, frames: int) -> None:
    """Runs a job whose user stops it when so many frames are done."""

    def report(progress: Any) -> None:
        if progress.frames >= frames:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.run(job, crew, report)
    crew.packs.clear()


def test_one_machine_and_a_cluster_go_on_with_each_other_s_jobs(
    tmp_path: Path, crew: InlineCrew
) -> None:
    source = media.clip(tmp_path / "in.mkv", **LONG)
    whole = job_for(source, tmp_path / "whole.mkv")
    jobs.run(whole)
    from contextlib import ExitStack

    from vsr.resuming import facts_of

    crew.backwards = False
    with ExitStack() as stack:
        prepared = prepare(replace(whole, target=tmp_path / "none.mkv"), stack)
        model = jobs.load(whole, prepared.factor, jobs.Fetching())
        crew.device = facts_of(whole, prepared, model)["the device"]
    job = replace(whole, target=tmp_path / "out.mkv")
    stopped(job, crew, 20)
    journal = read_journal(folder_of(job.target))
    assert journal is not None
    assert 0 < journal.frames < 60
    result = jobs.run(job)
    assert result.begun == journal.frames
    assert job.target.read_bytes() == whole.target.read_bytes()
    from tests.e2e.test_resume import interrupted

    other = replace(whole, target=tmp_path / "other.mkv")
    with pytest.MonkeyPatch.context() as patch:
        interrupted(other, 23, patch)
    assert driver.run(other, crew).begun == 20
    assert other.target.read_bytes() == whole.target.read_bytes()


def test_another_device_is_refused_by_name(tmp_path: Path, crew: InlineCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=18, size=(32, 24))
    job = job_for(source, tmp_path / "out.mkv")
    crew.backwards = False
    crew.device = "cpu (one) and cpu (two)"
    stopped(job, crew, 10)
    crew.device = "cpu (three)"
    with pytest.raises(JournalError, match="had the device cpu"):
        driver.run(job, crew)
    crew.device = "cpu (two)"
    driver.run(job, crew)


def test_when_a_part_changes_how_it_computes_later_ones_follow(
    tmp_path: Path, crew: InlineCrew
) -> None:
    """As in a whole run, where everything after an overflow is done in fp32."""
    source = media.clip(tmp_path / "in.mkv", frames=18, size=(32, 24))
    fate, ways = crew.fate, []

    def overflowing(errand: Errand) -> Outcome:
        ways.append((errand.part and errand.part.number, errand.way.get("precision")))
        if errand.part is None:
            return Way(way={**fate(errand).way, "precision": "bf16"})  # type: ignore[union-attr]
        made = fate(replace(errand, way={**errand.way, "precision": "fp32"}))
        assert isinstance(made, Done)
        after = "bf16" if errand.part.number == 0 else "fp32"
        return replace(
            made,
            begun=errand.way,
            way={**errand.way, "precision": errand.way["precision"] and after},
        )

    crew.fate = overflowing  # type: ignore[method-assign]
    driver.run(job_for(source, tmp_path / "out.mkv"), crew)
    assert ways[-2:] == [(3, "fp32"), (2, "fp32")]
    assert (3, "bf16") in ways, "it was made before, and again"


def test_many_films_of_which_one_is_none(tmp_path: Path, crew: InlineCrew) -> None:
    made = []
    for number in range(5):
        path = media.clip(tmp_path / f"{number}.mkv", frames=2 + number, size=(32, 24))
        made.append(job_for(path, tmp_path / f"out{number}.mkv", segment=6))
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(b"nothing")
    packs: list[int] = []
    give = crew.give

    def weighed(errands: Sequence[Errand]) -> None:
        packs.append(len(errands))
        give(errands)

    crew.give = weighed  # type: ignore[method-assign]
    told: list[Path] = []
    result = driver.run_all(
        [*made[:2], job_for(broken, tmp_path / "bad.mkv"), *made[2:]],
        crew,
        finished=lambda job, _: told.append(job.target),
    )
    assert list(result.failed) == [tmp_path / "bad.mkv"]
    assert isinstance(result.failed[tmp_path / "bad.mkv"], SourceError)
    assert set(told) == {*result.done, *result.failed}
    for job in made:
        whole = replace(job, target=job.target.with_stem(f"whole{job.target.stem}"))
        jobs.run(whole)
        assert job.target.read_bytes() == whole.target.read_bytes()


def test_a_part_that_does_not_fit_says_so(tmp_path: Path, crew: InlineCrew) -> None:
    source = media.clip(tmp_path / "in.mkv", **LONG)
    seen: list[Outcome] = []
    fate = crew.fate

    def lied(errand: Errand) -> Outcome:
        part = errand.part
        if part is not None and part.times and part.number == 3:
            part = replace(part, times=(*part.times[:2], part.times[2] + 1, *part.times[3:]))
        seen.append(fate(replace(errand, part=part)))
        return seen[-1]

    crew.fate = lied  # type: ignore[method-assign]
    compared(job_for(source, tmp_path / "out.mkv"), crew)
    assert any(isinstance(one, Unfit) for one in seen)
