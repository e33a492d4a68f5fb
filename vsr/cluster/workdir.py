"""A place that all machines share, through which bytes travel beside Ray's object store.

A folder of its own for each job, on a path that all nodes see or behind a URL that `fsspec` knows:

    PLACE/vsr-movie.mkv-3f…/        removed when the job ends, or when the next run begins
        here                        tells a node that it sees the same place
        000017-9c….packets          a segment, from its worker to the driver
        5b….load                    a piece of a source, the other way
"""

import contextlib
import hashlib
import importlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from vsr.errors import SinkError, ToolError, UsageError

_log = logging.getLogger(__name__)

_SIGN: Final = "here"
_DIGEST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What another machine must know of a job's folder.

    Attributes:
        url: Of the folder that the user named.
        folder: Its own, within.
        token: What the file `here` holds.
    """

    url: str
    folder: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Bytes that lie in the shared place.

    Attributes:
        name: Within the job's folder.
        size: Bytes.
        sha256: Of them.
    """

    name: str
    size: int
    sha256: str


class WorkDir:
    """A job's folder in the shared place.

    Args:
        place: Which.

    Raises:
        ToolError: The driver for such a URL is missing.
        UsageError: No such kind of URL.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._files, root = _file_system(place.url)
        self._root = f"{root.rstrip('/')}/{place.folder}"
        self._checked = False

    @classmethod
    def begin(cls, url: str, target: Path) -> Self:
        """Makes the folder of a job anew; what an earlier run of it has left is removed.

        Args:
            url: What the user named: a path or a URL.
            target: Of the job.

        Raises:
            SinkError: It cannot be written.
            ToolError: The driver for such a URL is missing.
            UsageError: No such kind of URL.
        """
        own = f"{socket.gethostname()}\0{target.absolute()}".encode()
        digest = hashlib.blake2b(own, digest_size=_DIGEST).hexdigest()
        place = Place(
            url=url if "://" in url else str(Path(url).absolute()),
            folder=f"vsr-{target.name}-{digest}",
            token=secrets.token_hex(_DIGEST),
        )
        made = cls(place)
        if _is_local(made._files) and not Path(made._root).parent.is_dir():
            msg = f"--work-dir {url} is no folder: make it where all nodes see it"
            raise SinkError(msg)
        made.remove()
        with made._told("written"):
            made._files.makedirs(made._root, exist_ok=True)
            made._write(_SIGN, place.token.encode())
        made._checked = True
        return made

    def put(self, data: bytes, *, stem: str = "", suffix: str) -> Parcel:
        """Writes bytes under a name that nobody else has.

        Raises:
            SinkError: They cannot be written, or this machine sees another place.
        """
        self._check()
        name = f"{stem}{secrets.token_hex(_DIGEST)}{suffix}"
        with self._told("written"):
            self._write(name, data)
        return Parcel(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def take(self, parcel: Parcel) -> bytes:
        """Reads bytes.

        Raises:
            SinkError: They cannot be read, or are not what was written.
        """
        self._check()
        with self._told("read"):
            data = bytes(self._files.cat_file(f"{self._root}/{parcel.name}"))
        if len(data) != parcel.size or hashlib.sha256(data).hexdigest() != parcel.sha256:
            msg = (
                f"{parcel.name} in --work-dir {self.place.url} has {len(data)} bytes that are not "
                f"the {parcel.size} that were written: check that storage"
            )
            raise SinkError(msg)
        return data

    def drop(self, name: str) -> None:
        """Removes bytes; what cannot be removed now is when the folder is."""
        try:
            self._files.rm_file(f"{self._root}/{name}")
        except Exception as error:  # noqa: BLE001 - every driver raises its own kinds
            _log.debug("%s stays for now: %s", name, error)

    def remove(self) -> None:
        """Removes the folder with all that is left in it; safe to call twice.

        Raises:
            SinkError: It cannot be removed.
        """
        with self._told("tidied"), contextlib.suppress(FileNotFoundError):
            if self._files.exists(self._root):
                self._files.rm(self._root, recursive=True)

    def _check(self) -> None:
        """This machine must see the very folder that the driver has made."""
        if self._checked:
            return
        found = b""
        with self._told("read"), contextlib.suppress(FileNotFoundError):
            found = bytes(self._files.cat_file(f"{self._root}/{_SIGN}"))
        if found != self.place.token.encode():
            msg = (
                f"node {socket.gethostname()} does not see --work-dir {self.place.url} as the "
                "driver does: name a place that all nodes share"
            )
            raise SinkError(msg)
        self._checked = True

    def _write(self, name: str, data: bytes) -> None:
        """Writes a whole file or none; what object stores are told they keep whole anyway."""
        path = f"{self._root}/{name}"
        if not _is_local(self._files):
            self._files.pipe_file(path, data)
            return
        draft = Path(f"{path}.part")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Says in one line why the place refuses; every driver raises its own kinds of errors."""
        try:
            yield
        except Exception as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reason = text.strip().splitlines()[0] if text.strip() else type(error).__name__
            msg = (
                f"--work-dir {self.place.url} cannot be {what} on {socket.gethostname()} "
                f"({reason}): name a place that all nodes can write"
            )
            raise SinkError(msg) from error


def _is_local(files: Any) -> bool:
    protocol = files.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _file_system(url: str) -> tuple[Any, str]:
    """The driver for a URL, and the path within."""
    try:
        core = importlib.import_module("fsspec.core")
    except ImportError as error:
        msg = "--work-dir needs fsspec: pip install fsspec, here and on all nodes"
        raise ToolError(msg) from error
    try:
        files, root = core.url_to_fs(url)
    except ImportError as error:
        # its text names the package: "Install s3fs to access S3"
        text = str(error).strip().splitlines()[0]
        msg = f"--work-dir {url} needs a driver, here and on all nodes: {text}"
        raise ToolError(msg) from error
    except ValueError as error:
        msg = f"--work-dir takes a path or a URL such as s3://BUCKET/PREFIX, got {url!r}: {error}"
        raise UsageError(msg) from error
    return files, str(root)
