"""Records of cluster jobs, and encoders that are told how many threads to take."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests import media
from tests.cluster.test_parts import InlineCrew, job_for
from vsr import jobs
from vsr.cluster import driver
from vsr.cluster.crew import Errand, Outcome
from vsr.io import encoders
from vsr.io.encoders import Quality
from vsr.io.encoders._threads import DECIDES
from vsr.io.plan import SinkOptions
from vsr.manifest import Manifest
from vsr.planning import UpscaleJob, prepare
from vsr.reproducing import reproduce
from vsr.resuming import facts_of
from vsr.types import ColorSpec, VideoInfo


def device_of(job: UpscaleJob) -> str:
    """As a journal of one machine names it."""
    with ExitStack() as stack:
        prepared = prepare(replace(job, target=job.target.with_stem("none")), stack)
        model = jobs.load(job, prepared.factor, jobs.Fetching())
        return facts_of(job, prepared, model)["the device"]


def test_a_record_says_what_that_of_one_machine_says(tmp_path: Path) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=18, size=(32, 24))
    job = job_for(source, tmp_path / "out.mkv", manifest=tmp_path / "many.json")
    whole = replace(job, target=tmp_path / "whole.mkv", manifest=tmp_path / "one.json")
    jobs.run(whole)
    crew = InlineCrew()
    crew.device = device_of(job)
    driver.run(job, crew)
    crew.close()
    one, many = Manifest.load(tmp_path / "one.json"), Manifest.load(tmp_path / "many.json")
    for name in ("inputs", "model", "decided", "computed", "versions", "machine", "frames"):
        assert getattr(many, name) == getattr(one, name), name
    assert many.segments == one.segments
    assert len(many.segments) == 4
    assert many.output is not None
    assert one.output is not None
    assert many.output.sha256 == one.output.sha256
    assert many.job == replace(job, target=job.target.absolute())
    again = reproduce(tmp_path / "many.json")
    assert again.same
    assert not again.changes


def picture(width: int = 640, height: int = 368) -> VideoInfo:
    form = encoders.get("x264").formats[0]
    return VideoInfo(
        width=width, height=height, format=form, color=ColorSpec(), time_base=Fraction(1, 25)
    )


@contextmanager
def on_one_core() -> Iterator[None]:
    given = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(given)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, given)


UNEQUAL = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores, of which one can be taken away",
)


@UNEQUAL
def test_the_number_of_threads_is_that_of_this_machine() -> None:
    x264, vp9 = encoders.get("x264"), encoders.get("vp9")
    many = encoders.own_threads(x264, picture(), Quality())
    assert many is not None
    assert many >= 3
    with on_one_core():
        assert encoders.own_threads(x264, picture(), Quality()) == 1
        assert encoders.own_threads(vp9, picture(), Quality()) == 1
    asked = Quality(extra={"threads": "7"})
    assert encoders.own_threads(x264, picture(), asked) == 7
    pools = Quality(extra={"x265-params": "frame-threads=3"})
    assert encoders.own_threads(encoders.get("x265"), picture(), pools) == 3


def test_others_are_not_asked() -> None:
    for name in ("svtav1", "ffv1", "prores", "h264_nvenc"):
        assert encoders.get(name).codec not in DECIDES
        assert encoders.own_threads(encoders.get(name), picture(), Quality()) is None


@UNEQUAL
@pytest.mark.parametrize("encoder", ["x264", "x265", "svtav1", "vp9", "ffv1"])
def test_a_node_with_fewer_cores_makes_the_same_bytes(encoder: str, tmp_path: Path) -> None:
    source = media.clip(tmp_path / "in.mkv", frames=24, size=(160, 96))
    sink = SinkOptions(encoder=encoder)
    whole = job_for(source, tmp_path / "whole.mkv", segment=12, sink=sink)
    jobs.run(whole)
    crew, job = InlineCrew(), replace(whole, target=tmp_path / "out.mkv")
    fate = crew.fate

    def lesser(errand: Errand) -> Outcome:
        with on_one_core():
            return fate(errand)

    crew.fate = lesser  # type: ignore[method-assign]
    driver.run(job, crew)
    crew.close()
    assert job.target.read_bytes() == whole.target.read_bytes()
