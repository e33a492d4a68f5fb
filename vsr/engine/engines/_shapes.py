"""What is prepared once for a kind of input and used by several threads at a time."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock


class Prepared[K: Hashable, V]:
    """The most recent of what a function made, each made once.

    A second thread that asks for what is being made waits for it.

    Args:
        make: Makes a value for a key; takes long.
        keep: How many values are kept; pictures of many sizes must not fill the memory.
    """

    def __init__(self, make: Callable[[K], V], keep: int = 8) -> None:
        self._make, self._keep, self._lock = make, keep, Lock()
        self._values: OrderedDict[K, V] = OrderedDict()

    def __call__(self, key: K) -> V:
        """The value for a key."""
        with self._lock:
            if key not in self._values:
                self._values[key] = self._make(key)
                if len(self._values) > self._keep:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
            return self._values[key]


def lanes(threads: int, share: int) -> int:
    """Callers that compute side by side, if each has a share of the threads."""
    return max(1, threads // max(1, share))
