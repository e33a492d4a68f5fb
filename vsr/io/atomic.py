"""Files that appear under their name complete or not at all.

A job writes into a hidden partial file beside its target, which one rename then turns into the
target. The partial file is locked while its process lives, so one that a killed process left behind
is recognised, and removed by the next job with the same target.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from vsr.errors import SinkError, SinkExistsError

try:
    import fcntl
except ImportError:  # Windows, which refuses to delete open files by itself
    fcntl = None  # type: ignore[assignment]

_SUFFIX: Final = ".vsr-partial"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_count = itertools.count()


def faulty(target: Path) -> Path:
    """The name of a complete file that is not right, beside the one that it was to get."""
    return target.with_name(f"{target.stem}.faulty{target.suffix}")


class PartialFile:
    """A file object for libav (`write`, `seek`, `tell`) whose result appears only by `commit`.

    Args:
        target: Final name; its folder must exist.
        overwrite: Whether `commit` may replace an older file.
        tidy: Whether what killed jobs with this target left is removed, which reads the folder.

    Raises:
        SinkError: The partial file cannot be made.
    """

    def __init__(self, target: Path, *, overwrite: bool = False, tidy: bool = True) -> None:
        self.target = resolved(target)
        self._overwrite = overwrite
        if tidy:
            remove_stale(self.target)
        self._path = _partial_path(self.target, f"{os.getpid()}-{next(_count)}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._open = False
        self.error: OSError | None = None
        try:
            self._fd = os.open(self._path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
            self._open = True
            try_lock(self._fd)
        except OSError as error:
            raise sink_error(self.target, error) from error
        except BaseException:  # a signal
            self.discard()
            raise

    @property
    def name(self) -> str:
        """Absolute path of the partial file; libav reads it back to move an index to the front."""
        return str(self._path)

    @property
    def closed(self) -> bool:
        """Whether it was committed or discarded; PyAV then lets a muxer go without its trailer."""
        return not self._open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: bytes) -> int:
        """Writes all of `data`, and keeps the first failure, for libav reports it late or never."""
        rest = memoryview(data)
        try:
            self._check_open()
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self.error = self.error or error
            raise
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Reads up to `size` bytes, all that follow by default."""
        self._check_open()
        if size >= 0:
            return os.read(self._fd, size)
        return b"".join(iter(lambda: os.read(self._fd, 1 << 20), b""))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position, as `io.IOBase.seek`."""
        self._check_open()
        return os.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        """Position in bytes."""
        self._check_open()
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def _check_open(self) -> None:
        """The number of a closed file may belong to another file by now."""
        if not self._open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def commit(self, *, overwrite: bool = False) -> None:
        """Forces the bytes to the disk and gives the file its final name, in one step.

        Args:
            overwrite: Whether an older file may be replaced although that was not asked for.

        Raises:
            SinkExistsError: A file of that name has appeared meanwhile, and overwriting was not
                asked for.
            SinkError: The disk is full, or the file system refuses.
        """
        try:
            if self.error is not None:
                raise self.error
            os.fsync(self._fd)
            self._close()
            self._rename(overwrite=overwrite or self._overwrite)
        except FileExistsError as error:
            msg = f"{self.target} exists; pass -y to overwrite it"
            raise SinkExistsError(msg) from error
        except OSError as error:
            raise sink_error(self.target, error) from error
        finally:
            self.discard()

    def _rename(self, *, overwrite: bool) -> None:
        if overwrite:
            self._path.replace(self.target)
        else:
            try:
                # unlike a rename, a link never replaces what another process has put there
                # meanwhile
                os.link(self._path, self.target)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                if self.target.exists():
                    raise FileExistsError(self.target) from None
                self._path.replace(self.target)
        sync_folder(self.target.parent)

    def discard(self) -> None:
        """Removes the partial file; harmless after `commit` and when called again."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._fd)


def check_target(path: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Finds out, before any work, whether a file can be written.

    Args:
        path: The target.
        overwrite: Whether an existing file may be replaced.
        source: Input of the job, which must not be the target by any name.

    Raises:
        SinkExistsError: It exists, and overwriting was not asked for.
        SinkError: Its folder is missing or not writable, or it is a folder, a device or the input.
    """
    try:
        folder = resolved(path).parent
        if not folder.is_dir():
            msg = f"folder {folder} does not exist; make it first"
            raise SinkError(msg)
        facts = path.stat() if path.exists() else None
        origin = source.stat() if source is not None and source.exists() else None
        if facts is not None and origin is not None and os.path.samestat(facts, origin):
            msg = f"output {path} is the input itself; choose another name"
            raise SinkError(msg)
        if facts is not None and not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
            msg = f"output {path} is {kind}; give the name of a file"
            raise SinkError(msg)
    except OSError as error:  # a name too long, for instance
        raise sink_error(path, error) from error
    if facts is not None and not overwrite:
        msg = f"{path} exists; pass -y to overwrite it"
        raise SinkExistsError(msg)
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"folder {folder} is not writable; choose another or change its permissions"
        raise SinkError(msg)


def sink_error(path: Path, error: OSError) -> SinkError:
    """Says in one line why writing failed."""
    if error.errno in _FULL:
        return SinkError(f"disk full while writing {path}: make room or write elsewhere")
    return SinkError(f"{path} cannot be written: {error.strerror or error}")


def remove_stale(target: Path) -> None:
    """Removes partial files of this target whose process is gone."""
    tidy_folder(target.parent, _partial_path(target, "").name.removesuffix(_SUFFIX))


def tidy_folder(folder: Path, head: str = ".") -> None:
    """Removes partial files whose process is gone and whose name begins so."""
    for path in _partials(folder, head):
        if not _in_use(path):
            with contextlib.suppress(PermissionError):  # Windows, where it is open somewhere
                path.unlink(missing_ok=True)


def _partials(folder: Path, head: str) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # making the new partial file will fail as well, and say why
        return
    for entry in entries:
        if entry.name.startswith(head) and entry.name.endswith(_SUFFIX):
            yield Path(entry.path)


def _in_use(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return True
    try:
        return try_lock(fd) is not True
    finally:
        os.close(fd)


def try_lock(fd: int) -> bool | None:
    """Takes the lock that a living job holds; False if another has it, None if there are none."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _partial_path(target: Path, process: str) -> Path:
    return target.parent / f"{hidden_name(target)}.{process}{_SUFFIX}"


def hidden_name(target: Path) -> str:
    """A hidden name that leaves room for more in 255 bytes even if the target's fills them."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    readable = os.fsencode(target.name)[:150].decode("utf-8", "ignore")
    return f".{readable}.{digest}"


def resolved(target: Path) -> Path:
    """Absolute; a symbolic link stands for what it points to, so that the link survives."""
    return target.resolve() if target.is_symlink() else target.absolute()


def sync_folder(folder: Path) -> None:
    """Makes new names survive a power failure, where folders can be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        # EINVAL: this file system does not sync folders, and needs no help
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
