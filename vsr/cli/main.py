"""The `vsr` program: listens to signals, runs a command, and ends with the right exit code.

    0 done · 1 other · 2 usage · 3 input · 4 output · 5 model · 6 device
    70 a fault of `vsr` · 130 stopped by a signal

Nothing is imported before the signals are handled, so that even an early Ctrl-C ends well.
"""

import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from vsr.cli.signals import Stop


def main() -> NoReturn:
    """Runs the command line of this process and exits."""
    stop = Stop()
    try:
        stop.install()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # any file name can be printed
                stream.reconfigure(errors="backslashreplace")
        code = run(sys.argv[1:], stop)
    except KeyboardInterrupt:  # in the few lines between two handlers
        code = 130
    stop.ignore()
    sys.exit(code)


def run(arguments: Sequence[str], stop: Stop | None = None) -> int:
    """Runs one command line; every error ends here as one line on stderr.

    Args:
        arguments: Without the program's name.
        stop: Where stop signals are remembered.

    Returns:
        The exit code.
    """
    stop = stop or Stop()
    try:
        from vsr.cli import door  # noqa: PLC0415 - after the signal handlers
        from vsr.cli.group import group  # noqa: PLC0415

        result = group.main(list(arguments), prog_name="vsr", standalone_mode=False, obj=stop)
        return (result if isinstance(result, int) else 0) or door.close_output()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001 - the door for everything
        return _leave(error, stop)


def _leave(error: BaseException, stop: Stop) -> int:
    from vsr.cli import door  # noqa: PLC0415 - see run
    from vsr.errors import CancelledError  # noqa: PLC0415

    if stop.signal is not None:
        # Whatever an interrupted import or callback made of it: the signal is the reason.
        said = str(error) if isinstance(error, CancelledError) else ""
        error = CancelledError(said or f"stopped by {stop.signal.name}")
    return door.tell(error)
