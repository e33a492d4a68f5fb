"""A few threads beside the pipeline's: for work on single pictures, which libav does without GIL.

Results come in the order of the calls, and no more calls are taken than memory should hold.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, Self

_MOST_BYTES: Final = 1 << 30


class Workers[R]:
    """Runs calls on threads of its own.

    Args:
        count: Threads.
        name: Of the threads.
        most_bytes: Of the calls' arguments together, as `submit` is told; one call is always taken.
    """

    def __init__(self, count: int, name: str, most_bytes: int = _MOST_BYTES) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._count, self._most_bytes = count, most_bytes
        self._waiting: deque[tuple[Future[R], int]] = deque()
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._waiting)

    def full(self, size: int = 0) -> bool:
        """Whether a result should be taken before a call of that many bytes is submitted."""
        many = len(self._waiting) > self._count
        return many or (bool(self._waiting) and self._bytes + size > self._most_bytes)

    def submit(self, call: Callable[[], R], size: int = 0) -> None:
        """Adds a call that holds that many bytes."""
        self._waiting.append((self._pool.submit(call), size))
        self._bytes += size

    def take(self) -> R:
        """Waits for the result of the oldest call; raises what the call raised.

        Raises:
            RuntimeError: In the place of a `SystemExit`, which would end the program in silence.
        """
        future, size = self._waiting.popleft()
        self._bytes -= size
        try:
            return future.result()
        except SystemExit as end:
            msg = f"a call on a thread was left by sys.exit({end.code!r})"
            raise RuntimeError(msg) from end

    def close(self) -> None:
        """Waits for the calls that run and forgets the others; safe to call twice."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()


def ordered[T, R](
    function: Callable[[T], R], items: Iterable[T], count: int, name: str
) -> Iterator[R]:
    """Applies a function on several threads, a few items ahead; results in the items' order."""
    with Workers[R](count, name) as workers:
        for item in items:
            while len(workers) >= count:
                yield workers.take()
            workers.submit(partial(function, item))
        while len(workers):
            yield workers.take()
