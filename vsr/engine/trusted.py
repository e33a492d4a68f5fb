"""Fast ways to compute something beside a plain one, each used only where it proves itself.

The plain way is the reference. When a layout of inputs is first seen, the fast ways are compared
with it on several different pictures, since a graph that froze what it should compute is right on
the first; then all that passed are timed, and the fastest of them and the plain one stays. Whatever
a fast way raises, the plain way goes on. With a memory, what was found faster once is compared but
not timed again: the next run gives the same bits.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from vsr.engine.verdicts import Memory

_log = logging.getLogger(__name__)

type Inputs = tuple[Tensor, ...]
type Clock = Callable[[Callable[[], object]], float]
"""Seconds that one call takes on the device."""

_LEAST_GAIN = 0.99
"""Of the plain way's time: what is not faster than that is noise of the clock."""


class FastWay[R](Protocol):
    """A way to compute that holds memory."""

    def __call__(self, *inputs: Tensor) -> R:
        """Computes; the result may be overwritten by the next call."""
        ...

    def clear(self) -> None:
        """Gives it back; a later call takes it again."""
        ...


class Trusted[R]:
    """The fastest of several ways that give the plain one's result.

    Args:
        plain: The reference, and what is used where nothing is faster.
        fast: By name for people, the likely fastest first.
        difference: Compares (a fast result, the plain result): empty if they are equal within the
            tolerance, or what is wrong in a few words.
        samples: Makes inputs of the layout of those given.
        clock: Times a call; without one the first way that passes is taken.
        memory: Of what was the fastest; with one, layouts that come once are no exception, for
            which ones do depends on where a job began.
    """

    def __init__(
        self,
        plain: Callable[..., R],
        fast: Mapping[str, FastWay[R]],
        *,
        difference: Callable[[R, R], str],
        samples: Callable[[Inputs], Iterator[Inputs]],
        clock: Clock | None,
        memory: Memory | None = None,
    ) -> None:
        self._plain, self._fast = plain, dict(fast)
        self._difference, self._samples, self._clock = difference, samples, clock
        self._memory = memory
        self._chosen: dict[tuple[object, ...], Callable[..., R]] = {}
        self._once: set[tuple[object, ...]] = set()
        self.names: list[str] = []
        """What was chosen for each layout, in order of their coming; `plain` for the plain way."""

    def __call__(self, *inputs: Tensor) -> R:
        """Computes; the result may be overwritten by the next call."""
        key = tuple((x.shape, x.stride(), x.dtype, x.device) for x in inputs)
        if key not in self._chosen:
            once = self._memory is None and key not in self._once
            if self._chosen and once:  # the last batch of a film comes once
                self._once.add(key)
                return self._plain(*inputs)
            with self._memory.deciding if self._memory else nullcontext():
                name = self._recalled(inputs) or self._judged(inputs)
            self.names.append(name)
            self._chosen[key] = self._fast.get(name, self._plain)
        return self._chosen[key](*inputs)

    def _recalled(self, inputs: Inputs) -> str | None:
        """The name of the way that was the fastest before, None if nobody knows."""
        name = self._memory.recall(inputs) if self._memory else None
        if name in self._fast:
            return name if self._is_right(name, inputs) else "plain"
        return name if name == "plain" else None

    def _judged(self, inputs: Inputs) -> str:
        """The name of the fastest way that is right."""
        right = []
        for name in self._fast:
            if self._is_right(name, inputs):
                right.append(name)
                if self._clock is None:
                    return name
        if not right:
            return "plain"
        best = self._fastest(right, inputs)
        if self._memory:
            self._memory.keep(inputs, best)
        return best

    def _is_right(self, name: str, inputs: Inputs) -> bool:
        """Whether a way gives the plain one's result; says so and lets go of it if not."""
        wrong = self._wrong(self._fast[name], inputs)
        if wrong:
            self._fast[name].clear()
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            _log.warning("%s not used for %s: %s", name, shapes, wrong)
        return not wrong

    def _wrong(self, way: FastWay[R], inputs: Inputs) -> str:
        """What is wrong with a way, nothing if it is right."""
        try:
            for sample in self._samples(inputs):
                if wrong := self._difference(way(*sample), self._plain(*sample)):
                    return wrong
        except torch.OutOfMemoryError:
            return "it needs more memory than there is"
        except Exception as error:  # noqa: BLE001 - a compiler's, a driver's: the plain way is there
            reason = str(error).strip().partition("\n")[0]
            return f"it fails ({type(error).__name__}: {reason})"
        return ""

    def _fastest(self, right: list[str], inputs: Inputs) -> str:
        clock = self._clock
        if clock is None:
            return right[0]
        ways: dict[str, Callable[..., R]] = {name: self._fast[name] for name in right}
        times = {
            name: clock(lambda way=way: way(*inputs))  # type: ignore[misc]
            for name, way in (ways | {"plain": self._plain}).items()
        }
        best = min(right, key=times.__getitem__)
        if times[best] > _LEAST_GAIN * times["plain"]:
            best = "plain"
        for name in right:
            if name != best:
                self._fast[name].clear()
        shown = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in times.items())
        _log.info("taking %s of %s", best, shown)
        return best
