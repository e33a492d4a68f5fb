"""Where downloaded checkpoints lie, and that they are what they should be. Free of torch."""

import logging
import os
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal, Protocol

from vsr.checkpoints.download import Opener, Report, download, open_https, sha256_of
from vsr.errors import CheckpointError, DownloadError

_LOG = logging.getLogger(__name__)

type Status = Literal["embedded", "absent", "good", "damaged"]


class Remote(Protocol):
    """What must be known of a published checkpoint; `vsr.models.catalog.Published` is one."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def filename(self) -> str:
        """Name in the cache."""
        ...

    @property
    def url(self) -> str | None:
        """Where it is downloaded from."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes, None if unknown."""
        ...

    @property
    def sha256(self) -> str | None:
        """Digest, None if not pinned."""
        ...

    @property
    def embedded(self) -> str | None:
        """File name within `vsr.embedded`."""
        ...


def cache_dir() -> Path:
    """The folder of downloads; it may not exist yet.

    `VSR_CACHE` if set; else `vsr` under `XDG_CACHE_HOME` or `~/.cache`, on macOS under
    `~/Library/Caches`, on Windows under `LOCALAPPDATA`.
    """
    if chosen := os.environ.get("VSR_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vsr"
    variable, fallback = ("XDG_CACHE_HOME", ".cache")
    if sys.platform == "win32":
        variable, fallback = ("LOCALAPPDATA", "AppData/Local")
    base = Path(os.environ.get(variable, ""))
    return (base if base.is_absolute() else Path.home() / fallback) / "vsr"


def cached_path(entry: Remote) -> Path:
    """Where the file of a checkpoint lies, or will lie."""
    if entry.embedded is not None:
        return Path(str(resources.files("vsr.embedded"))) / entry.embedded
    return cache_dir() / "models" / entry.filename


def verify(entry: Remote) -> Status:
    """Compares a cached file with its pinned, or first recorded, size and digest."""
    path = cached_path(entry)
    if not path.is_file():
        return "absent"
    if entry.embedded is not None:
        return "embedded"
    if entry.size not in {None, path.stat().st_size}:
        return "damaged"
    return "good" if sha256_of(path) == _expected(entry, path) else "damaged"


def ensure(
    entry: Remote,
    *,
    offline: bool = False,
    confirm: Callable[[str], bool] | None = None,
    progress: Report | None = None,
    open_url: Opener = open_https,
) -> Path:
    """Gives the verified local file of a checkpoint, downloading it where it is not there.

    Args:
        entry: From the catalogue.
        offline: Never download; the environment variable `VSR_OFFLINE` says the same.
        confirm: Asked a question before a file without a pinned digest is downloaded for the first
            time; None means no.
        progress: Told (bytes so far, bytes in all or 0).
        open_url: Replaced by tests.

    Raises:
        DownloadError: It is not there and cannot or may not be downloaded, or is not what it
            should be.
        CheckpointError: An embedded file is missing from the installation.
    """
    path = cached_path(entry)
    status = verify(entry)
    if status in {"embedded", "good"}:
        return path
    if entry.embedded is not None:
        msg = f"{entry.name} is missing from this installation ({path.name}): install vsr again"
        raise CheckpointError(msg)
    _check_allowed(entry, path, status, offline=offline, confirm=confirm)
    if status == "damaged":
        _LOG.warning("%s in the cache is damaged: it is downloaded again", path.name)
    _download(entry, path, progress, open_url)
    return path


def _check_allowed(
    entry: Remote,
    path: Path,
    status: Status,
    *,
    offline: bool,
    confirm: Callable[[str], bool] | None,
) -> None:
    if entry.url is None:
        msg = f"{entry.name} has no address to download it from: {_by_hand(entry)}"
        raise DownloadError(msg)
    if offline or os.environ.get("VSR_OFFLINE", "").casefold() not in {"", "0", "false", "no"}:
        msg = (
            f"{entry.name} is {status} in the cache and offline mode forbids downloads: run "
            f"`vsr models get {entry.name}` while online, or put the file at {path}"
        )
        raise DownloadError(msg)
    if entry.sha256 is not None:
        return
    if status == "damaged":
        msg = (
            f"{path.name} in the cache is not the file that was confirmed when it was first "
            f"downloaded: delete {path} and {_record(path).name} to download it anew"
        )
        raise DownloadError(msg)
    question = (
        f"No digest of {entry.name} is known to vsr, so the first download cannot be verified. "
        f"Download it from {entry.url} and trust it from now on?"
    )
    if confirm is None or not confirm(question):
        msg = (
            f"{entry.name} has no pinned digest and its first download was not confirmed: run "
            f"`vsr models get {entry.name}` and answer yes, or name a file with --model-path"
        )
        raise DownloadError(msg)


def _by_hand(entry: Remote) -> str:
    """What to do for a checkpoint that only a person can get."""
    page: str | None = getattr(entry, "page", None)
    found = f"get it by hand from {page}, then" if page else "get its file and"
    return f"{found} name the file with --model-path"


def _download(entry: Remote, path: Path, progress: Report | None, open_url: Opener) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = download(
            entry.url or "",
            path,
            size=entry.size,
            sha256=entry.sha256,
            report=progress,
            open_url=open_url,
        )
        if entry.sha256 is None:
            _record(path).write_text(f"{digest}  {path.name}\n", encoding="ascii")
    except OSError as error:
        msg = f"the cache {path.parent} cannot be written: {error.strerror or error}"
        raise DownloadError(msg) from error


def _record(path: Path) -> Path:
    """Where the digest of an unpinned file is kept once it has been confirmed."""
    return path.with_name(f"{path.name}.sha256")


def _expected(entry: Remote, path: Path) -> str | None:
    if entry.sha256 is not None:
        return entry.sha256
    try:
        return _record(path).read_text(encoding="ascii")[:64]
    except (OSError, ValueError):
        return None
