"""Which of several ways was found the fastest, kept on disk for the next job on this machine.

The ways are equal within a tolerance but not in every bit, and a clock may find another one faster
next time. So that a job that goes on ends with the bytes of one that was not disturbed, and devices
of one kind give the same bytes, what was found once is taken from then on. It holds for batches of
every length, as the first one after an interruption may be short. `vsr bench` and `--tune full`
measure again. Where nothing can be written, it is remembered as long as the process lives.
"""

from threading import RLock
from typing import Final, Protocol

from torch import Tensor

from vsr.engine.devices import kind_of
from vsr.engine.experience import Experience
from vsr.engine.kernels.remembered import is_searching
from vsr.engine.tuning import key_for

_EXPERIENCE: Final = Experience("ways.json")
_MOST: Final = 500
_LOCK: Final = RLock()
_here: dict[tuple[str, str], str] = {}


class Memory(Protocol):
    """What remembers a decision between ways."""

    @property
    def deciding(self) -> RLock:
        """Held while one decides, so that others wait for the decision."""
        ...

    def recall(self, inputs: tuple[Tensor, ...]) -> str | None:
        """The name of the way for inputs of a size, None if it has to be found out."""
        ...

    def keep(self, inputs: tuple[Tensor, ...], name: str) -> None:
        """Notes what was found."""
        ...


class Verdicts:
    """The decisions about one network.

    Args:
        facts: What the speed of its ways depends on beside the device, the size of the inputs, and
            the versions that compute.
    """

    def __init__(self, **facts: object) -> None:
        self._facts = facts
        self.deciding = _LOCK

    def recall(self, inputs: tuple[Tensor, ...]) -> str | None:
        """The name of the way for inputs of a size, None if it has to be found out."""
        if is_searching():
            return None
        key = self._key(inputs)
        found = _here.get((str(_EXPERIENCE.path), key)) or _EXPERIENCE.read().get(key)
        return found if isinstance(found, str) else None

    def keep(self, inputs: tuple[Tensor, ...], name: str) -> None:
        """Notes what was found; a folder that cannot be written is no obstacle."""
        key = self._key(inputs)
        _here[str(_EXPERIENCE.path), key] = name
        known = _EXPERIENCE.read()
        known.pop(key, None)
        _EXPERIENCE.write(dict([*known.items(), (key, name)][-_MOST:]))

    def _key(self, inputs: tuple[Tensor, ...]) -> str:
        layouts = [(tuple(x.shape[1:]), str(x.dtype)) for x in inputs]
        return key_for(device=kind_of(inputs[0].device), layouts=layouts, **self._facts)
