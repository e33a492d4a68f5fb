"""The frames of one part, found by their times or by counting."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice

import numpy as np

from vsr.errors import SourceError, SourceNotFoundError, UsageError
from vsr.io.av_source import AvSource, SourceOptions, open_source
from vsr.io.folder import Stills
from vsr.io.stills import StillsSource
from vsr.parts.values import Part, Recipe, common_frames
from vsr.planning import UpscaleJob
from vsr.types import Frame


class UnfitError(Exception):
    """Not for users: a part cannot be found by the times of its frames."""


class Frames:
    """Finds the frames of parts.

    Args:
        job: Whose source is read.
        options: How.
        recipe: Of the job.
    """

    def __init__(self, job: UpscaleJob, options: SourceOptions, recipe: Recipe) -> None:
        self._job, self._options, self._recipe = job, options, recipe
        self._counted = _Counted(self._open)

    def of(self, part: Part, taken: "Taken") -> Iterator[Frame]:
        """The frames of a part.

        Args:
            part: Which.
            taken: Looks at them, and at those before.

        Raises:
            UnfitError: They are not where the part says.
            SourceError: The source cannot be read.
        """
        return self._counted.part(taken) if part.times is None else self._sought(part, taken)

    @property
    def damaged(self) -> int:
        """Frames that were concealed while counting."""
        return self._counted.damaged

    def close(self) -> None:
        """Lets go of the source."""
        self._counted.close()

    def _open(self) -> AvSource | StillsSource:
        if isinstance(self._job.source, Stills):
            return StillsSource(self._job.source, self._options, self._job.readers)
        return open_source(self._job.source, self._options)

    def _sought(self, part: Part, taken: "Taken") -> Iterator[Frame]:
        """The frames of a part by their times; whatever is not as foreseen makes it unfit."""
        times = part.times or ()
        if isinstance(self._job.source, Stills):
            yield from self._stills(self._job.source, times)
            return
        try:
            with closing(open_source(self._job.source, self._near(part))) as source:
                self._compare(source, part)
                expected = iter((*part.before, *times))
                for frame in source:
                    if frame.pts != next(expected, None) or not self._alike(frame):
                        msg = f"another frame than its packets say at {float(frame.seconds):.3f} s"
                        raise UnfitError(msg)
                    if taken.look(frame, before=len(part.before)):
                        yield frame
                if source.damage or next(expected, None) is not None:
                    msg = "the source is damaged"
                    raise UnfitError(msg)
        except SourceNotFoundError:
            raise
        except (SourceError, UsageError) as error:
            raise UnfitError(str(error)) from error

    def _near(self, part: Part) -> SourceOptions:
        """How to read a part and the frames before it, and nothing else."""
        if self._options.deinterlace == "on":
            msg = "fields are filtered from the first frame on"
            raise UnfitError(msg)
        options = replace(self._options, start=None, deinterlace="off")
        tick = self._recipe.info.time_base
        if (begin := (*part.before, *(part.times or ()))[0]) != part.first:
            options = replace(options, start=(begin - part.first) * tick)
        if part.following is not None:
            options = replace(options, end=(part.following - part.first) * tick)
        return options

    def _stills(self, stills: Stills, times: tuple[int, ...]) -> Iterator[Frame]:
        """Pictures are found by their numbers; the first one tells the layout of all."""
        paths = (stills.paths[0], *stills.paths[times[0] : times[-1] + 1])
        chosen = replace(stills, paths=paths)
        with closing(StillsSource(chosen, self._options, self._job.readers)) as source:
            for frame in islice(source, 1, None):
                yield replace(frame, pts=frame.pts - 1 + times[0])

    def _compare(self, source: AvSource, part: Part) -> None:
        if source.first_pts != part.first or source.info.time_base != self._recipe.info.time_base:
            msg = "the first frame is not that of the first packet"
            raise UnfitError(msg)

    def _alike(self, frame: Frame) -> bool:
        info = self._recipe.info
        return (frame.width, frame.height, frame.format) == (info.width, info.height, info.format)


class Taken:
    """Looks at the frames of a part on their way."""

    def __init__(self, number: int, most: int) -> None:
        self.number, self.most = number, most
        self.before, self.after = hashlib.blake2b(), hashlib.blake2b()
        self.ended = False
        self._seen = 0

    def look(self, frame: Frame, before: int = 0) -> bool:
        """Whether a frame is one of the part's own, and not one of so many before it."""
        place = self._seen - before
        self._seen += 1
        if place < 0:
            _add(self.before, frame)
        elif place >= self.most - common_frames(self.most):
            _add(self.after, frame)
        return place >= 0


def _add(digest: "hashlib.blake2b", frame: Frame) -> None:
    digest.update(f"{frame.pts} {frame.color} {frame.format}".encode())
    for plane in frame.planes:
        digest.update(np.ascontiguousarray(plane).data)


class _Counted:
    """Finds parts by counting frames from the beginning; a later part goes on where one ended."""

    def __init__(self, opened: Callable[[], AvSource | StillsSource]) -> None:
        self._opened = opened
        self._source: AvSource | StillsSource | None = None
        self._frames: Iterator[Frame] = iter(())
        self._ahead: list[Frame] = []
        self._place = 0

    @property
    def damaged(self) -> int:
        """Concealed frames so far."""
        return 0 if self._source is None else self._source.damage.frames

    def part(self, taken: Taken) -> Iterator[Frame]:
        """The frames of a part."""
        begin = taken.number * taken.most
        if self._source is None or self._place > begin:
            self.close()
            self._source = self._opened()
            self._frames, self._place = iter(self._source), 0
        for _ in self._next(begin - self._place):
            pass
        for frame in self._next(taken.most):
            taken.look(frame)
            yield frame
        self._ahead += islice(self._frames, 1 - len(self._ahead))
        taken.ended = not self._ahead

    def _next(self, most: int) -> Iterator[Frame]:
        for _ in range(most):
            frame = self._ahead.pop() if self._ahead else next(self._frames, None)
            if frame is None:
                return
            self._place += 1
            yield frame

    def close(self) -> None:
        """Lets go of the source."""
        source, self._source = self._source, None
        self._frames, self._ahead, self._place = iter(()), [], 0
        if source is not None:
            with suppress(ValueError):  # a generator that a thread still runs
                source.close()
