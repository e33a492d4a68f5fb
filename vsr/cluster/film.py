"""One job on its way: what is handed out, what came back, and the journal over it."""

import heapq
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vsr.cluster.aside import Aside, told
from vsr.cluster.cutting import Ticks, film_times, part_of
from vsr.cluster.likeness import files_of, likeness
from vsr.cluster.workdir import Place
from vsr.errors import DeviceError, SinkError, SourceError, UnsupportedSourceError, UsageError
from vsr.io.folder import Stills
from vsr.io.journal import JobFolder, folder_of, read_journal
from vsr.io.muxer import rehearse
from vsr.io.plan import OutputPlan
from vsr.io.segments import read_pieces
from vsr.jobs import Fetching, JobResult, load, peak_memory, warn_about_hdr
from vsr.manifest import collected, now, record, tags_for
from vsr.outputs import is_faithful, open_sink
from vsr.parts import Done, Part, Recipe, Unfit, recipe_of
from vsr.planning import Prepared, UpscaleJob, prepare
from vsr.resuming import announce, computed, facts_of, opened
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
        self._date = now()
        with ExitStack() as stack:
            self._warnings = stack.enter_context(collected())
            self._prepared: Prepared = prepare(job, stack)
            self.recipe: Recipe = recipe_of(job, self._prepared)
            self.model: Model = load(
                job,
                self._prepared.factor,
                fetching or Fetching(),
                lossy=self._prepared.info.lossy,
            )
            warn_about_hdr(self._prepared.info, self.model)
            self._times: Ticks | None = film_times(job, self._prepared)
            self._likeness = "" if isinstance(job.source, Stills) else self._look(None)
        self._rehearse()
        self.way: Mapping[str, Any] = {}
        self.era = 0
        self._folder: JobFolder | None = None
        self._aside: Aside | None = None
        self._next = self._fresh = self.begun = 0
        self._again: list[int] = []
        self._waiting: dict[int, Done] = {}
        self._attempts: dict[int, int] = {}
        self._parts: int | None = None
        self._seen = ""
        self._damaged = self._reused = 0

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
    def place(self) -> Place | None:
        """Through which bytes travel; None for the crew's own way."""
        return None if self._aside is None else self._aside.place

    def likeness(self, part: Part) -> str:
        """Of the files that a part needs, by which a worker knows them.

        Raises:
            SourceError: They cannot be read.
        """
        return self._likeness or self._look(part)

    def _look(self, part: Part | None) -> str:
        source = self.job.source
        if isinstance(source, str):
            return ""
        try:
            chosen = files_of(source, part or Part(number=0))
            return likeness([path for _, path in chosen])
        except OSError as error:
            msg = f"{source} cannot be read: {error.strerror or error}"
            raise SourceError(msg) from error

    @property
    def _journal_folder(self) -> JobFolder:
        if self._folder is None:
            msg = f"{self.job.target} was not begun: call begin first"
            raise SinkError(msg)
        return self._folder

    @property
    def _open_aside(self) -> Aside:
        if self._aside is None:
            msg = f"{self.job.target} was not begun: call begin first"
            raise SinkError(msg)
        return self._aside

    def begin(self, device: str, work_dir: str | None = None) -> None:
        """Opens the journal; what an earlier run has finished counts.

        Args:
            device: On what the parts are computed, for people.
            work_dir: A path or URL that all machines share, through which bytes travel.

        Raises:
            JournalError: An unfinished job of the same target is another one.
            SinkError: The folder, or its like in the shared place, cannot be made.
        """
        job, target = self.job, self.job.target
        facts = None
        if not isinstance(job.source, str):  # an address may give something else next time
            facts = facts_of(replace(job, device="cpu"), self._prepared, self.model)
            facts["the device"] = _known(device, target)
        # finished parts wait in the folder for earlier ones, so it must be there
        self._folder = opened(replace(job, keep_after=0), target, facts, self._total)
        self._aside = Aside(target, work_dir)  # now that nobody else works on this target
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
        aside = sum(done.segment.frames for done in self._waiting.values() if done.segment)
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
        for text in result.warnings:
            if text not in self._warnings:
                self._warnings.append(text)
                _log.warning("%s", text)
        self._waiting[result.number] = self._open_aside.put(result)
        while not self.done and (done := self._waiting.pop(self._next, None)) is not None:
            if done.before and done.before != self._seen:
                self._count_out(f"seeking to segment {done.number} gave other pictures")
                return
            self._enter(done)

    def _enter(self, done: Done) -> None:
        """Writes the next segment and enters it into the journal."""
        path, folder = self._open_aside.path(done.number), self._journal_folder
        self._damaged = max(self._damaged, done.damaged)
        self._reused += done.reused
        if done.segment is not None:
            with told(self.job.target):
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
        self._waiting.clear()
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
        facts = folder.journal.facts
        tags = tags_for(job, facts)
        frames = folder.journal.frames
        with collected() as warned:
            sink = open_sink(job, self._prepared, folder, tags, faithful=faithful)
            try:
                sink.finish()
            finally:
                sink.abort()
        seconds = time.perf_counter() - self._began
        if job.manifest is not None:
            timing = {"seconds": seconds, "busy": {}, "begun": self.begun}
            made = record(
                job, facts, folder, computed=dict(self.way), frames=frames, begun=self._date,
                timing=timing, warnings=(*self._warnings, *warned),
            )  # fmt: skip
            made.save(job.manifest)
        return JobResult(
            frames=frames,
            begun=self.begun,
            seconds=seconds,
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
        aside, self._aside = self._aside, None
        if aside is not None:
            aside.close()
        if folder is None:
            return
        announce(folder, self.job.target)
        folder.close()


def _refuse(job: UpscaleJob) -> None:
    """What only one machine can do.

    Raises:
        UsageError: The job asks for it.
    """
    if job.profile is not None:
        msg = (
            "--profile traces the stages of one process: leave --cluster out for it, or use "
            "`ray timeline`, which shows every segment on its worker"
        )
        raise UsageError(msg)


def _known(device: str, target: Path) -> str:
    """The device as the journal tells it, if all workers of now are among those of then."""
    before = read_journal(folder_of(target))
    told = "" if before is None else before.facts.get("the device", "")
    return told if set(device.split(_AND)) <= set(told.split(_AND)) else device
