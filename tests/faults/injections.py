"""What is done to a program before it runs, in its own process: faults at chosen moments.

A stage of a job is a function that it calls there; a fault happens right before its n-th call. Each
name here is one that `Program.run` may be given as its fault.
"""

import importlib
import itertools
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from vsr.engine.network import Network

STAGES = {
    "opening": "vsr.io.av_source:AvSource._start",
    "planning": "vsr.planning:plan_output",
    "loading": "vsr.engine.loading:find_model",
    "decoding": "vsr.io.decoder:Decoder._decoded",
    "computing": "vsr.engine.route:Route.__call__",
    "encoding": "vsr.io.av_sink:AvSink.write",
    "making": "vsr.io.atomic:try_lock",
    "writing": "vsr.io.atomic:PartialFile._check_open",
    "finishing": "vsr.io.av_sink:AvSink.finish",
    "syncing": "os:fsync",
    "verifying": "vsr.verification:verify",
    "naming": "vsr.io.atomic:PartialFile._rename",
    "reading picture": "vsr.folders:read_still",
    "encoding picture": "vsr.io.picture_encoders:PictureEncoder.encode",
    "sending": "vsr.io.ends:ByteWriter.write",
}
"""Functions of the program, one a stage; a test fails if its stage is never reached."""


def before(stage: str, nth: int, act: Callable[[], None]) -> None:
    """Has something done right before the n-th call of a stage, counted from 1."""
    module, _, path = STAGES[stage].partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), itertools.count(1)

    @wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == nth:
            act()
        return original(*args, **kwargs)

    setattr(owner, name, called)


def signalled(stage: str, nth: int, number: int) -> None:
    """A signal comes to the process while some thread is about to enter a stage."""

    def act() -> None:
        os.kill(os.getpid(), number)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.2)  # the main thread is interrupted while this one is here

    before(stage, nth, act)


def raised(stage: str, nth: int, kind: str) -> None:
    """An error is raised in a stage, on whatever thread it runs."""
    kinds: dict[str, BaseException] = {
        "RuntimeError": RuntimeError("shape mismatch"),
        "SystemExit": SystemExit(0),
        "MemoryError": MemoryError(),
        "EIO": OSError(5, "Input/output error"),
    }

    def act() -> None:
        raise kinds[kind]

    before(stage, nth, act)


def shortened(stage: str, nth: int, path: str, size: int) -> None:
    """Another program cuts a file short."""
    before(stage, nth, lambda: os.truncate(path, size))


def removed(stage: str, nth: int, path: str) -> None:
    """Another program removes a file."""
    before(stage, nth, lambda: Path(path).unlink())


def limited(size: int) -> None:
    """No file of this process may become larger (EFBIG, as on a disk that is full)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def interrupted(call: int, number: int) -> None:
    """A signal comes at the n-th call of any function in the main thread.

    Whatever the program is about: no place is chosen by a person.
    """
    calls = itertools.count(1)

    def profile(_frame: object, event: str, _arg: object) -> None:
        if event in {"call", "c_call"} and next(calls) == call:
            sys.setprofile(None)
            os.kill(os.getpid(), number)

    sys.setprofile(profile)


def counted(path: str) -> None:
    """Writes down at the end how many functions the main thread has called."""
    calls = itertools.count()

    def profile(_frame: object, event: str, _arg: object) -> None:
        if event in {"call", "c_call"}:
            next(calls)

    from vsr.cli import door

    close = door.close_output

    def closed() -> int:
        sys.setprofile(None)
        Path(path).write_text(str(next(calls)), encoding="ascii")
        return close()

    door.close_output = closed
    sys.setprofile(profile)


def turned(by: float) -> None:
    """The wall clock jumps to and fro by so many seconds; the steady clocks go on."""
    now, now_ns, jumps = time.time, time.time_ns, itertools.cycle([by, 0.0, -by])
    time.time = lambda: now() + next(jumps)
    time.time_ns = lambda: now_ns() + int(next(jumps) * 1e9)


def cramped(pixels: int, once: list[int] | None = None) -> None:
    """The device has room for so many pixels at a time, and for none at some calls."""

    def forward(network: Network, x: torch.Tensor, number: int) -> torch.Tensor:
        if number in (once or ()) or x.shape[0] * x.shape[2] * x.shape[3] > pixels:
            msg = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise torch.OutOfMemoryError(msg)
        return compute(network, x)

    compute = _computing(forward)


def overflowing(calls: list[int], value: float) -> None:
    """Half precision overflows in one sample at some calls."""

    def forward(network: Network, x: torch.Tensor, number: int) -> torch.Tensor:
        y = compute(network, x)
        if network.precision != "fp32" and number in calls:
            y[-1, -1, -1, -1] = value
        return y

    compute = _computing(forward)


def _computing(
    forward: Callable[[Network, torch.Tensor, int], torch.Tensor],
) -> Callable[[Network, torch.Tensor], torch.Tensor]:
    """Puts something in the place of a network's computation, and gives that."""
    compute, calls = Network.__call__, itertools.count(1)
    Network.__call__ = lambda self, x: forward(self, x, next(calls))
    return compute
