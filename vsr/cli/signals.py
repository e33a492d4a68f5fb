"""Ctrl-C, SIGTERM and SIGHUP end a job in an orderly way: cleanup runs, exit code 130."""

import os
import signal
import time
from types import FrameType

from vsr.errors import CancelledError

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_BOUNCE_SECONDS = 1.0
_CALLED_BY_LIBAV = frozenset({"vsr.io.atomic", "vsr.io.ends"})
"""Modules of the file objects that libav reads from and writes to."""


class Stop:
    """Turns the first stop signal into `KeyboardInterrupt`, and a later one into the end.

    A terminal, a shell and `timeout` may deliver the same wish twice, so repetitions within a
    second count as one. Signals that the parent chose to ignore (`nohup`) stay ignored.

    PyAV hands an `Exception` of a file object on to who called it, but prints and forgets a
    `KeyboardInterrupt`, and libav takes the bytes for written: inside such an object the signal
    becomes a `CancelledError`.

    Attributes:
        signal: The signal that was received first, None so far.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0
        self._numbers: list[signal.Signals] = []

    def install(self) -> None:
        """Starts to listen; only the main thread may."""
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
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), now
            if _inside_libav(frame):
                msg = f"stopped by {self.signal.name}"
                raise CancelledError(msg)
            raise KeyboardInterrupt
        if now - self._since > _BOUNCE_SECONDS:
            os._exit(130)


def _inside_libav(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _CALLED_BY_LIBAV:
            return True
        frame = frame.f_back
    return False
