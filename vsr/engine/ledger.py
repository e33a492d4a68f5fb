"""The groups of a stream between the threads of a fleet: waiting, in hand, done, handed out."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Condition

from vsr.engine.dealing import Share, is_due
from vsr.engine.devices import Precision
from vsr.engine.repeats import Shot
from vsr.engine.staging import Result
from vsr.engine.stream import Batch


@dataclass(slots=True, eq=False)
class Task:
    """A group, and what has been made of it.

    Attributes:
        number: Of the group in the stream.
        shots: The group.
        frames: New pictures in it.
        done: Whether all of them are computed.
        results: Their planes.
        finite: Whether all samples were.
        precision: In which they were computed; None where nothing is new.
    """

    number: int
    shots: list[Shot]
    frames: int
    done: bool = False
    results: list[Result] = field(default_factory=list)
    finite: bool = True
    precision: Precision | None = None
    _shots_left: int = 0

    def begin(self) -> None:
        """Forgets what has been made."""
        self.done, self.results, self.finite = False, [], True
        self._shots_left = len(self.shots)

    def add(self, batch: Batch) -> bool:
        """Notes the next part of the group; whether it was the last."""
        self.results += batch.results
        self.finite = self.finite and batch.finite
        self.precision = batch.settings.precision
        self._shots_left -= len(batch.shots)
        return not self._shots_left


class Ledger:
    """Who does what; every method may be called by the thread that it names.

    Args:
        shares: One for each member.
        ahead: Most groups that are cut and wait for a member.
        window: Most groups between the one that is handed out next and the last one begun.
        clock: Seconds.
    """

    def __init__(
        self, shares: Sequence[Share], ahead: int, window: int, clock: Callable[[], float]
    ) -> None:
        self.precision: Precision | None = None
        """What members compute in, if not each in its own."""
        self._shares, self._ahead, self._window = list(shares), ahead, window
        self._clock = clock
        self._changed = Condition()
        self._waiting: deque[Task] = deque()
        self._tasks: deque[Task] = deque()  # from the one that is handed out next
        self._count = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def offer(self, shots: list[Shot]) -> bool:
        """Adds a group once there is room, for the cutting thread; False if nobody wants it."""
        frames = sum(shot.new for shot in shots)
        with self._changed:
            while not self._stopped and self._full():
                self._changed.wait()
            task = Task(self._count, shots, frames, done=not frames)
            self._count += 1
            self._tasks.append(task)
            if frames:
                self._waiting.append(task)
            self._changed.notify_all()
            return not self._stopped

    def end(self, error: BaseException | None = None) -> None:
        """Says that no group follows, for the cutting thread."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def work(self, share: Share) -> Iterator[Task | None]:
        """What a member shall do, for its thread; None where it should finish what it has begun."""
        while True:
            with self._changed:
                if not share.begun:
                    share.begun = True
                    self._changed.notify_all()
                while not self._over() and not self._due(share) and not share.groups:
                    self._changed.wait()
                if self._over():
                    return
                task = self._taken(share) if self._due(share) else None
            yield task

    def give(self, share: Share, task: Task) -> None:
        """Hands in the oldest group that a member had in hand, for its thread."""
        with self._changed:
            share.done(task.frames, self._clock())
            task.done = self.precision in (None, task.precision)
            if not task.done:
                self._again(task)
            self._changed.notify_all()

    def leave(self, share: Share, tasks: Sequence[Task], error: BaseException) -> bool:
        """Takes a member out, for its thread.

        Args:
            share: Of the member.
            tasks: That it had in hand.
            error: Raised to the consumer if nobody is left.

        Returns:
            Whether somebody is left.
        """
        with self._changed:
            share.begun = True
            share.drop()
            self._shares.remove(share)
            for task in tasks:
                self._again(task)
            if not self._shares:
                self._error = error
            self._changed.notify_all()
            return bool(self._shares)

    def wait_for(self, share: Share) -> None:
        """Waits until a member asks for work or has failed, for the consumer."""
        with self._changed:
            while not share.begun:
                self._changed.wait()

    def next(self) -> Task | None:
        """Waits for the next group in order, for the consumer; None after the last.

        Raises:
            BaseException: What the source or the last member raised, after all groups before it.
        """
        with self._changed:
            while not self._settled():
                self._changed.wait()
            if self._tasks and self._tasks[0].done:
                return self._tasks[0]
            if self._error is not None:
                raise self._error
            return None

    def hand_out(self) -> None:
        """Forgets the group that `next` gave, for the consumer."""
        with self._changed:
            self._tasks.popleft()
            self._changed.notify_all()

    def go_on_in(self, precision: Precision) -> None:
        """Has everything from the next group on computed in one precision, for the consumer."""
        with self._changed:
            self.precision = precision
            for task in self._tasks:
                if task.done and task.precision not in (None, precision):
                    self._again(task)
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends the work of all threads, for the consumer."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether nobody wants results any more."""
        return self._stopped

    def _full(self) -> bool:
        """Whether enough groups wait, those without new pictures among them."""
        begun = len(self._tasks) - self._window
        return len(self._waiting) >= self._ahead or begun >= self._ahead

    def _over(self) -> bool:
        return self._stopped or (self._ended and not self._tasks)

    def _settled(self) -> bool:
        if self._tasks and self._tasks[0].done:
            return True
        if not self._shares:
            return True
        return self._ended and not self._tasks

    def _due(self, share: Share) -> bool:
        if not self._waiting or self._waiting[0].number >= self._tasks[0].number + self._window:
            return False
        waiting = [task.frames for task in self._waiting]
        return is_due(share, self._shares, waiting, self._clock())

    def _taken(self, share: Share) -> Task:
        task = self._waiting.popleft()
        task.begin()
        share.take(task.frames, self._clock())
        self._changed.notify_all()
        return task

    def _again(self, task: Task) -> None:
        """Lets a group wait once more, before those that follow it."""
        task.done = False
        place = sum(other.number < task.number for other in self._waiting)
        self._waiting.insert(place, task)
