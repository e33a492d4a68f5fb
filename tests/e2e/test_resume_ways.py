"""A job whose engine picks among ways by their speed goes on to the same bytes.

The ways stand in for those of the engine `triton`: within a tolerance they are equal, in their
bytes they are not, and the clock finds another one the fastest in every process.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import vsr
from tests import media
from tests.e2e.test_resume import interrupted
from vsr import jobs
from vsr.engine import loading, verdicts
from vsr.engine.trusted import Trusted
from vsr.engine.verdicts import Verdicts
from vsr.io.journal import folder_of, read_journal
from vsr.models._base import InputSpec
from vsr.planning import UpscaleJob

OPEN = loading.open_network


class Way:
    """A network, brighter by a step or two of 8 bits."""

    def __init__(self, network: Any, own: float) -> None:
        self.network, self.own = network, own

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x) + self.own
        return y

    def clear(self) -> None:
        pass


class Timed:
    """An upscaler of three ways."""

    def __init__(self, network: Any, seconds: Iterator[float], *, remembers: bool) -> None:
        def clock(work: Callable[[], object]) -> float:
            work()
            return next(seconds)

        self.spec: InputSpec = network.spec
        self._ways = Trusted[Tensor](
            Way(network, 0.0),
            {"one": Way(network, 0.004), "two": Way(network, 0.008)},
            difference=lambda *_: "",
            samples=lambda inputs: iter([inputs]),
            clock=clock,
            memory=Verdicts(network="a stand-in") if remembers else None,
        )

    def __call__(self, x: Tensor, /) -> Tensor:
        return self._ways(x)


def process(monkeypatch: pytest.MonkeyPatch, *seconds: float, remembers: bool = True) -> None:
    """A new process, in which the ways take their time in this order."""
    monkeypatch.setattr(verdicts, "_here", {})
    monkeypatch.setattr(
        loading,
        "open_network",
        lambda *given: Timed(OPEN(*given), cycle(seconds), remembers=remembers),
    )


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("frame", [6, 11])
def test_the_same_way_is_gone_on_with(
    remembers: bool, frame: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments of five in batches of four: every other batch is a short one."""
    source = media.clip(tmp_path / "in.mkv", frames=media.pictures(13, (40, 26)))
    ffv1 = vsr.SinkOptions(encoder="ffv1")
    given: dict[str, Any] = {
        "source": source, "device": "cpu", "scale": 2, "segment": 5, "sink": ffv1,
        "precision": "fp32", "batch": 4, "keep_after": 0,
    }  # fmt: skip
    whole, broken = (UpscaleJob(target=tmp_path / f"{n}.mkv", **given) for n in ("a", "b"))
    for job in (whole, broken):
        monkeypatch.setenv("VSR_CACHE", str(tmp_path / f"cache of {job.target.stem}"))
        process(monkeypatch, 2.0, 1.0, 3.0, remembers=remembers)
        if job is whole:
            jobs.run(job)
        else:
            interrupted(job, frame, monkeypatch)
    journal = read_journal(folder_of(broken.target))
    assert journal is not None
    assert 0 < journal.frames < 13
    process(monkeypatch, 1.0, 2.0, 3.0, remembers=remembers)
    assert jobs.run(broken).begun == journal.frames
    assert (whole.target.read_bytes() == broken.target.read_bytes()) is remembers
