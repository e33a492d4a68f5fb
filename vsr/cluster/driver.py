"""Films and a crew together: errands go out, segments come back, until all films are joined."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vsr.cluster.crew import Answer, Crew, Errand, Lost, Unseen, Way
from vsr.cluster.film import Film
from vsr.cluster.packing import frames_of, packs
from vsr.errors import SourceNotFoundError, UsageError, VsrError
from vsr.io.folder import Stills
from vsr.jobs import Fetching, JobResult
from vsr.planning import UpscaleJob
from vsr.types import Progress

_WAIT: Final = 0.2
"""Seconds between two looks at the user's wishes."""
_AHEAD: Final = 8
"""Parts for each worker that may wait for an earlier one."""
_STARTING: Final = 4
"""Workers to plan with while none is there yet."""
_OPEN: Final = 16
"""Most films that are under way at once."""
_numbers = itertools.count()
"""Of films: a crew may still answer what an earlier batch has asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of many jobs.

    Attributes:
        done: By the target.
        failed: Likewise.
    """

    done: Mapping[Path, JobResult]
    failed: Mapping[Path, VsrError]


def run(
    job: UpscaleJob,
    crew: Crew,
    report: Callable[[Progress], None] = lambda _: None,
    fetching: Fetching | None = None,
    *,
    work_dir: str | None = None,
) -> JobResult:
    """Upscales one file with a crew.

    Args:
        job: What to do; `profile` is not for crews.
        crew: Who does it; not closed here.
        report: Called from this thread a few times a second, and once at the end.
        fetching: Who watches over a download.
        work_dir: A path or URL that all machines share, through which bytes travel; None for the
            crew's own way.

    Raises:
        VsrError: As `vsr.jobs.run`; what is finished is kept.
    """
    result = run_all([job], crew, report, fetching, work_dir=work_dir)
    for error in result.failed.values():
        raise error
    return result.done[job.target]


def run_all(
    jobs: Iterable[UpscaleJob],
    crew: Crew,
    report: Callable[[Progress], None] = lambda _: None,
    fetching: Fetching | None = None,
    finished: Callable[[UpscaleJob, JobResult | VsrError], None] = lambda *_: None,
    *,
    work_dir: str | None = None,
) -> BatchResult:
    """Upscales many files with a crew; one that fails does not stop the others.

    Args:
        jobs: What to do.
        crew: Who does it; not closed here.
        report: Called from this thread a few times a second, with all films as one.
        fetching: Who watches over a download.
        finished: Told what has become of each job.
        work_dir: As of `run`.

    Raises:
        VsrError: The crew is gone, or the user has stopped everything.
    """
    work = _Work(list(jobs), crew, fetching or Fetching(), finished, work_dir)
    try:
        while work.unfinished:
            work.hand_out()
            for answer in crew.answers(_WAIT):
                work.take(answer)
            work.join()
            report(work.progress)
    finally:
        work.close()
    return BatchResult(done=work.done, failed=work.failed)


class _Work:
    """All films of a batch."""

    def __init__(
        self,
        jobs: Sequence[UpscaleJob],
        crew: Crew,
        fetching: Fetching,
        finished: Callable[[UpscaleJob, JobResult | VsrError], None],
        work_dir: str | None,
    ) -> None:
        self._waiting = [(next(_numbers), job) for job in jobs][::-1]
        self._crew, self._fetching, self._finished = crew, fetching, finished
        self._work_dir = work_dir
        self._films: dict[int, Film] = {}
        self._asked: dict[tuple[str, str], int] = {}
        self._ways: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._models: dict[int, str] = {}
        self._began, self._count = time.perf_counter(), len(jobs)
        self.done: dict[Path, JobResult] = {}
        self.failed: dict[Path, VsrError] = {}

    @property
    def unfinished(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._waiting or self._films)

    @property
    def progress(self) -> Progress:
        """All films as one."""
        films = [film.progress for film in self._films.values()]
        done = [result.progress for result in self.done.values()]
        every = [*films, *done]
        totals = [one.total for one in every]
        known = None if self._waiting else sum(total or 0 for total in totals)
        return Progress(
            frames=sum(one.frames for one in every),
            total=None if None in totals else known,
            seconds=time.perf_counter() - self._began,
            size=every[-1].size if every else (0, 0),
            begun=sum(one.begun for one in every),
        )

    def hand_out(self) -> None:
        """Gives the crew as much as it takes."""
        while (free := self._crew.free()) > 0:
            errands = self._errands(free)
            given = 0
            for pack in packs(errands):
                if given < free:
                    self._crew.give(pack)
                    given += 1
                else:
                    self._take_back(pack)
            if given < free:
                return

    def _take_back(self, errands: Iterable[Errand]) -> None:
        for errand in errands:
            if errand.part is not None:
                self._films[errand.film].give_back(errand.part)
            else:
                self._asked.pop(_kind(errand), None)

    def _errands(self, most: int) -> list[tuple[Errand, int]]:
        """Errands of about so many segments in all, of the first films first."""
        found: list[tuple[Errand, int]] = []
        weight = 0.0
        for number in self._opened():
            film = self._films[number]
            try:
                while weight < most and (errand := self._errand(number, film)) is not None:
                    found.append((errand, film.job.segment))
                    weight += frames_of(errand, film.job.segment) / film.job.segment
            except VsrError as error:
                found = [one for one in found if one[0].film != number]
                self._fail(number, film.job, error)
            if weight >= most:
                break
        return found

    def _opened(self) -> Iterator[int]:
        """Films under way, and further ones as they are asked for."""
        yield from list(self._films)
        while self._waiting and len(self._films) < _OPEN:
            number, job = self._waiting.pop()
            try:
                film = Film(job, _AHEAD * max(_STARTING, self._crew.workers), self._fetching)
                self._films[number] = film
                film.begin(self._crew.device, self._work_dir)
                self._models[number] = self._crew.share(film.model)
            except VsrError as error:
                self._fail(number, job, error)
            else:
                yield number

    def _errand(self, number: int, film: Film) -> Errand | None:
        if film.done:
            return None
        kind = film.recipe.kind, self._models[number]
        film.way = film.way or self._ways.get(kind, {})
        part = film.part() if film.way else None
        if part is None:
            # one film asks for all of its kind
            if film.way or kind in self._asked:
                return None
            self._asked[kind] = number
        return Errand(
            film=number,
            name=film.name,
            recipe=film.recipe,
            model=self._models[number],
            part=part,
            way=film.way,
            era=film.era,
            likeness="" if part is None else film.likeness(part),
            place=film.place,
        )

    def take(self, answer: Answer) -> None:
        """Takes what a worker says."""
        errand, outcome = answer.errand, answer.outcome
        film = self._films.get(errand.film)
        if isinstance(outcome, Way):
            self._ways[_kind(errand)] = outcome.way
            return
        if errand.part is None:
            self._asked.pop(_kind(errand), None)
        if film is None or film.era != errand.era:
            return
        try:
            match outcome:
                case Lost():
                    self._lost(film, errand, outcome)
                case Unseen():
                    msg = (
                        f"node {outcome.host} does not see the source {film.job.source}: put it "
                        "on a path that all nodes share"
                    )
                    raise SourceNotFoundError(msg)
                case VsrError():
                    raise outcome
                case _:
                    film.take(outcome)
        except VsrError as error:
            self._fail(errand.film, film.job, error)

    def _lost(self, film: Film, errand: Errand, outcome: Lost) -> None:
        if errand.part is None:
            film.lost_before(outcome.reason)
        else:
            film.lost(errand.part, outcome.reason)

    def join(self) -> None:
        """Joins the films whose segments are all there."""
        for number, film in list(self._films.items()):
            if not film.done:
                continue
            try:
                result = film.join()
            except VsrError as error:
                self._fail(number, film.job, error)
                continue
            del self._films[number]
            film.close()
            self._crew.forget(number)
            self.done[film.job.target] = result
            self._finished(film.job, result)

    def _fail(self, number: int, job: UpscaleJob, error: VsrError) -> None:
        film = self._films.pop(number, None)
        if film is not None:
            film.close()
            self._crew.forget(number)
        self.failed[job.target] = error
        self._finished(job, error)

    def close(self) -> None:
        """Lets go of all journals."""
        for film in self._films.values():
            film.close()


def _kind(errand: Errand) -> tuple[str, str]:
    return errand.recipe.kind, errand.model


def on_shared_paths(job: UpscaleJob) -> UpscaleJob:
    """The job with absolute names, as a worker in another folder must know them.

    Raises:
        UsageError: An address, which every worker would read from its beginning.
    """
    match job.source:
        case Path():
            return replace(job, source=job.source.absolute(), target=job.target.absolute())
        case Stills():
            paths = tuple(path.absolute() for path in job.source.paths)
            source = replace(job.source, paths=paths)
            return replace(job, source=source, target=job.target.absolute())
    msg = f"{job.source} is an address: download it to a folder that all nodes share"
    raise UsageError(msg)
