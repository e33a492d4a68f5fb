"""Makes the bytes of a finding few, each attempt in a process of its own."""

import faulthandler
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.fuzzing.child import SECONDS
from scripts.fuzzing.judge import judge, limit_memory, limit_processor_time
from scripts.fuzzing.targets import Target

_ROOM = 3 << 30


def outcome(target: Target, data: bytes, seconds: int = SECONDS) -> str | None:
    """Judges a case in a child process, so that it may crash or hang.

    Returns:
        As `judge`; `signal 11` and the like, or `hang`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(target, data, writing)
    os.close(writing)
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            return "hang"
        time.sleep(0.002)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "hang" if number == signal.SIGXCPU else f"signal {number}"
    return told or None


def _child(target: Target, data: bytes, writing: int) -> None:
    faulthandler.disable()
    logging.disable(logging.CRITICAL)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    limit_memory(_ROOM)
    limit_processor_time()
    try:
        with tempfile.TemporaryDirectory() as name:
            os.write(writing, (judge(target, data, Path(name)) or "").encode())
    finally:
        os._exit(0)


def shrunk(data: bytes, fails: Callable[[bytes], bool], seconds: float) -> bytes:
    """Cuts pieces out, large ones first, then makes bytes zero, while it still fails."""
    until = time.monotonic() + seconds
    size = max(1, len(data) // 2)
    while size and time.monotonic() < until:
        at, cut = 0, False
        while at < len(data) and time.monotonic() < until:
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data, cut = shorter, True
            else:
                at += size
        size = size if cut and size == 1 else size // 2
    for at in range(len(data)):
        if time.monotonic() > until:
            break
        plain = data[:at] + b"\0" + data[at + 1 :]
        if data[at] and fails(plain):
            data = plain
    return data
