"""Lines for people on stderr: one message, one line, never through a progress bar."""

import contextlib
import logging
import os
import re
import sys
from typing import override

_PACKAGE = "vsr"


def one_line(text: str) -> str:
    r"""Folds line breaks and escapes what could confuse a terminal or a log.

    >>> one_line("two\n  lines\x1b[31m")
    'two lines\\x1b[31m'
    """
    folded = re.sub(r"\s*[\r\n]+\s*", " ", text.strip())
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in folded)


def say(text: str) -> None:
    """Writes one line to stderr, above a progress bar; a closed stderr is no error."""
    write(one_line(text) + "\n")


def write(text: str) -> None:
    """Writes text to stderr as it is, above the progress bar if there is one."""
    bars = sys.modules.get("tqdm")
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if bars is not None:
            bars.tqdm.write(text, file=sys.stderr, end="")
        else:
            sys.stderr.write(text)
        sys.stderr.flush()


class LineHandler(logging.Handler):
    """Prints records as `vsr: warning: …`; with debug records, where they come from."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        origin = f" [{record.name}]" if record.levelno <= logging.DEBUG else ""
        say(f"{_PACKAGE}: {record.levelname.lower()}:{origin} {record.getMessage()}")


def configure(verbosity: int) -> None:
    """Sets how much is said.

    Args:
        verbosity: −1 errors only, 0 warnings, 1 decisions, 2 and more everything.
    """
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    logger = logging.getLogger(_PACKAGE)
    logger.setLevel(levels.get(verbosity, logging.DEBUG))
    _handle(logger, LineHandler())
    # Other libraries' Python warnings are many lines long and not for users.
    logging.captureWarnings(capture=True)
    _handle(
        logging.getLogger("py.warnings"), LineHandler() if verbosity > 0 else logging.NullHandler()
    )


def _handle(logger: logging.Logger, handler: logging.Handler) -> None:
    for old in list(logger.handlers):
        if isinstance(old, LineHandler | logging.NullHandler):
            logger.removeHandler(old)
    logger.addHandler(handler)


def quiet() -> bool:
    """Whether only errors are wanted (`-q`)."""
    return logging.getLogger(_PACKAGE).level > logging.WARNING


def debugging() -> bool:
    """Whether tracebacks are wanted: `-v` or the environment variable `VSR_DEBUG`."""
    level = logging.getLogger(_PACKAGE).level
    return bool(os.environ.get("VSR_DEBUG")) or logging.NOTSET < level <= logging.INFO
