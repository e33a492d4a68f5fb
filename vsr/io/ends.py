"""The two ends of a pipe: bytes that come when they come, and bytes that leave at once.

A read can be freed by another thread, for a thread that a silent writer holds could not be joined.
While it waits it also sees when nobody listens at the other end any more.
"""

import errno
import logging
import os
import re
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final, Protocol, Self

from vsr.errors import CancelledError, SourceError, SourceNotFoundError, UsageError
from vsr.io.atomic import PartialFile, check_target, sink_error

_log = logging.getLogger(__name__)

STANDARD: Final = "-"
"""The name of standard input and of standard output."""
_NUMBERED: Final = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_NAMED: Final = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_CHUNK: Final = 1 << 16


def descriptor_of(name: str, standard: int) -> int | None:
    """The descriptor that a name stands for (`-`, `/dev/stdin`, `/dev/fd/3`); None for a path.

    Args:
        name: As typed.
        standard: What `-` stands for, 0 or 1.
    """
    if name == STANDARD:
        return standard
    numbered = _NUMBERED.fullmatch(name)
    return int(numbered[1]) if numbered else _NAMED.get(name)


def is_stream(name: str | Path) -> bool:
    """Whether a name is that of a pipe: standard, a descriptor, a FIFO, a socket or a device."""
    if descriptor_of(str(name), 0) is not None:
        return True
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


class ByteReader:
    """Reads a descriptor, which it owns, forwards only.

    Args:
        fd: Descriptor.
        name: For messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._listener: int | None = None
        self._file = FileIO(fd, "rb")
        self._ahead = b""
        self._failed = False
        self._wake: tuple[int, int] | None = None
        self._poll: select.poll | None = None
        if hasattr(select, "poll"):
            self._wake = os.pipe()
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
            self._poll.register(self._wake[0], select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listen(self, writer: "ByteWriter") -> None:
        """Watches over an output: when its reader has gone, waiting for input ends (on Linux)."""
        if self._poll is not None and sys.platform == "linux":
            self._listener = writer.fd
            self._poll.register(writer.fd, 0)  # errors are told whatever is asked for

    def read(self, size: int = _CHUNK) -> bytes:
        """Gives what is there, at least one byte and at most `size`; nothing at the end.

        Raises:
            CancelledError: `release` was called.
            BrokenPipeError: The listener has gone.
            SourceError: Reading failed.
        """
        if self._ahead:
            given, self._ahead = self._ahead[:size], self._ahead[size:]
            return given
        buffer = bytearray(size)
        return bytes(buffer[: self._some(memoryview(buffer))])

    def fill(self, buffer: memoryview) -> int:
        """Reads until a buffer of bytes is full or the stream ends; gives the number of bytes.

        Raises:
            CancelledError: `release` was called.
            BrokenPipeError: The listener has gone.
            SourceError: Reading failed.
        """
        done = min(len(self._ahead), len(buffer))
        buffer[:done], self._ahead = self._ahead[:done], self._ahead[done:]
        while done < len(buffer):
            count = self._some(buffer[done:])
            if not count:
                break
            done += count
        return done

    def peek(self, size: int) -> bytes:
        """Gives the next `size` bytes, fewer at the end, and leaves them there."""
        while len(self._ahead) < size and self._more():
            pass
        return self._ahead[:size]

    def line(self, limit: int) -> bytes:
        """Reads up to and with the next line feed, but at most `limit` bytes."""
        while b"\n" not in self._ahead[:limit] and len(self._ahead) < limit and self._more():
            pass
        end = self._ahead.find(b"\n", 0, limit)
        size = end + 1 if end >= 0 else min(limit, len(self._ahead))
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken

    def _more(self) -> bool:
        buffer = bytearray(4096)
        count = self._some(memoryview(buffer))
        self._ahead += buffer[:count]
        return count > 0

    def _some(self, buffer: memoryview) -> int:
        if self._failed:  # it has been told; libav tries again, and would wait again
            return 0
        self._failed = True
        count = self._received(buffer)
        self._failed = False
        return count

    def _received(self, buffer: memoryview) -> int:
        try:
            while True:
                self._wait()
                count = self._file.readinto(buffer)
                if count is not None:  # None: a pipe that does not block, and somebody was faster
                    return count
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            msg = f"{self.name} cannot be read: {reason}"
            raise SourceError(msg) from error

    def _wait(self) -> None:
        if self._poll is None or self._wake is None:
            return
        for fd, _ in self._poll.poll():
            if fd == self._wake[0]:
                msg = f"reading {self.name} was stopped"
                raise CancelledError(msg)
            if fd == self._listener:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def release(self) -> None:
        """Ends the reading of another thread, now or when it next waits (not on Windows)."""
        if self._wake is not None:
            os.write(self._wake[1], b"!")

    def close(self) -> None:
        """Frees the descriptor; safe to call twice."""
        self._file.close()
        wake, self._wake, self._poll = self._wake, None, None
        for fd in wake or ():
            os.close(fd)


class ByteSink(Protocol):
    """Where bytes go: a `ByteWriter`, or a file that appears when it is complete."""

    error: OSError | None

    @property
    def closed(self) -> bool:
        """Whether it was committed or discarded."""
        ...

    def write(self, data: bytes) -> int:
        """Writes all of the data."""
        ...

    def commit(self) -> None:
        """Ends it well."""
        ...

    def discard(self) -> None:
        """Ends it anyhow; harmless after `commit`."""
        ...


class ByteWriter:
    """Writes to a descriptor, which it owns, without a buffer.

    Args:
        fd: Descriptor.
        name: For messages.

    Attributes:
        fd: The same.
        error: The first failure, which libav reports late or never.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.name, self.fd = name, fd
        self._open = True
        self.error: OSError | None = None

    @property
    def closed(self) -> bool:
        """Whether it was committed or discarded."""
        return not self._open

    def write(self, data: bytes) -> int:
        """Writes all of `data`.

        Raises:
            OSError: `BrokenPipeError` where nobody listens any more.
        """
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                rest = rest[self._some(rest) :]
        except OSError as error:
            self.error = self.error or error
            raise
        return size

    def _some(self, data: memoryview) -> int:
        try:
            return os.write(self.fd, data)
        except BlockingIOError:  # somebody made the pipe non-blocking
            select.select([], [self.fd], [])
            return 0

    def commit(self) -> None:
        """Closes the descriptor, so that the reader sees the end."""
        self.discard()

    def discard(self) -> None:
        """The same: what was written is with the reader."""
        if self._open:
            self._open = False
            os.close(self.fd)


def open_reader(name: str) -> ByteReader:
    """Opens a pipe or file for reading.

    Args:
        name: `-`, a descriptor such as `/dev/fd/3`, or a path.

    Raises:
        UsageError: It is a terminal.
        SourceNotFoundError: There is no such file.
        SourceError: It cannot be opened.
    """
    number = descriptor_of(name, 0)
    shown = "standard input" if name == STANDARD else name
    try:
        fd = os.open(name, os.O_RDONLY | _FLAGS) if number is None else os.dup(number)
    except FileNotFoundError as error:
        msg = f"{shown} does not exist; check the name"
        raise SourceNotFoundError(msg) from error
    except OSError as error:
        msg = f"{shown} cannot be opened: {error.strerror}"
        raise SourceError(msg) from error
    _refuse_terminal(fd, f"{shown} is a terminal: send a video, as in `vsr pipe -s 2 < in.y4m`")
    if number is None and stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        msg = f"{shown} is a folder: name a file or a FIFO"
        raise SourceError(msg)
    _make_binary(fd)
    return ByteReader(fd, shown)


def open_writer(name: str, *, overwrite: bool = False, source: str = STANDARD) -> ByteSink:
    """Opens a pipe, or a file that appears under its name when it is complete, for writing.

    Args:
        name: `-`, a descriptor such as `/dev/fd/3`, or a path.
        overwrite: Whether an existing file may be replaced.
        source: Input of the job, which must not be the output.

    Raises:
        UsageError: It is a terminal.
        SinkError: It cannot be opened.
    """
    number = descriptor_of(name, 1)
    if number is None and not is_stream(name):
        origin = None if is_stream(source) else Path(source)
        check_target(Path(name), overwrite=overwrite, source=origin)
        return PartialFile(Path(name), overwrite=overwrite)
    shown = "standard output" if name == STANDARD else name
    try:
        fd = os.open(name, os.O_WRONLY | _FLAGS) if number is None else os.dup(number)
    except OSError as error:
        raise sink_error(Path(shown), error) from error
    _refuse_terminal(fd, f"{shown} is a terminal: send it on, as in `vsr pipe -s 2 > out.y4m`")
    _make_binary(fd)
    return ByteWriter(fd, shown)


_FLAGS: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _refuse_terminal(fd: int, msg: str) -> None:
    if os.isatty(fd):
        os.close(fd)
        raise UsageError(msg)


def _make_binary(fd: int) -> None:
    """Windows turns line feeds of standard streams into two bytes otherwise."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - exists there only

        msvcrt.setmode(fd, os.O_BINARY)


@contextmanager
def stdout_for_data() -> Iterator[None]:
    """Sends to standard error what anything else writes to descriptor 1, until the end.

    Enter it after the descriptor has been opened for the data.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    kept = os.dup(1)
    try:
        try:
            os.dup2(2, 1)
        except OSError:  # standard error is closed
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.close(nothing)
        yield
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
