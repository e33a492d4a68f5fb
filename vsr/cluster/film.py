"""One job on its way: what is handed out, what came back, and the journal over it."""

import contextlib
import heapq
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vsr.cluster.cutting import Ticks, film_times, part_of
from vsr.errors import DeviceError, SinkError, UnsupportedSourceError, UsageError
from vsr.io.atomic import sink_error
from vsr.io.folder import Stills
from vsr.io.journal import JobFolder, folder_of, read_journal
from vsr.io.muxer import rehearse
from vsr.io.plan import OutputPlan
from vsr.io.segments import read_pieces
from vsr.jobs import Fetching, JobResult, load, peak_memory, warn_about_hdr
from vsr.outputs import is_faithful, open_sink
from vsr.parts import Done, Part, Recipe, Unfit, recipe_of
from vsr.planning import Prepared, UpscaleJob, prepare
from vsr.recording import plain
from vsr.resuming import computed, facts_of
from vsr.types import Progress

if TYPE_CHECKING:
    from vsr.engine.loading import Model

_log = logging.getLogger(__name__)

_ATTEMPTS: Final = 4
"""How often a part is given out before its losses are its own fault."""
_AND: Final = " and "


class Film:
    """A job that is made in parts, in any order; the journal gets them in order.

    Args:
        job: What to do.
        window: Parts that may be under way or wait for an earlier one.
        fetching: Who watches over a download.

    Attributes:
        job: What is to be done.
        recipe: What its parts share.
        model: The network.
        way: How parts are to be computed; empty until `begin` or a worker has said it.
        era: Grows when everything that is under way has become useless.

    Raises:
        VsrError: The job cannot work.
    """

    def __init__(self, job: UpscaleJob, window: int, fetching: Fetching | None = None) -> None:
        _refuse(job)
        self.job, self._window = job, window
        self._began = time.perf_counter()
        with ExitStack() as stack:
            self._prepared: Prepared = prepare(job, stack)
            self.recipe: Recipe = recipe_of(job, self._prepared)
            self.model: Model = load(job, self._prepared.factor, fetching or Fetching())
            warn_about_hdr(self._prepared.info, self.model)
            self._times: Ticks | None = film_times(job, self._prepared)
        self._rehearse()
        self.way: Mapping[str, Any] = {}
        self.era = 0
        self._folder: JobFolder | None = None
        self._next = self._fresh = self.begun = 0
        self._again: list[int] = []
        self._aside: dict[int, Done] = {}
        self._attempts: dict[int, int] = {}
        self._parts: int | None = None
        self._seen = ""
        self._damaged = self._reused = 0
        self._warned: set[str] = set()

    def _rehearse(self) -> None:
        plan, picture, source = self._prepared.plan, self.recipe.picture, self._prepared.source
        if isinstance(plan, OutputPlan):
            first = source.first_pts * source.info.time_base
            start, end = self.job.options.start, self.job.options.end
            trim = (None if start is None else first + start, None if end is None else first + end)
            file = None if isinstance(self.job.source, Stills) else self.job.source
            rehearse(plan, picture, file, trim, first + (start or 0))

    @property
    def name(self) -> str:
        """For people."""
        return self.job.target.name

    @property
    def _journal_folder(self) -> JobFolder:
        if self._folder is None:
            msg = f"{self.job.target} was not begun: call begin first"
            raise SinkError(msg)
        return self._folder

    def begin(self, device: str) -> None:
        """Opens the journal; what an earlier run has finished counts.

        Args:
            device: On what the parts are computed, for people.

        Raises:
            JournalError: An unfinished job of the same target is another one.
            SinkError: The folder cannot be made.
        """
        job, target = self.job, self.job.target
        if isinstance(job.source, str):  # an address may give something else next time
            self._folder = JobFolder(target, frames=job.segment)
        else:
            facts = facts_of(replace(job, device="cpu"), self._prepared, self.model)
            facts["the device"] = _known(device, target)
            self._folder = JobFolder(target, frames=job.segment, facts=facts, restart=job.restart)
            self._folder.note(job=plain(job), total=self._total)
        journal = self._folder.journal
        self.way = computed(self._folder)
        self._next = self._fresh = len(journal.segments)
        self.begun = journal.frames
        if journal.complete:
            self._parts = self._next
        elif self._times is not None:
            self._parts = -(-len(self._times) // job.segment)
        if journal.frames:
            seen = journal.notes.get("seen")
            self._seen = seen if isinstance(seen, str) and self.way else ""
            text = "going on with the unfinished %s: %d frames are there already"
            _log.warning(text, target, journal.frames)

    @property
    def _total(self) -> int | None:
        if self._times is not None:
            return len(self._times)
        return self.recipe.picture.frame_count

    @property
    def done(self) -> bool:
        """Whether all parts are in the journal."""
        return self._parts is not None and self._next >= self._parts

    @property
    def frames(self) -> int:
        """That are finished, those of an earlier run included."""
        aside = sum(done.segment.frames for done in self._aside.values() if done.segment)
        return aside + (0 if self._folder is None else self._folder.journal.frames)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            frames=self.frames,
            total=self._total,
            seconds=time.perf_counter() - self._began,
            size=(self.recipe.picture.width, self.recipe.picture.height),
            begun=self.begun,
        )

    def part(self) -> Part | None:
        """The next part to hand out; None if there is none at the moment."""
        if self._again:
            return self._described(heapq.heappop(self._again))
        last = self._parts is not None and self._fresh >= self._parts
        if last or self._fresh >= self._next + self._window:
            return None
        self._fresh += 1
        return self._described(self._fresh - 1)

    def _described(self, number: int) -> Part:
        self._attempts[number] = self._attempts.get(number, 0) + 1
        first = self._prepared.source.first_pts
        decoded = not isinstance(self.job.source, Stills)  # which are found by their names
        part = part_of(number, self._times, self.job.segment, first, common=decoded)
        # without knowing what its predecessor saw, only counting is sure
        unknown = number == self._next and number > 0 and not self._seen
        return Part(number=number) if unknown and part.before else part

    def give_back(self, part: Part) -> None:
        """Takes back a part that was not made, or whose worker is gone."""
        if self._next <= part.number < self._fresh:
            heapq.heappush(self._again, part.number)

    def lost(self, part: Part, reason: str) -> None:
        """Takes back a part whose worker is gone.

        Raises:
            DeviceError: That has happened too often.
        """
        if self._attempts.get(part.number, 0) >= _ATTEMPTS:
            what = "the start" if part.number < 0 else f"segment {part.number}"
            msg = (
                f"{what} of {self.job.source} ended its worker {_ATTEMPTS} times ({reason}): "
                "try a smaller --tile or --segment"
            )
            raise DeviceError(msg)
        _log.warning("%s: a worker is gone (%s): its work is done again", self.name, reason)
        self.give_back(part)

    def lost_before(self, reason: str) -> None:
        """A worker is gone before it has made anything.

        Raises:
            DeviceError: That has happened too often.
        """
        self._attempts[-1] = self._attempts.get(-1, 0) + 1
        self.lost(Part(number=-1), reason)

    def take(self, result: Done | Unfit) -> None:
        """Takes a result; what is next in order goes into the journal.

        Raises:
            SinkError: The disk is full, or what came is not what was sent.
        """
        if isinstance(result, Unfit):
            self._count_out(result.reason)
            return
        self._aside[result.number] = self._put_aside(result)
        while not self.done and (done := self._aside.pop(self._next, None)) is not None:
            if done.before and done.before != self._seen:
                self._count_out(f"seeking to segment {done.number} gave other pictures")
                return
            self._enter(done)

    def _put_aside(self, done: Done) -> Done:
        for text in done.warnings:
            if text not in self._warned:
                self._warned.add(text)
                _log.warning("%s", text)
        with self._told():
            self._path(done.number).write_bytes(done.data)
        return replace(done, data=b"")

    def _path(self, number: int) -> Path:
        return folder_of(self.job.target) / f"{number:06d}.ahead"

    @contextlib.contextmanager
    def _told(self) -> Any:
        try:
            yield
        except OSError as error:
            raise sink_error(self.job.target, error) from error

    def _enter(self, done: Done) -> None:
        """Writes the next segment and enters it into the journal."""
        path, folder = self._path(done.number), self._journal_folder
        self._damaged = max(self._damaged, done.damaged)
        self._reused += done.reused
        if done.segment is not None:
            with self._told():
                writer = folder.begin(done.number)
                for piece in read_pieces(path):
                    writer.add(piece)
                segment = writer.finish()
                path.unlink()
            if segment != done.segment:
                msg = (
                    f"segment {done.number} did not arrive as it was sent: a node or link is broken"
                )
                raise SinkError(msg)
            self._seen = done.after
            folder.note(computed=dict(done.way), seen=done.after)
            folder.add(segment)
            self._next += 1
        if done.ended:
            self._parts = self._next
        if dict(done.way) != dict(done.begun):
            self.way = done.way
            self._forget()

    def _count_out(self, reason: str) -> None:
        """Gives up the times of packets: from now on parts are found by counting frames."""
        _log.info("%s: %s: frames are counted from the beginning", self.name, reason)
        self._times = self._parts = None
        self._forget()

    def _forget(self) -> None:
        """Everything under way is useless."""
        self.era += 1
        self._fresh = self._next
        self._again.clear()
        self._aside.clear()
        self._attempts.clear()

    def join(self) -> JobResult:
        """Joins all segments, compares the result with the source, and gives it its name.

        Raises:
            VsrError: As at the end of a whole run.
        """
        folder, job = self._journal_folder, self.job
        if not folder.journal.frames:
            msg = f"no frame of {job.source} could be decoded: the file is damaged or empty"
            raise UnsupportedSourceError(msg)
        faithful = is_faithful(self.model) and job.faces is None
        sink = open_sink(job, self._prepared, folder, {}, faithful=faithful)
        frames = folder.journal.frames
        try:
            sink.finish()
        finally:
            sink.abort()
        return JobResult(
            frames=frames,
            begun=self.begun,
            seconds=time.perf_counter() - self._began,
            target=job.target,
            size=(self.recipe.picture.width, self.recipe.picture.height),
            bottleneck=None,
            damaged=self._damaged,
            peak_host_bytes=peak_memory(),
            precision=str(self.way.get("precision", "")),
            device=folder.journal.facts.get("the device", ""),
            reused=self._reused,
        )

    def close(self) -> None:
        """Lets go of the journal, which stays if it holds anything; safe to call twice."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        if folder.kept:
            text = "%d frames of %s are kept: the same command goes on from there"
            _log.warning(text, folder.journal.frames, self.job.target)
        folder.close()


def _refuse(job: UpscaleJob) -> None:
    """What only one machine can do.

    Raises:
        UsageError: The job asks for it.
    """
    for name, value in (("--manifest", job.manifest), ("--profile", job.profile)):
        if value is not None:
            msg = f"{name} is written by one machine alone: leave it out, or leave --cluster out"
            raise UsageError(msg)


def _known(device: str, target: Path) -> str:
    """The device as the journal tells it, if all workers of now are among those of then."""
    before = read_journal(folder_of(target))
    told = "" if before is None else before.facts.get("the device", "")
    return told if set(device.split(_AND)) <= set(told.split(_AND)) else device
