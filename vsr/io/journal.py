"""The journal of a long job: finished segments beside the target, so that nothing is done twice.

A film is cut into segments of so many frames each, always at the same places. Each is encoded by
itself into a file, which is forced to the disk and then entered into the journal by one atomic
replacement. Whatever happens, the journal names only segments that are whole; the same job goes on
behind the last of them, and ends with the same bytes.

What would be done again in a moment is not worth keeping: until a segment is finished that long
after the job began, the segments are drafts, and whatever ends the job ends them.

    .movie.mkv.3f….vsr-lock     hidden, beside the target, on its disk; held by who works on it
    .movie.mkv.3f….000000.vsr-draft …
    .movie.mkv.3f….vsr-job/
        journal.json            what the job is, and which segments are whole
        000000.packets …
"""

import contextlib
import glob
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from vsr.errors import JournalError
from vsr.io.atomic import hidden_name, resolved, sink_error, sync_folder, try_lock
from vsr.io.segments import Segment, SegmentWriter, is_whole

_SUFFIX: Final = ".vsr-job"
_LOCK: Final = ".vsr-lock"
_DRAFT: Final = ".vsr-draft"
_JOURNAL: Final = "journal.json"
_FORMAT: Final = 1
FRAMES: Final = 500
"""Frames of a segment: twice the usual distance of key frames, so that hardly one is added."""
KEEP_AFTER: Final = 60.0
"""Seconds of work that nobody wants to wait for twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What is known of a job.

    Attributes:
        facts: What must be the same when it goes on, by name.
        notes: What else is remembered, such as how it was called.
        segments: Those that are whole.
        complete: Whether they are all.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    complete: bool = False

    @property
    def frames(self) -> int:
        """Pictures in all segments."""
        return sum(segment.frames for segment in self.segments)


class JobFolder:
    """The folder of one job beside its target; locked while open.

    Args:
        target: Of the job.
        frames: In each segment but the last.
        facts: What the job is; what an earlier run left is gone on with if it says the same. None
            for a job that cannot go on, because its source can be read only once.
        restart: Forget what an earlier run left.
        keep_after: Seconds from now until finished segments are kept; 0 makes the folder at once.

    Attributes:
        journal: What is done.
        frames: In each segment but the last.

    Raises:
        JournalError: An earlier run was another job, or still runs.
        SinkError: The folder cannot be made or read.
    """

    def __init__(
        self,
        target: Path,
        *,
        frames: int = FRAMES,
        facts: Mapping[str, str] | None = None,
        restart: bool = False,
        keep_after: float = 0,
    ) -> None:
        self.frames = frames
        self._target, self._resumable = target, facts is not None
        self._path, self._settled = folder_of(target), False
        self._keep_from = time.monotonic() + keep_after
        with self._told():
            self._lock: int | None = _locked(self._path, target)
        try:
            with self._told():
                self.journal = self._found(facts or {}, restart=restart)
                if keep_after <= 0:
                    self._path.mkdir(exist_ok=True)
                    self._settled = True
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _found(self, facts: Mapping[str, str], *, restart: bool) -> Journal:
        """The journal to go on with; whatever else an earlier run left is removed."""
        before = None if restart else read_journal(self._path)
        journal = Journal(facts=dict(facts))
        if before is not None and not self._resumable:
            msg = (
                f"{self._target} is the target of an unfinished job: go on with it (`vsr jobs "
                "resume`), remove it (`vsr jobs clean`), or choose another name"
            )
            raise JournalError(msg)
        if before is not None:
            _compare(before.facts, facts, self._target)
            journal = _checked(self._path, before)
        _unlink(_drafts(self._path))
        if not journal.segments:
            shutil.rmtree(self._path, ignore_errors=True)
            return journal
        self._settled = True
        keep = {_JOURNAL, *(_name(number) for number in range(len(journal.segments)))}
        _unlink(entry for entry in self._path.iterdir() if entry.name not in keep)
        return journal

    @property
    def kept(self) -> bool:
        """Whether something would be left for the next run."""
        return self._resumable and self._settled and bool(self.journal.segments)

    def note(self, **notes: object) -> None:
        """Remembers something, together with the next segment."""
        self.journal = replace(self.journal, notes={**self.journal.notes, **notes})

    def begin(self, number: int) -> SegmentWriter:
        """Opens the file of a segment, counted from 0."""
        with self._told():
            return SegmentWriter(self._place(number))

    def add(self, segment: Segment) -> None:
        """Enters a finished segment into the journal."""
        self._write(replace(self.journal, segments=(*self.journal.segments, segment)))

    def complete(self) -> None:
        """Remembers that no segment is missing."""
        self._write(replace(self.journal, complete=True))

    def paths(self) -> list[Path]:
        """Files of the segments, in order."""
        return [self._place(number) for number in range(len(self.journal.segments))]

    def _place(self, number: int) -> Path:
        """The file of a segment; one that was begun as a draft stays there until it is whole."""
        draft = _draft(self._path, number)
        return self._path / _name(number) if self._settled and not draft.exists() else draft

    def _write(self, journal: Journal) -> None:
        self.journal = journal
        if not self._resumable:
            return
        with self._told():
            if time.monotonic() >= self._keep_from and not self._settled:
                self._path.mkdir()
                self._settled = True
            if self._settled:
                self._keep(journal)

    def _keep(self, journal: Journal) -> None:
        for number in range(len(journal.segments)):
            place = self._path / _name(number)
            with contextlib.suppress(FileNotFoundError):  # it was no draft
                _draft(self._path, number).replace(place)
        draft = self._path / f"{_JOURNAL}.new"
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, **asdict(journal)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path / _JOURNAL)
        sync_folder(self._path)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Lets go; finished segments stay for the next run. Safe to call twice."""
        if self._lock is None:
            return
        if not self.kept:
            self.remove()
        self._unlock()

    def remove(self) -> None:
        """Removes everything; what the journal said can still be asked."""
        self._resumable = False
        _erase(self._path)
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            _unlocked(self._path, lock)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Says in one line why the disk refuses."""
        try:
            yield
        except OSError as error:
            raise sink_error(self._target, error) from error


def folder_of(target: Path) -> Path:
    """Where the job of a target keeps its segments."""
    target = resolved(target)
    return target.parent / f"{hidden_name(target)}{_SUFFIX}"


def find_folders(folder: Path) -> list[Path]:
    """The folders of all jobs whose targets lie in a folder; not all of them are made yet."""
    found = {path.with_suffix(_SUFFIX) for path in folder.glob(f".*{_LOCK}")}
    return sorted(found.union(folder.glob(f".*{_SUFFIX}")))


def files_of(folder: Path) -> list[Path]:
    """The files of a job, by its folder: its segments, its journal and its drafts."""
    return [*(folder.iterdir() if folder.is_dir() else ()), *_drafts(folder)]


def in_use(folder: Path) -> bool:
    """Whether a process works on a job, by its folder."""
    try:
        lock = os.open(folder.with_suffix(_LOCK), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return try_lock(lock) is False
    finally:
        os.close(lock)


def remove_job(folder: Path) -> bool:
    """Removes what a job has left, by its folder; False if a process works on it."""
    lock = _try_locked(folder)
    if lock is None:
        return False
    _erase(folder)
    _unlocked(folder, lock)
    return True


def read_journal(folder: Path) -> Journal | None:
    """Reads the journal of a job's folder; None if there is none that can be understood."""
    try:
        told = json.loads((folder / _JOURNAL).read_text(encoding="utf-8"))
        if told["format"] != _FORMAT:
            return None
        return Journal(
            facts=told["facts"],
            notes=told["notes"],
            segments=tuple(Segment(**segment) for segment in told["segments"]),
            complete=told["complete"],
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _checked(folder: Path, journal: Journal) -> Journal:
    """The journal up to the first segment whose file is not what was written."""
    whole = 0
    for number, segment in enumerate(journal.segments):
        if not is_whole(folder / _name(number), segment):
            break
        whole += 1
    complete = journal.complete and whole == len(journal.segments)
    return replace(journal, segments=journal.segments[:whole], complete=complete)


def _compare(before: Mapping[str, str], now: Mapping[str, str], target: Path) -> None:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        name = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        msg = (
            f"the unfinished job of {target} had {name} {before.get(name, 'not set')}, now it is "
            f"{now.get(name, 'not set')}{more}: give the same to go on, or --restart to begin anew"
        )
        raise JournalError(msg)


def _name(number: int) -> str:
    return f"{number:06d}.packets"


def _draft(folder: Path, number: int) -> Path:
    return folder.with_suffix(f".{number:06d}{_DRAFT}")


def _drafts(folder: Path) -> Iterator[Path]:
    return folder.parent.glob(f"{glob.escape(folder.stem)}.*{_DRAFT}")


def _erase(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _unlink(_drafts(folder))


def _unlink(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)


def _locked(folder: Path, target: Path) -> int:
    """Takes the lock of a job.

    Raises:
        JournalError: A process works on it.
    """
    lock = _try_locked(folder)
    if lock is None:
        msg = f"{target} is being written by another process: wait, or choose another name"
        raise JournalError(msg)
    return lock


def _try_locked(folder: Path) -> int | None:
    path = folder.with_suffix(_LOCK)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, lock)
            if try_lock(lock) is False:
                return None
            # who held it may have removed it since it was opened
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), path.stat()):
                    stack.pop_all()
                    return lock


def _unlocked(folder: Path, lock: int) -> None:
    """Gives the lock back and removes its file, in the order that the system allows."""
    path = folder.with_suffix(_LOCK)
    if os.name == "nt":
        os.close(lock)
        with contextlib.suppress(PermissionError):  # another has taken it by now
            path.unlink(missing_ok=True)
    else:
        path.unlink(missing_ok=True)
        os.close(lock)
