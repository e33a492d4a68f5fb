"""One case: runs a target on bytes, and says what may not happen.

A finding is an exception outside `VsrError`, a `VsrError` of several lines, more memory than a
target is allowed, and, seen from outside the process, a signal or a hang.
"""

import contextlib
import os
import re
import resource
import shutil
import sys
import traceback
from pathlib import Path

from scripts.fuzzing.targets import Step, Target
from vsr.errors import VsrError

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_MIB = 1 << 20
PROCESSOR_SECONDS = 15
"""Longest time of a case on the processor."""


def limit_memory(room: int) -> None:
    """Lets this process grow by so many bytes of address space and no more."""
    size = _status("VmSize")
    if size:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + room, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_processor_time() -> None:
    """Lets this process compute for `PROCESSOR_SECONDS` more before it is killed."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + PROCESSOR_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def warm(target: Target, data: bytes, folder: Path) -> None:
    """Tries a case for its imports alone, which would count as its memory."""
    judge(target, data, folder)


def judge(target: Target, data: bytes, folder: Path) -> str | None:
    """Tries one case.

    Args:
        target: What reads.
        data: What is read.
        folder: An empty one; is left empty.

    Returns:
        Which finding it is, in a word that is the same for the same bug; None for none.
    """
    before = _start_peak()
    found: str | None = None
    try:
        path = target.write(folder, data)
        for step in target.steps:
            found = found or _tried(step, path)
    finally:
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    grown = _status("VmHWM") - before
    if found is None and before and grown > target.memory:
        found = f"memory: more than {target.memory // _MIB} MiB"
    return found


def _tried(step: Step, path: Path) -> str | None:
    try:
        step(path)
    except VsrError as error:
        text = str(error)
        if "\n" in text or not text:
            return f"message: {type(error).__name__} of {text.count(chr(10)) + 1} lines"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - Rust's PanicException is no Exception
        return signature(error)
    return None


def signature(error: BaseException) -> str:
    """Type of an exception, and the innermost line of `vsr` that it went through."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}vsr{os.sep}" in f.filename
    ]
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    if not frames:
        return f"{name} outside vsr"
    inner = frames[-1]
    where = re.sub(r".*/(vsr/)", r"\1", inner.filename)
    return f"{name} in {where}:{inner.name}"


def _start_peak() -> int:
    """Resets the peak of resident memory, and gives what is resident now."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", "ascii")
    return _status("VmRSS")


def _status(name: str) -> int:
    """A figure of /proc/self/status in bytes; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    for line in _STATUS.read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0
