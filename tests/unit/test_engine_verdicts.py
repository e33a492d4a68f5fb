"""What was found the fastest is taken from then on: in other batches, processes and threads."""

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vsr.engine import verdicts
from vsr.engine.kernels.remembered import searching
from vsr.engine.trusted import Trusted
from vsr.engine.verdicts import Verdicts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    new_process(monkeypatch)
    return tmp_path / "cache"


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "_here", {})


class Way:
    """Adds one, and a little that is its own."""

    def __init__(self, own: float) -> None:
        self.own = own

    def __call__(self, x: Tensor) -> Tensor:
        return x + 1 + self.own

    def clear(self) -> None:
        pass


class Clock:
    """Seconds by the order of the ways; counts what it timed."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.timed = list(seconds), 0

    def __call__(self, work: Callable[[], object]) -> float:
        work()
        self.timed += 1
        return self.seconds[(self.timed - 1) % len(self.seconds)]


def trusted(clock: Clock | None, *, wrong: bool = False, **facts: object) -> Trusted[Tensor]:
    """Three ways that differ by a tenth, in the order: a, b, plain."""
    return Trusted(
        Way(0.0),
        {"a": Way(5.0 if wrong else 0.1), "b": Way(0.2)},
        difference=lambda x, y: "it is off" if (x - y).abs().max() > 0.5 else "",
        samples=lambda inputs: iter([inputs]),
        clock=clock,
        memory=Verdicts(**facts),
    )


def batch(count: int, side: int = 4) -> Tensor:
    return torch.zeros(count, 3, side, side)


@pytest.mark.parametrize(
    ("seconds", "name"), [((1, 2, 3), "a"), ((2, 1, 3), "b"), ((2, 2, 1), "plain")]
)
def test_another_process_takes_what_was_found_without_a_clock(
    seconds: tuple[float, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = trusted(Clock(*seconds))
    wanted = before(batch(4))
    assert before.names == [name]
    new_process(monkeypatch)
    clock = Clock(*seconds[::-1])
    after = trusted(clock)
    assert torch.equal(after(batch(4)), wanted)
    assert after.names == [name]
    assert clock.timed == 0


def test_a_short_batch_goes_the_same_way_wherever_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = trusted(Clock(2, 1, 3, 1, 2, 3))
    whole = [undisturbed(batch(count)) for count in (4, 4, 1, 4, 1)]
    assert all(torch.equal(y[0], whole[0][0]) for y in whole)
    new_process(monkeypatch)
    resumed = trusted(Clock(1, 2, 3))
    assert torch.equal(resumed(batch(1)), whole[-1])


def test_other_sizes_networks_and_versions_are_measured_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trusted(Clock(2, 1, 3), network=1)(batch(1))
    for facts, side in (({"network": 2}, 4), ({"network": 1}, 6)):
        clock = Clock(1, 2, 3)
        other = trusted(clock, **facts)
        other(batch(1, side))
        assert (other.names, clock.timed) == (["a"], 3)
    monkeypatch.setattr("vsr.engine.tuning._version", lambda _: "another")
    clock = Clock(1, 2, 3)
    trusted(clock, network=1)(batch(1))
    assert clock.timed == 3


def test_trials_measure_again_and_are_remembered() -> None:
    trusted(Clock(2, 1, 3))(batch(1))
    with searching(1.0):
        anew = trusted(Clock(1, 2, 3))
        anew(batch(1))
    assert anew.names == ["a"]
    after = trusted(Clock(2, 1, 3))
    after(batch(1))
    assert after.names == ["a"]


def test_a_remembered_way_still_has_to_be_right(caplog: pytest.LogCaptureFixture) -> None:
    trusted(Clock(1, 2, 3))(batch(1))
    broken = trusted(Clock(1, 2, 3), wrong=True)
    with caplog.at_level(logging.WARNING, "vsr"):
        assert torch.equal(broken(batch(1)), batch(1) + 1)
    assert [record.message for record in caplog.records] == [
        "a not used for (1, 3, 4, 4): it is off"
    ]
    assert broken.names == ["plain"]


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("no folder")
    trusted(Clock(2, 1, 3))(batch(1))
    again = trusted(Clock(1, 2, 3))
    again(batch(1))
    assert again.names == ["b"]  # as long as the process lives
    new_process(monkeypatch)
    anew = trusted(Clock(1, 2, 3))
    anew(batch(1))
    assert anew.names == ["a"]


def test_a_damaged_file_and_a_way_that_is_gone_are_measured_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted(Clock(2, 1, 3))(batch(1))
    path = cache / "ways.json"
    (key,) = json.loads(path.read_text())
    for content in ("{", json.dumps({key: 3}), json.dumps({key: "of long ago"})):
        path.write_text(content)
        new_process(monkeypatch)
        anew = trusted(Clock(1, 2, 3))
        anew(batch(1))
        assert anew.names == ["a"]


def test_of_two_threads_one_decides_for_both() -> None:
    begun, first = threading.Event(), trusted(None)

    def slow(work: Callable[[], object]) -> float:
        begun.set()
        work()
        threading.Event().wait(0.05)
        return next(seconds)

    seconds = iter((2.0, 1.0, 3.0))
    first._clock = slow
    clock = Clock(1, 2, 3)
    second = trusted(clock)
    one = threading.Thread(target=first, args=(batch(1),))
    one.start()
    assert begun.wait(10)
    second(batch(1))
    one.join()
    assert first.names == second.names == ["b"]
    assert clock.timed == 0
