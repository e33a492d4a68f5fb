"""Passive stages composed by generators; `prefetch` is the only place where a host thread starts.

    frames  = prefetch(source, ...)             decode thread
    results = prefetch(process(frames), ...)    device thread
    for frame in results: sink.write(frame)     caller's thread encodes

A queue is bounded in items and in bytes, so memory does not depend on the length of the film. Each
remembers how long its two sides waited for each other; that tells which stage bounds the whole.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from vsr.types import Stage

_log = logging.getLogger(__name__)

_LIVELY = 1.0
"""Seconds after which one who waits for a thread looks whether it still lives."""


@dataclass(slots=True)
class Waits:
    """Seconds that the two sides of a queue have waited for each other."""

    put: float = 0.0
    get: float = 0.0


class Prefetch[T]:
    """Runs an iterable in its own thread, a bounded number of items ahead.

    An error of the iterable is raised to the consumer as itself, after the items before it; but a
    `SystemExit`, which would end the program as if all were well, becomes a `RuntimeError`.
    `close` stops the thread, which closes the iterator if it is a generator, and joins; leaving
    the `with` block does the same. A thread that waits for another `Prefetch` is freed by stopping
    that one first.

    Args:
        upstream: What to run; consumed by the new thread only.
        items: Most items waiting.
        size: Bytes of an item; with `most_bytes` a second bound. One item is always let through.
        most_bytes: Most bytes waiting.
        name: Of the thread.
    """

    def __init__(
        self,
        upstream: Iterable[T],
        *,
        items: int = 8,
        size: Callable[[T], int] | None = None,
        most_bytes: int = 1 << 30,
        name: str = "vsr-prefetch",
    ) -> None:
        self.waits = Waits()
        self._upstream = upstream
        self._items, self._size, self._most_bytes = items, size, most_bytes
        self._queue: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopped = self._finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            began = time.perf_counter()
            while not (self._queue or self._finished or self._stopped):
                if not self._changed.wait(_LIVELY) and not self._thread.is_alive():
                    self._finished = True
                    self._error = RuntimeError(f"the thread {self._thread.name} has died")
            self.waits.get += time.perf_counter() - began
            if self._stopped:
                raise StopIteration
            if self._queue:
                item, size = self._queue.popleft()
                self._bytes -= size
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is None:
            raise StopIteration
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: no cycle that would keep pictures alive

    def idle(self) -> bool:
        """Whether the consumer would have to wait for the next item, as far as is known now."""
        with self._changed:
            return not (self._queue or self._finished or self._stopped)

    def stop(self) -> None:
        """Ends the stream for both sides without waiting; the consumer sees its end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self, patience: float | None = None) -> None:
        """Stops the thread at its next item and waits for it; safe to call twice.

        Args:
            patience: Seconds to wait; then the thread is left to end with the process, as one must
                be that a system call holds. None waits for as long as it takes.
        """
        self.stop()
        self._thread.join(patience)
        if self._thread.is_alive():
            _log.debug("%s: still held by a system call", self._thread.name)
        self._queue.clear()
        error, self._error = self._error, None
        if error is not None:
            _log.debug("%s: nobody asked for this error", self._thread.name, exc_info=error)

    def _run(self) -> None:
        try:
            self._pump()
        except SystemExit as end:
            self._error = RuntimeError(f"{self._thread.name} was left by sys.exit({end.code!r})")
            self._error.__cause__ = end
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            self._error = error
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _pump(self) -> None:
        upstream = iter(self._upstream)
        try:
            for item in upstream:
                if not self._put(item):
                    break
        finally:
            if isinstance(upstream, Generator):
                upstream.close()

    def _put(self, item: T) -> bool:
        size = self._size(item) if self._size else 0
        with self._changed:
            began = time.perf_counter()
            while not self._stopped and self._queue and self._full(size):
                self._changed.wait()
            self.waits.put += time.perf_counter() - began
            if self._stopped:
                return False
            self._queue.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def _full(self, size: int) -> bool:
        return len(self._queue) >= self._items or self._bytes + size > self._most_bytes


def bottleneck(decoded: Waits, processed: Waits) -> Stage | None:
    """Names the stage for which the others waited.

    Args:
        decoded: Waits of the queue between decoder and device.
        processed: Waits of the queue between device and encoder.

    Returns:
        None while nobody has waited noticeably.
    """
    blame: dict[Stage, float] = {
        "decode": decoded.get,
        "device": min(decoded.put, processed.get) if decoded.put else processed.get - decoded.get,
        "encode": processed.put,
    }
    stage = max(blame, key=lambda key: blame[key])
    return stage if blame[stage] > 0.05 else None


def never() -> bool:
    """An `idle` for streams that always have a next item."""
    return False


def batched[T](
    items: Iterable[T],
    size: Callable[[], int],
    alike: Callable[[T], object],
    idle: Callable[[], bool] = never,
    weight: Callable[[T], float] = lambda _: 1,
) -> Iterator[list[T]]:
    """Groups consecutive items that are alike, until they weigh `size()`.

    A full group leaves at once, before the next item is asked for.

    Args:
        items: What to group.
        size: Asked before each group, so that it can shrink while running; at least 1.
        alike: Items with different values of this never share a group.
        idle: Asked after each item whether the next one has yet to come; an incomplete group then
            leaves too.
        weight: Of an item, above 0 and at most 1.
    """
    group: list[T] = []
    most, weighs = 1, 0.0
    for item in items:
        if group and alike(item) != alike(group[0]):
            yield group
            group = []
        if not group:
            most, weighs = size(), 0.0
        group.append(item)
        weighs += weight(item)
        if weighs >= most or idle():
            yield group
            group = []
    if group:
        yield group
