"""Finished parts that wait for an earlier one: files beside the journal, whatever way they came."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vsr.cluster.workdir import Parcel, Place, WorkDir
from vsr.errors import SinkError
from vsr.io.atomic import sink_error
from vsr.io.journal import folder_of
from vsr.parts import Done

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def told(target: Path) -> Iterator[None]:
    """Says in one line why a job's disk refuses.

    Raises:
        SinkError: It does.
    """
    try:
        yield
    except OSError as error:
        raise sink_error(target, error) from error


class Aside:
    """Where parts of one job wait.

    Args:
        target: Of the job.
        work_dir: A path or URL that all machines share, through which bytes come.

    Raises:
        SinkError: The shared place cannot be written.
        ToolError: Its driver is missing.
        UsageError: No such kind of URL.
    """

    def __init__(self, target: Path, work_dir: str | None) -> None:
        self._target = target
        self._work = None if work_dir is None else WorkDir.begin(work_dir, target)

    @property
    def place(self) -> Place | None:
        """Through which bytes come; None for the crew's own way."""
        return None if self._work is None else self._work.place

    def path(self, number: int) -> Path:
        """The file of a part."""
        return folder_of(self._target) / f"{number:06d}.ahead"

    def put(self, done: Done) -> Done:
        """Writes a part's bytes into its file.

        Returns:
            The part without them.

        Raises:
            SinkError: The disk is full, or what came is not what was sent.
        """
        data = done.data
        if done.parcel and done.segment is not None and self._work is not None:
            size, sha256 = done.segment.size, done.segment.sha256
            data = self._work.take(Parcel(name=done.parcel, size=size, sha256=sha256))
        with told(self._target):
            self.path(done.number).write_bytes(data)
        if done.parcel and self._work is not None:
            self._work.drop(done.parcel)
        return replace(done, data=b"")

    def close(self) -> None:
        """Removes what is left in the shared place; safe to call twice."""
        work, self._work = self._work, None
        if work is None:
            return
        try:
            work.remove()
        except SinkError as error:  # the next run removes it
            _log.warning("%s", error)
