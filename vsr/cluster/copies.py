"""Copies of sources on a machine that does not see them: files of their size, with what is needed.

A copy begins as nothing but holes and gets the bytes that its parts need, piece by piece. All
workers of a machine share it.

    vsr-source-5b….4f…/         in the folder for temporary files
        1234.lock               held by a worker while it lives
        7/000000.mkv            the only file of the job's film 7, or a picture of it
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vsr.cluster.workdir import Parcel, Place, WorkDir
from vsr.errors import SinkError
from vsr.io.atomic import try_lock
from vsr.io.folder import Stills

_HEAD: Final = "vsr-source-"
_LOCK: Final = ".lock"
_YOUNG: Final = 60
"""Seconds for which a folder without a lock is one whose worker is about to take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Where the copy of a source lies.

    Attributes:
        folder: Within the machine's folder of copies.
        suffixes: Of the files, in the source's order.
    """

    folder: str
    suffixes: tuple[str, ...]

    def path(self, number: int) -> Path:
        """Of a file, from the machine's folder of copies on."""
        return Path(self.folder) / f"{number:06d}{self.suffixes[number]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Bytes for a copy.

    Attributes:
        copy: Which.
        number: Of its file.
        size: Of the whole file.
        pieces: Where each piece begins, and how long it is.
        digest: BLAKE2b of all pieces together.
        data: All pieces; empty where they lie in a shared place.
        parcel: Where they lie.
        place: In which folder.
    """

    copy: Copy
    number: int
    size: int
    pieces: tuple[tuple[int, int], ...]
    digest: str
    data: bytes = b""
    parcel: Parcel | None = None
    place: Place | None = None


def digest_of(data: bytes) -> str:
    """BLAKE2b, in short."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Copies:
    """A machine's copies, kept while any of its workers lives.

    Args:
        session: Names the driver's run and the machine.
    """

    def __init__(self, session: str) -> None:
        self._root = Path(tempfile.gettempdir()) / f"{_HEAD}{session}"
        self._lock: int | None = None

    def receive(self, load: Load) -> None:
        """Puts bytes to their place.

        Raises:
            SinkError: The disk is full, or the bytes are not what was sent.
        """
        data = load.data
        if load.parcel is not None and load.place is not None:
            data = WorkDir(load.place).take(load.parcel)
        if digest_of(data) != load.digest:
            msg = "a piece of the source did not arrive as it was sent: a node or link is broken"
            raise SinkError(msg)
        path = self._root / load.copy.path(load.number)
        try:
            self._hold()
            path.parent.mkdir(exist_ok=True)
            with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:  # noqa: PTH123
                if os.fstat(file.fileno()).st_size != load.size:
                    file.truncate(load.size)
                begin = 0
                for at, length in load.pieces:
                    file.seek(at)
                    file.write(data[begin : begin + length])
                    begin += length
        except OSError as error:
            reason = error.strerror or error
            msg = (
                f"a copy of the source cannot be written to {self._root.parent} ({reason}): free "
                "space there, set TMPDIR, or put the source on a path that all nodes share"
            )
            raise SinkError(msg) from error

    def local(self, source: Path | Stills, copy: Copy) -> Path | Stills:
        """The source as it lies here."""
        if not isinstance(source, Stills):
            return self._root / copy.path(0)
        paths = tuple(self._root / copy.path(number) for number in range(len(source.paths)))
        return replace(source, paths=paths)

    def forget(self, copy: Copy) -> None:
        """Removes a copy; safe to call twice."""
        shutil.rmtree(self._root / copy.folder, ignore_errors=True)

    def _hold(self) -> None:
        """Makes the folder and takes its lock; what dead drivers' workers left is removed."""
        if self._lock is not None:
            return
        remove_stale(but=self._root)
        self._root.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(self._root / f"{os.getpid()}{_LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
        try_lock(self._lock)

    def close(self) -> None:
        """Lets go; the last worker of a machine removes the folder. Safe to call twice."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        os.close(lock)
        if not _in_use(self._root):
            shutil.rmtree(self._root, ignore_errors=True)


def remove_stale(but: Path | None = None) -> None:
    """Removes what workers have left that are dead.

    Args:
        but: A folder that stays.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_HEAD}*"):
        if folder != but and not _in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _in_use(folder: Path) -> bool:
    locks = list(folder.glob(f"*{_LOCK}"))
    if locks:
        return any(_held(path) for path in locks)
    with contextlib.suppress(FileNotFoundError):
        return time.time() - folder.stat().st_mtime < _YOUNG
    return False


def _held(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDWR)
    except OSError:  # gone, or another user's
        return path.exists()
    try:
        return try_lock(lock) is False
    finally:
        os.close(lock)


def paths_of(source: Path | Stills) -> Sequence[Path]:
    """Files of a source."""
    return source.paths if isinstance(source, Stills) else (source,)


def copy_of(film: int, source: Path | Stills) -> Copy:
    """Describes the copy of a film's source."""
    suffixes = tuple(path.suffix for path in paths_of(source))
    return Copy(folder=str(film), suffixes=suffixes)
