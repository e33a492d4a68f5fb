"""Blocks that were found the fastest, kept on disk for the next job on this device.

A search takes minutes, since every block is compiled, so that one is only made where somebody asked
for trials (`vsr bench`, `--tune full`); every other job takes what was found, or the default.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from vsr.checkpoints import cache_dir
from vsr.engine.kernels.conv3x3 import Block
from vsr.engine.kernels.tuning import Clock, Runner, inputs_of, key_of, on_device, tune

_log = logging.getLogger(__name__)

_SECONDS: ContextVar[float] = ContextVar("_SECONDS", default=0.0)


@contextmanager
def searching(seconds: float) -> Iterator[None]:
    """Lets `set_blocks` search, for so many seconds for each different convolution."""
    token = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(token)


def set_blocks(runner: Runner, x: Tensor, clock: Clock = on_device) -> int:
    """Gives the convolutions of a runner the fastest known blocks for an input.

    Args:
        runner: Its convolutions' blocks are set; graphs must be captured afterwards.
        x: Of the shape and strides to come.
        clock: How a call is timed while searching.

    Returns:
        How many convolutions got a block that was found by trying, now or before.
    """
    known, found, count = _read(), dict[str, Any](), 0
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
        _write(known | found)
    return count


def _block(facts: Any) -> Block | None:
    try:
        return None if facts is None else Block(**facts)
    except TypeError:
        return None  # of another version of vsr


def _path() -> Path:
    return cache_dir() / "blocks.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.info("%s cannot be read: %s", _path(), error)
        return {}
    return found if isinstance(found, dict) else {}


def _write(blocks: dict[str, Any]) -> None:
    path = _path()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(blocks, indent=1), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        _log.info("blocks that were found cannot be remembered: %s", error)
        with suppress(OSError):
            partial.unlink()
