"""Several devices that upscale one stream together, as one `FrameUpscaler`.

The stream is cut into the groups of a single device, so devices of one kind give its very bytes,
and a picture that stays is computed once. One thread cuts, one for each member computes, and the
caller's finishes the results in order. Members take a group when they have room and
`vsr.engine.dealing` lets them; how far groups are cut ahead and results wait for their turn is
bounded in number and in bytes, however slow a member is.

A member that fails is taken out, and the others do what it had in hand. Out of memory is not
failing: each member shrinks its own batches and tiles.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, override

import torch

from vsr.engine.color import Picture
from vsr.engine.dealing import Share
from vsr.engine.devices import Precision, kind_of
from vsr.engine.ledger import Ledger, Task
from vsr.engine.repeats import Shot
from vsr.engine.staging import Layout
from vsr.engine.stream import Computed, FrameUpscaler, refuse_in_fp32
from vsr.pipeline import Prefetch

_log = logging.getLogger(__name__)

_RESULT_BYTES: Final = 1 << 30
_SOURCE_BYTES: Final = 256 << 20
_MOST_GROUPS: Final = 32
"""Results that may wait for their turn; half as many groups are cut ahead."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One device.

    Attributes:
        upscaler: Computes on it.
        share: Of the work.
        name: For people.
    """

    upscaler: FrameUpscaler
    share: Share
    name: str


class Fleet(FrameUpscaler):
    """Maps frames to upscaled frames on several devices at once.

    Args:
        members: One for each device, all for the same pictures; nobody else may use them.
        source: Every frame's size and format.
        target: What comes out.
        clock: Seconds, for the speed of members.

    Attributes:
        free_source: Called when no more frames are wanted, if set before the first one: it frees
            the thread that cuts from a source that waits without end.
    """

    def __init__(
        self,
        members: Sequence[FrameUpscaler],
        source: Picture,
        target: Picture,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Without the base's own way to compute: that of the members takes its place.
        leading = max(members, key=lambda member: member.settings.batch)
        self._prepare(members[0].device, target, leading.settings)
        self.engine = leading.engine
        self.free_source: Callable[[], None] | None = None
        self._clock = clock
        self._crew = [
            _Member(member, Share(member.settings.workers, member.ahead + 1), name)
            for member, name in zip(members, _names(members), strict=True)
        ]
        self._all = tuple(self._crew)
        room = sum(member.share.room for member in self._all)
        result, given = (Layout(p, leading.settings.batch).bytes for p in (target, source))
        self._window = max(room + 1, min(_MOST_GROUPS, _RESULT_BYTES // result))
        self._cut_ahead = max(2, min(self._window // 2, _SOURCE_BYTES // given))

    @property
    @override
    def where(self) -> str:
        return ",".join(str(member.upscaler.device) for member in self._crew)

    @property
    @override
    def way(self) -> dict[str, Any]:
        kinds = [kind_of(member.upscaler.device) for member in self._crew]
        ways = {}
        for kind, member in zip(kinds, self._crew, strict=True):
            way = member.upscaler.way
            sharing = kinds.count(kind) if kind == "cpu" else 1
            ways[kind] = {**way, "workers": way["workers"] * sharing}
        return {**super().way, "ways": ways}

    @property
    @override
    def ahead(self) -> int:
        return sum(member.upscaler.ahead for member in self._crew)

    @override
    def leave_results(self) -> bool:
        return False

    @property
    def dealt(self) -> tuple[int, ...]:
        """Frames that each member was given, in the order of members, less those that it failed."""
        return tuple(member.share.dealt for member in self._all)

    @override
    def go_on_in(self, precision: Precision) -> None:
        self.settings = replace(self.settings, precision=precision)

    @override
    def _computed(
        self, groups: Iterable[list[Shot]], idle: Callable[[], bool]
    ) -> Generator[Computed]:
        """Computes groups in order, in fp32 from the first on that is not finite otherwise."""
        shares = [member.share for member in self._crew]
        ledger = Ledger(shares, self._cut_ahead, self._window, self._clock)
        with ExitStack() as stack:
            self._begin(ledger, stack)
            cutting = Prefetch(_beside(lambda: _cut(groups, ledger)), name="vsr-groups")
            stack.callback(cutting.close)
            stack.callback(ledger.stop)
            if self.free_source is not None:
                stack.callback(self.free_source)
            while (task := ledger.next()) is not None:
                if task.finite:
                    ledger.hand_out()
                    yield task.shots, task.results
                    continue
                refuse_in_fp32(task.shots[0].frame, task.precision or "fp32")
                self.go_on_in("fp32")
                ledger.go_on_in("fp32")

    def _begin(self, ledger: Ledger, stack: ExitStack) -> None:
        """Starts the members one after the other: PyTorch's number of threads is everybody's."""
        cores = torch.get_num_threads()
        stack.callback(torch.set_num_threads, cores)
        on_cpu = [member.upscaler.device.type == "cpu" for member in self._crew]
        for number, member in enumerate(tuple(self._crew)):
            member.share.begun = False
            threads = max(1, cores // sum(on_cpu)) if on_cpu[number] else cores
            work = partial(self._work, ledger, member, threads)
            thread = Prefetch(_beside(work), name=f"vsr-device-{number}")
            stack.callback(thread.close)
            stack.callback(ledger.stop)
            ledger.wait_for(member.share)
            torch.set_num_threads(cores)

    def _work(self, ledger: Ledger, member: _Member, threads: int) -> None:
        """Computes what a member is given, in its thread."""
        hand: deque[Task] = deque()
        torch.get_num_threads()  # a thread's first look takes over the program's number
        torch.set_num_threads(threads)
        try:
            begun = _begun(ledger, member, hand)
            with closing(member.upscaler.batches(begun, self.trace)) as batches:
                for batch in batches:
                    if hand[0].add(batch):
                        ledger.give(member.share, hand.popleft())
                    if ledger.stopped:
                        break
        except BaseException as error:  # noqa: BLE001 - the others go on, or the consumer raises it
            if ledger.leave(member.share, hand, error):
                self._crew.remove(member)
                _log.warning(
                    "%s failed and is left out, the other devices redo its work: %s: %s",
                    member.name,
                    type(error).__name__,
                    str(error).partition("\n")[0],
                )
        finally:
            member.share.drop()


def _names(members: Sequence[FrameUpscaler]) -> list[str]:
    """Their devices, numbered where there are several of one name."""
    names = [str(member.device) for member in members]
    return [
        name if names.count(name) == 1 else f"{name} (number {names[: n + 1].count(name)})"
        for n, name in enumerate(names)
    ]


def _begun(ledger: Ledger, member: _Member, hand: deque[Task]) -> Iterator[list[Shot]]:
    """The groups that a member begins, noted in its hand."""
    for task in ledger.work(member.share):
        if task is None:
            yield []
            continue
        hand.append(task)
        precision = ledger.precision
        if precision not in (None, member.upscaler.settings.precision):
            member.upscaler.go_on_in(precision)
        yield task.shots


def _cut(groups: Iterable[list[Shot]], ledger: Ledger) -> None:
    try:
        for group in groups:
            if not ledger.offer(group):
                return
    except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
        ledger.end(error)
    else:
        ledger.end()


def _beside(work: Callable[[], None]) -> Iterator[None]:
    """Work in the form that a thread takes; it hands on nothing itself."""
    work()
    yield from ()
