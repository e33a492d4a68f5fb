"""Records what each thread and each GPU stream did when, for Perfetto and chrome://tracing.

The format is the JSON of Chrome's trace events: complete events ("X") in microseconds.
"""

import json
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

_MOST_EVENTS = 1_000_000
"""Some hours of film, some hundred megabytes; what comes later is left out and said to be."""


class Trace:
    """Spans of time on named tracks; any thread may add some."""

    def __init__(self) -> None:
        self._origin = time.perf_counter()
        self._events: list[tuple[str, str, float, float]] = []
        self._left_out = 0
        self._lock = threading.Lock()

    @contextmanager
    def span(self, name: str) -> Generator[None]:
        """Records how long the block takes, on the track of the running thread."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, began, time.perf_counter() - began, threading.current_thread().name)

    def add(self, name: str, began: float, seconds: float, track: str) -> None:
        """Records a span that is over.

        Args:
            name: What was done.
            began: By `time.perf_counter`.
            seconds: How long it took.
            track: Who did it.
        """
        with self._lock:
            if len(self._events) < _MOST_EVENTS:
                self._events.append((name, track, began - self._origin, seconds))
            else:
                self._left_out += 1

    def write(self, path: Path) -> None:
        """Writes what was recorded.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            events, left_out = list(self._events), self._left_out
        tracks = {track: number for number, track in enumerate(dict.fromkeys(e[1] for e in events))}
        named = [
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": track}}
            for track, number in tracks.items()
        ]
        spans = [
            {
                "ph": "X",
                "name": name,
                "pid": 1,
                "tid": tracks[track],
                "ts": round(began * 1e6, 1),
                "dur": round(seconds * 1e6, 1),
            }
            for name, track, began, seconds in events
        ]
        content = {"traceEvents": [*named, *spans], "otherData": {"spans left out": left_out}}
        path.write_text(json.dumps(content), encoding="utf-8")


def spanned(trace: Trace | None, name: str) -> AbstractContextManager[None]:
    """A span of the trace, or nothing where none is recorded."""
    return nullcontext() if trace is None else trace.span(name)


def each_spanned[T](items: Iterable[T], trace: Trace | None, name: str) -> Iterator[T]:
    """Records how long it takes to get each item."""
    upstream = iter(items)
    while True:
        try:
            with spanned(trace, name):
                item = next(upstream)
        except StopIteration:
            return
        yield item
