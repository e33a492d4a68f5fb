"""The one door through which every error leaves: as one line on stderr and an exit code."""

import logging
import os
import sys
import traceback
from dataclasses import dataclass

from vsr.cli import console
from vsr.errors import (
    CancelledError,
    DeviceError,
    SinkError,
    SourceNotFoundError,
    UsageError,
    VsrError,
)

_BUG = 70  # EX_SOFTWARE of sysexits.h
_QUIET_STOP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an error means to the user.

    Attributes:
        code: Exit code, 1 to 127, or 130 after a signal.
        text: One line; empty if there is nothing to say.
        bug: Whether the program is to blame.
    """

    code: int
    text: str
    bug: bool = False


def judge(error: BaseException) -> Verdict:  # noqa: PLR0911 - one return per kind
    """Translates an error into an exit code and a line."""
    import click  # noqa: PLC0415 - keeps this module light for the entry point

    match error:
        case CancelledError() | KeyboardInterrupt() | click.Abort():
            return Verdict(code=CancelledError.exit_code, text=str(error) or "interrupted")
        case VsrError():
            return Verdict(code=error.exit_code, text=str(error) or type(error).__name__)
        case click.ClickException():
            return Verdict(code=error.exit_code, text=_usage(error))
        case BrokenPipeError():
            return Verdict(code=_QUIET_STOP, text="")
        case MemoryError():
            text = "out of memory: use a smaller --tile or --batch, or another --device"
            return Verdict(code=DeviceError.exit_code, text=text)
        case OSError() if error.errno is not None:
            return _system(error)
        case _:
            text = f"unexpected {type(error).__name__}: {error}"
            text += " (please report this; VSR_DEBUG=1 shows where)"
            return Verdict(code=_BUG, text=text, bug=True)


def tell(error: BaseException, *, subject: str = "") -> int:
    """Prints an error as one line, with its traceback where that is wanted.

    Args:
        error: What happened.
        subject: What it happened to, such as a file name.

    Returns:
        The exit code.
    """
    if _is_help(error):
        console.write(f"{error}\n")
        return UsageError.exit_code
    verdict = judge(error)
    if os.environ.get("VSR_DEBUG") or (verdict.bug and console.debugging()):
        console.write("".join(traceback.format_exception(error)))
    if verdict.text:
        named = not subject or subject in verdict.text
        console.say(f"vsr: error: {'' if named else subject + ': '}{verdict.text}")
    logging.getLogger(__name__).debug("exit code %d", verdict.code)
    return verdict.code


def _is_help(error: BaseException) -> bool:
    """Whether this is the help text that stands in for missing arguments."""
    from click.exceptions import NoArgsIsHelpError  # noqa: PLC0415 - see judge

    return isinstance(error, NoArgsIsHelpError)


def _usage(error: Exception) -> str:
    import click  # noqa: PLC0415 - see judge

    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    text = text.rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text} (see `{context.command_path} --help`)" if context else text


def _system(error: OSError) -> Verdict:
    code = (
        SourceNotFoundError.exit_code
        if isinstance(error, FileNotFoundError)
        else SinkError.exit_code
    )
    where = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
    return Verdict(code=code, text=f"{error.strerror}{where}")


def close_output() -> int:
    """Flushes stdout while errors can still be handled.

    Returns:
        0, or the exit code of a quiet stop if the reader has gone.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end, and must not complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _QUIET_STOP
    return 0
