"""Ctrl-C, SIGTERM and SIGHUP end a job in an orderly way: cleanup runs, exit code 130."""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

from vsr.errors import CancelledError

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_BOUNCE_SECONDS = 1.0
_CALLED_BY_LIBAV = frozenset({"vsr.io.atomic", "vsr.io.ends"})
"""Modules of the file objects that libav reads from and writes to."""
_ABORTING = "torch"
"""What ends the process with an abort if an exception meets the middle of its import."""


class StoppedError(KeyboardInterrupt):
    """A stop signal came.

    Not `KeyboardInterrupt` itself: once that has passed through `exec` of a text, as in the making
    of a dataclass, `python -m` ends with SIGINT whoever caught it (CPython's `Py_RunMain`).
    """


class Stop:
    """Turns the first stop signal into `KeyboardInterrupt`, and a later one into the end.

    A terminal, a shell and `timeout` may deliver the same wish twice, so repetitions within a
    second count as one. Signals that the parent chose to ignore (`nohup`) stay ignored.

    PyAV hands an `Exception` of a file object on to who called it, but prints and forgets a
    `KeyboardInterrupt`, and libav takes the bytes for written: inside such an object the signal
    becomes a `CancelledError`. While PyTorch is being imported the signal waits for its end.

    Attributes:
        signal: The signal that was received first, None so far.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0
        self._waits = False
        self._numbers: list[signal.Signals] = []

    def install(self) -> None:
        """Starts to listen; only the main thread may."""
        sys.unraisablehook = _print_unless_stopped
        for name in _NAMES:
            number = getattr(signal.Signals, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)
                self._numbers.append(number)

    def ignore(self) -> None:
        """Lets the interpreter shut down undisturbed: result and exit code stand."""
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raises again what a callback or a destructor may have swallowed.

        Raises:
            KeyboardInterrupt: A stop signal was received.
        """
        if self.signal is not None:
            raise StoppedError

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is not None or self._waits:
            if now - self._since > _BOUNCE_SECONDS:
                os._exit(130)
            return
        self._since = now
        inside = set(_calls(frame))
        if (_ABORTING, "<module>") in inside:
            self._waits = True
            threading.Thread(target=self._repeat, args=(number,), daemon=True).start()
            return
        self.signal = signal.Signals(number)
        if _CALLED_BY_LIBAV & {module for module, _ in inside}:
            msg = f"stopped by {self.signal.name}"
            raise CancelledError(msg)
        raise StoppedError

    def _repeat(self, number: int) -> None:
        with suppress(Exception):  # it is the main thread's, which is told
            importlib.import_module(_ABORTING)  # returns when the main thread's import is over
        self._waits = False
        if hasattr(signal, "pthread_kill"):  # it wakes whatever the main thread waits in
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)


def _print_unless_stopped(unraisable: "sys.UnraisableHookArgs", /) -> None:
    """Leaves out a stop that met a callback: it is no fault, and `check` raises it again."""
    if not isinstance(unraisable.exc_value, StoppedError):
        sys.__unraisablehook__(unraisable)


def _calls(frame: FrameType | None) -> Iterator[tuple[str, str]]:
    """Module and function of a frame and of its callers."""
    while frame is not None:
        yield str(frame.f_globals.get("__name__")), frame.f_code.co_name
        frame = frame.f_back
