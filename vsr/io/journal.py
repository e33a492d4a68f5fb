"""The journal of a long job: finished segments beside the target, so that nothing is done twice.

A film is cut into segments of so many frames each, always at the same places. Each is encoded by
itself into a file, which is forced to the disk and then entered into the journal by one atomic
replacement. Whatever happens, the journal names only segments that are whole; the same job goes on
behind the last of them, and ends with the same bytes.

    .movie.mkv.3f….vsr-job/     hidden, beside the target, on its disk
        lock                    held while a process works on it
        journal.json            what the job is, and which segments are whole
        000000.packets …
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from vsr.errors import JournalError
from vsr.io.atomic import hidden_name, resolved, sink_error, sync_folder, try_lock
from vsr.io.segments import Segment, SegmentWriter, is_whole

_SUFFIX: Final = ".vsr-job"
_JOURNAL, _LOCK = "journal.json", "lock"
_FORMAT: Final = 1
FRAMES: Final = 500
"""Frames of a segment: twice the usual distance of key frames, so that hardly one is added."""


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
    ) -> None:
        self.frames = frames
        self._target, self._kept = target, facts is not None
        self._path = folder_of(target)
        with self._told():
            self._lock: int | None = _locked(self._path, target)
        try:
            with self._told():
                self.journal = self._found(facts or {}, restart=restart)
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _found(self, facts: Mapping[str, str], *, restart: bool) -> Journal:
        """The journal to go on with; whatever else lies in the folder is removed."""
        before = None if restart else read_journal(self._path)
        journal = Journal(facts=dict(facts))
        if before is not None and not self._kept:
            msg = (
                f"{self._target} is the target of an unfinished job: go on with it (`vsr jobs "
                "resume`), remove it (`vsr jobs clean`), or choose another name"
            )
            raise JournalError(msg)
        if before is not None:
            _compare(before.facts, facts, self._target)
            journal = _checked(self._path, before)
        keep = {_LOCK, *(path.name for path in self._paths(journal))}
        keep |= {_JOURNAL} if journal.segments else set()
        for entry in list(self._path.iterdir()):
            if entry.name not in keep:
                entry.unlink()
        return journal

    @property
    def kept(self) -> bool:
        """Whether something would be left for the next run."""
        return self._kept and bool(self.journal.segments)

    def note(self, **notes: object) -> None:
        """Remembers something, together with the next segment."""
        self.journal = replace(self.journal, notes={**self.journal.notes, **notes})

    def begin(self, number: int) -> SegmentWriter:
        """Opens the file of a segment, counted from 0."""
        with self._told():
            return SegmentWriter(self._path / _name(number))

    def add(self, segment: Segment) -> None:
        """Enters a finished segment into the journal."""
        self._write(replace(self.journal, segments=(*self.journal.segments, segment)))

    def complete(self) -> None:
        """Remembers that no segment is missing."""
        self._write(replace(self.journal, complete=True))

    def paths(self) -> list[Path]:
        """Files of the segments, in order."""
        return self._paths(self.journal)

    def _paths(self, journal: Journal) -> list[Path]:
        return [self._path / _name(number) for number in range(len(journal.segments))]

    def _write(self, journal: Journal) -> None:
        self.journal = journal
        if not self._kept:
            return
        draft = self._path / f"{_JOURNAL}.new"
        with self._told():
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
        self._kept = False
        shutil.rmtree(self._path, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

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
    """The folders of all jobs whose targets lie in a folder."""
    return sorted(folder.glob(f".*{_SUFFIX}"))


def in_use(folder: Path) -> bool:
    """Whether a process works on a job's folder."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return try_lock(lock) is False
    finally:
        os.close(lock)


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


def _locked(folder: Path, target: Path) -> int:
    """Makes the folder, unless it is there, and takes its lock."""
    path = folder / _LOCK
    while True:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed by who has finished just now
            lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            if try_lock(lock) is False:
                os.close(lock)
                msg = f"{target} is being written by another process: wait, or choose another name"
                raise JournalError(msg)
            try:
                if os.path.samestat(os.fstat(lock), path.stat()):
                    return lock
            except FileNotFoundError:
                os.close(lock)
                raise
            os.close(lock)
