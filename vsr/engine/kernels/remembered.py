"""Blocks that were found the fastest, kept on disk for the next job on this device.

A search takes minutes, since every block is compiled, so that one is only made where somebody asked
for trials (`vsr bench`, `--tune full`); every other job takes what was found, or the default.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

from torch import Tensor

from vsr.engine.experience import Experience
from vsr.engine.kernels.conv3x3 import Block
from vsr.engine.kernels.tuning import Clock, Runner, inputs_of, key_of, on_device, tune

_EXPERIENCE: Final = Experience("blocks.json")
_SECONDS: ContextVar[float] = ContextVar("_SECONDS", default=0.0)


@contextmanager
def searching(seconds: float) -> Iterator[None]:
    """Lets `set_blocks` search, for so many seconds for each different convolution."""
    token = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(token)


def is_searching() -> bool:
    """Whether somebody asked for trials."""
    return _SECONDS.get() > 0


def set_blocks(runner: Runner, x: Tensor, clock: Clock = on_device) -> int:
    """Gives the convolutions of a runner the fastest known blocks for an input.

    Args:
        runner: Its convolutions' blocks are set; graphs must be captured afterwards.
        x: Of the shape and strides to come.
        clock: How a call is timed while searching.

    Returns:
        How many convolutions got a block that was found by trying, now or before.
    """
    known, found, count = _EXPERIENCE.read(), dict[str, Any](), 0
    seconds = _SECONDS.get()
    if not known and seconds <= 0:
        return 0
    for layer, seen in inputs_of(runner, x).items():
        name = f"triton {version('triton')}, {key_of(layer, seen)}"
        block = _block(known.get(name))
        if block is None and seconds > 0:
            block = tune(layer, seen, budget=seconds, clock=clock).block
            found[name] = asdict(block)
        if block is not None:
            layer.block = block
            count += 1
    if found:
        _EXPERIENCE.write(known | found)
    return count


def _block(facts: Any) -> Block | None:
    try:
        return None if facts is None else Block(**facts)
    except TypeError:
        return None  # of another version of vsr
