"""Fast ways beside a plain one: what is taken, what is refused, and what is said."""

import logging
import re

import pytest
import torch

from vsr.engine.trusted import Trusted


class Way:
    """Adds a number; counts calls; may fail."""

    def __init__(self, plus=1, error=None):
        self.plus, self.error, self.calls, self.cleared = plus, error, 0, 0

    def __call__(self, x):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return x + self.plus

    def clear(self):
        self.cleared += 1


def trusted(plain, seconds=None, **fast):
    """With a clock that knows the seconds of each way, by what it adds."""
    ways = {"plain": plain} | fast

    def clock(work):
        before = {name: way.calls for name, way in ways.items()}
        work()
        return next(seconds[name] for name, way in ways.items() if way.calls > before[name])

    return Trusted(
        plain,
        {name.replace("_", " "): way for name, way in fast.items()},
        difference=lambda a, b: "" if torch.equal(a, b) else "it differs",
        samples=lambda inputs: iter([inputs, tuple(2 * x for x in inputs)]),
        clock=None if seconds is None else clock,
    )


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        ({"one": 1, "two": 2, "plain": 3}, "one"),
        ({"one": 2, "two": 1, "plain": 3}, "two"),
        ({"one": 2, "two": 2, "plain": 1}, "plain"),
        ({"one": 1, "two": 1, "plain": 1}, "plain"),
        (None, "one"),
    ],
)
def test_the_fastest_is_taken_and_the_others_give_their_memory_back(seconds, name):
    plain, one, two = Way(), Way(), Way()
    way = trusted(plain, seconds, one=one, two=two)
    x = torch.zeros(3)
    assert torch.equal(way(x), x + 1)
    assert way.names == [name]
    calls = {"one": one, "two": two, "plain": plain}
    before = {key: value.calls for key, value in calls.items()}
    way(x)
    assert {key for key, value in calls.items() if value.calls > before[key]} == {name}
    if seconds is not None:
        assert (one.cleared, two.cleared) == (name != "one", name != "two")


def test_what_differs_on_the_second_picture_is_refused(caplog):
    """As a graph that froze a value does."""

    class Frozen(Way):
        def __call__(self, x):
            self.calls += 1
            self.kept = getattr(self, "kept", None) if self.calls > 1 else x + 1
            return self.kept

    frozen, plain = Frozen(), Way()
    way, x = trusted(plain, fast_one=frozen), torch.ones(2)
    with caplog.at_level(logging.WARNING, "vsr"):
        assert torch.equal(way(x), x + 1)
        assert torch.equal(way(3 * x), 3 * x + 1)
    (record,) = caplog.records
    assert record.message == "fast one not used for (2,): it differs"
    assert frozen.calls == 2
    assert frozen.cleared == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "more memory than there is"),
        (RuntimeError("no kernel image\nmore"), r"fails \(RuntimeError: no kernel image\)$"),
        (KeyError("x"), "fails"),
    ],
)
def test_what_fails_is_refused_and_the_next_way_is_tried(caplog, error, said):
    way = trusted(Way(), one=Way(error=error), two=Way())
    with caplog.at_level(logging.WARNING, "vsr"):
        way(torch.ones(2))
    assert way.names == ["two"]
    (record,) = caplog.records
    assert re.search(said, record.message)


def test_stopping_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        trusted(Way(), one=Way(error=KeyboardInterrupt()))(torch.ones(2))


def test_errors_of_the_plain_way_are_its_own():
    plain = Way(error=torch.OutOfMemoryError("no"))
    with pytest.raises(torch.OutOfMemoryError):
        trusted(plain, one=Way())(torch.ones(2))


def test_another_layout_is_judged_when_it_comes_again():
    """The last batch of a film comes once."""
    plain, one = Way(), Way()
    way = trusted(plain, one=one)
    for count in (3, 3, 2, 3, 2, 2):
        way(torch.zeros(count))
    assert way.names == ["one", "one"]
    assert plain.calls == 2 + 1 + 2
    assert one.calls == 2 + 3 + 2 + 2
