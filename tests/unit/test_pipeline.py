"""Threads that run ahead: order, errors, ends, bounds, waits; and the grouping of items."""

import gc
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.pipeline import Prefetch, Waits, batched, bottleneck

PATIENCE = 5.0


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before)


class BreakageError(Exception):
    pass


@given(st.lists(st.integers(), max_size=60), st.integers(1, 9))
def test_gives_every_item_once_and_in_order(numbers: list[int], ahead: int) -> None:
    with Prefetch(numbers, items=ahead) as stream:
        assert list(stream) == numbers
        assert list(stream) == []


def test_runs_in_its_own_named_thread() -> None:
    def upstream() -> Iterator[str]:
        yield threading.current_thread().name

    with Prefetch(upstream(), name="vsr-decode") as stream:
        assert list(stream) == ["vsr-decode"]


def test_an_error_comes_as_itself_after_the_items_before_it() -> None:
    error = BreakageError("at the third")

    def upstream() -> Iterator[int]:
        yield from (1, 2)
        raise error

    seen: list[int] = []
    with Prefetch(upstream()) as stream:
        until(lambda: stream._finished)
        with pytest.raises(BreakageError) as caught:
            seen.extend(stream)
        assert next(stream, None) is None, "an error is raised once, then the stream has ended"
    assert caught.value is error
    assert seen == [1, 2]
    assert "upstream" in [entry.name for entry in caught.traceback], (
        "the traceback shows its origin"
    )


@pytest.mark.parametrize("kind", [GeneratorExit, KeyboardInterrupt, MemoryError])
def test_no_kind_of_error_is_lost(kind: type[BaseException]) -> None:
    def upstream() -> Iterator[int]:
        yield 1
        raise kind

    with Prefetch(upstream()) as stream:
        assert next(stream) == 1
        with pytest.raises(kind):
            next(stream)


def test_an_iterable_that_cannot_even_start_raises_to_the_consumer() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            raise BreakageError

    with Prefetch(Broken()) as stream, pytest.raises(BreakageError):
        next(stream)


def test_an_error_of_the_measure_is_raised_too() -> None:
    def measure(_: int) -> int:
        raise BreakageError

    with Prefetch([1], size=measure) as stream, pytest.raises(BreakageError):
        next(stream)


def test_an_error_does_not_keep_the_consumer_alive() -> None:
    class Big:
        pass

    def upstream() -> Iterator[int]:
        raise BreakageError
        yield 1

    def consume() -> "weakref.ref[Big]":
        big = Big()
        try:
            next(Prefetch(upstream()))
        except BreakageError:
            return weakref.ref(big)
        pytest.fail("no error")

    gc.collect()
    gc.disable()
    try:
        assert consume()() is None, "a cycle of error, traceback and frame holds pictures"
    finally:
        gc.enable()


def test_runs_ahead_by_no_more_than_its_items() -> None:
    made = itertools.count()
    with Prefetch(made, items=3) as stream:
        until(lambda: len(stream._queue) == 3)
        time.sleep(0.02)
        assert next(made) == 4, "three wait in the queue and one in the thread's hand"
        assert next(stream) == 0


def test_runs_ahead_by_no_more_than_its_bytes() -> None:
    with Prefetch(itertools.count(), items=100, size=lambda _: 40, most_bytes=100) as stream:
        until(lambda: len(stream._queue) == 2)
        time.sleep(0.02)
        assert len(stream._queue) == 2
        assert stream._bytes == 80
        assert [next(stream) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_an_item_above_the_bound_passes_alone() -> None:
    with Prefetch([1, 2, 3], size=lambda _: 1000, most_bytes=10) as stream:
        until(lambda: len(stream._queue) == 1)
        assert list(stream) == [1, 2, 3]


def test_bytes_are_given_back() -> None:
    with Prefetch([5, 1, 9, 4] * 50, items=4, size=lambda n: n, most_bytes=12) as stream:
        assert sum(stream) == 950
        assert stream._bytes == 0


def test_close_frees_a_thread_that_waits_to_put() -> None:
    stream = Prefetch(itertools.count(), items=1)
    until(lambda: len(stream._queue) == 1)
    stream.close()
    assert not stream._thread.is_alive()
    assert list(stream) == []
    stream.close()


def test_close_waits_for_the_item_in_the_works() -> None:
    entered, leave = threading.Event(), threading.Event()

    def upstream() -> Iterator[int]:
        entered.set()
        leave.wait(PATIENCE)
        yield 1

    stream = Prefetch(upstream())
    entered.wait(PATIENCE)
    threading.Timer(0.05, leave.set).start()
    stream.close()
    assert leave.is_set()
    assert not stream._thread.is_alive()


def test_stop_frees_a_consumer_that_waits_to_get() -> None:
    leave = threading.Event()

    def upstream() -> Iterator[int]:
        leave.wait(PATIENCE)
        yield 1

    stream = Prefetch(upstream())
    got: list[int] = []
    consumer = threading.Thread(target=lambda: got.extend(stream))
    consumer.start()
    stream.stop()
    consumer.join(PATIENCE)
    assert not consumer.is_alive()
    assert got == []
    leave.set()
    stream.close()


def test_a_stopped_stream_ends_even_with_items_or_an_error_waiting() -> None:
    def upstream() -> Iterator[int]:
        yield from (1, 2, 3)
        raise BreakageError

    with Prefetch(upstream()) as stream:
        until(lambda: stream._finished)
        assert next(stream) == 1
        stream.stop()
        assert list(stream) == []


def test_an_error_that_nobody_asked_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def upstream() -> Iterator[int]:
        yield 1
        raise BreakageError

    caplog.set_level(logging.DEBUG, logger="vsr.pipeline")
    with Prefetch(upstream()) as stream:
        until(lambda: stream._finished)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is BreakageError


class Source:
    """Not a generator itself, but its iterator is one: as a frame source."""

    def __init__(self) -> None:
        self.closed_in = ""

    def __iter__(self) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            self.closed_in = threading.current_thread().name


@pytest.mark.parametrize("direct", [False, True])
def test_the_generator_is_closed_in_the_thread_that_ran_it(direct: bool) -> None:
    source = Source()
    with Prefetch(iter(source) if direct else source, name="theirs") as stream:
        assert next(stream) == 0
    assert source.closed_in == "theirs"


def test_an_error_of_closing_does_not_hide() -> None:
    def upstream() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise BreakageError

    with Prefetch(upstream()) as stream, pytest.raises(BreakageError):
        list(stream)


def test_a_consumer_that_fails_still_joins() -> None:
    def consume(stream: Prefetch[int]) -> None:
        with stream:
            for item in stream:
                if item == 3:
                    raise BreakageError

    stream = Prefetch(itertools.count(), items=2)
    with pytest.raises(BreakageError):
        consume(stream)
    assert not stream._thread.is_alive()


def test_two_in_a_row_pass_on_order_errors_and_the_end() -> None:
    def upstream() -> Iterator[int]:
        yield from range(50)
        raise BreakageError

    seen: list[int] = []
    with Prefetch(upstream(), items=2) as first:
        with Prefetch((2 * n for n in first), items=2) as second, pytest.raises(BreakageError):
            seen.extend(second)
        assert seen == list(range(0, 100, 2))


def test_stopping_the_first_frees_a_second_that_waits_for_it() -> None:
    leave = threading.Event()

    def upstream() -> Iterator[int]:
        yield 0
        leave.wait(PATIENCE)

    first = Prefetch(upstream())
    second = Prefetch(iter(first))
    assert next(second) == 0
    first.stop()
    second.close()
    leave.set()
    first.close()


def test_waits_tell_who_was_slow() -> None:
    def slow() -> Iterator[int]:
        for n in range(5):
            time.sleep(0.02)
            yield n

    with Prefetch(slow()) as stream:
        list(stream)
        assert stream.waits.get > 0.06
        assert stream.waits.put < 0.05
    with Prefetch(range(8), items=1) as stream:
        for _ in stream:
            time.sleep(0.02)
        assert stream.waits.put > 0.06
        assert stream.waits.get < 0.05


@pytest.mark.parametrize(
    ("decoded", "processed", "stage"),
    [
        (Waits(), Waits(), None),
        (Waits(put=0.01, get=0.01), Waits(put=0.02, get=0.03), None),
        (Waits(put=0.0, get=9.0), Waits(put=0.0, get=9.2), "decode"),
        (Waits(put=0.1, get=9.0), Waits(put=0.0, get=9.2), "decode"),
        (Waits(put=8.0, get=0.1), Waits(put=0.0, get=9.0), "device"),
        (Waits(put=0.0, get=0.1), Waits(put=0.0, get=3.0), "device"),
        (Waits(put=8.5, get=0.1), Waits(put=9.0, get=0.3), "encode"),
    ],
)
def test_the_stage_that_others_waited_for_is_named(
    decoded: Waits, processed: Waits, stage: str | None
) -> None:
    assert bottleneck(decoded, processed) == stage


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(1, 5))
def test_groups_are_alike_full_and_together_everything(kinds: list[int], most: int) -> None:
    items = list(enumerate(kinds))
    groups = list(batched(items, lambda: most, lambda item: item[1]))
    assert [item for group in groups for item in group] == items
    assert all(1 <= len(group) <= most for group in groups)
    assert all(len({kind for _, kind in group}) == 1 for group in groups)
    for group, following in itertools.pairwise(groups):
        assert len(group) == most or group[0][1] != following[0][1], "a group ended too early"


def test_a_group_that_is_full_leaves_before_the_next_item_is_needed() -> None:
    items = itertools.count(1)
    groups = batched(items, lambda: 2, lambda _: None)
    assert next(groups) == [1, 2]
    assert next(items) == 3


def test_the_size_of_groups_can_change_while_running() -> None:
    most = 4
    groups = batched(range(9), lambda: most, lambda _: None)
    assert next(groups) == [0, 1, 2, 3]
    most = 2
    assert next(groups) == [4, 5]
    most = 3
    assert list(groups) == [[6, 7, 8]]


def test_an_incomplete_group_leaves_where_the_next_item_has_yet_to_come():
    waits = iter([False, True, False, False, True])
    groups = list(batched(range(5), lambda: 3, lambda _: 0, lambda: next(waits)))
    assert groups == [[0, 1], [2, 3, 4]]


def test_idle_says_whether_the_consumer_would_have_to_wait():
    go = threading.Event()

    def slow():
        yield 1
        go.wait(10)
        yield 2

    with Prefetch(slow()) as items:
        assert next(items) == 1
        assert items.idle()
        go.set()
        assert next(items) == 2
        assert list(items) == []
        assert not items.idle()


def test_a_thread_that_a_system_call_holds_is_left_after_a_while():
    go = threading.Event()

    def stuck():
        yield 1
        go.wait(10)

    items = Prefetch(stuck())
    assert next(items) == 1
    began = time.monotonic()
    items.close(0.05)
    assert time.monotonic() - began < 5
    go.set()
    items.close()
