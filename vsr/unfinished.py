"""What interrupted jobs have left beside their targets: to be listed, gone on with, or removed."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vsr.errors import JournalError, UsageError
from vsr.io.journal import (
    Journal,
    files_of,
    find_folders,
    folder_of,
    in_use,
    read_journal,
    remove_job,
)
from vsr.planning import UpscaleJob
from vsr.recording import from_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """One interrupted job.

    Attributes:
        folder: Where its finished segments are, or will be once there is enough to keep.
        job: What it was; None if that cannot be read any more.
        frames: That are done.
        total: Frames of the source, None if unknown.
        size: Bytes of the finished segments.
        changed: When it last got on, in seconds since 1970.
        running: Whether a process works on it now.
    """

    folder: Path
    job: UpscaleJob | None
    frames: int
    total: int | None
    size: int
    changed: float
    running: bool


def find_unfinished(places: Iterable[Path], *, recursive: bool = False) -> list[Unfinished]:
    """Looks for interrupted jobs.

    Args:
        places: Folders that targets lie in, or targets.
        recursive: Look into folders within folders too.

    Raises:
        UsageError: A place is neither a folder nor the target of an unfinished job.
    """
    found = [folder for place in places for folder in _folders(place, recursive=recursive)]
    return [_described(folder) for folder in dict.fromkeys(found)]


def _folders(place: Path, *, recursive: bool) -> Iterator[Path]:
    own = folder_of(place)
    if own in find_folders(own.parent):
        yield own
    elif not place.is_dir():
        msg = f"{place} is neither a folder nor the target of an unfinished job: see `vsr jobs`"
        raise UsageError(msg)
    elif recursive:
        for inner, _, _ in os.walk(place):
            yield from find_folders(Path(inner))
    else:
        yield from find_folders(place)


def _described(folder: Path) -> Unfinished:
    journal, files = read_journal(folder) or Journal(), files_of(folder)
    total = journal.notes.get("total")
    try:
        job = from_plain(journal.notes.get("job"))
    except UsageError:
        job = None
    return Unfinished(
        folder=folder,
        job=job if isinstance(job, UpscaleJob) else None,
        frames=journal.frames,
        total=total if isinstance(total, int) else None,
        size=sum(path.stat().st_size for path in files),
        changed=max((path.stat().st_mtime for path in files), default=time.time()),
        running=in_use(folder),
    )


def remove(unfinished: Unfinished) -> None:
    """Removes what a job has left.

    Raises:
        JournalError: A process works on it.
    """
    if not remove_job(unfinished.folder):
        msg = f"{unfinished.folder} is in use by a running job: stop that first"
        raise JournalError(msg)
