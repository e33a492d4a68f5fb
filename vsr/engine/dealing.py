"""Who gets the next group of frames, so that unequal devices end together. Free of torch.

Members take groups when they have room, so a fast one gets more by itself. What that alone does
badly is the end: a slow member that takes the last group is waited for by all others. So a member
gets a group only if it would get one where the groups that are known go, in turn, to whichever
member finishes them first (earliest completion time, the list scheduling of Graham, "Bounds on
multiprocessing timing anomalies", 1969, for members of unequal speed). The same rule leaves out a
member that is so slow that the others finish all known groups before it finishes one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_KEPT: Final = 0.8
"""What a measurement still counts at the next one, so that a device may become slower or faster."""


@dataclass(slots=True, eq=False)
class Share:
    """One member's part of the work.

    Attributes:
        parallel: Groups that it computes side by side.
        room: Groups that it may have in hand.
        groups: That it has in hand.
        dealt: Frames that it was given so far, without those that were taken back.
        begun: Whether it has asked for work yet.
        warm: Whether what it does may be measured: where groups run one at a time, the first holds
            what is done only once, and would make a GPU look slower than a processor.
    """

    parallel: int = 1
    room: int = 1
    groups: int = 0
    dealt: int = 0
    begun: bool = False
    warm: bool = False
    _frames: int = 0
    _since: float = 0.0
    _done_frames: float = 0.0
    _done_seconds: float = 0.0

    @property
    def pace(self) -> float | None:
        """Seconds a frame while busy, None before the first group is done."""
        return self._done_seconds / self._done_frames if self._done_frames else None

    @property
    def has_room(self) -> bool:
        """Whether it may take a group; one whose speed is unknown is tried with few."""
        return self.groups < (self.room if self._done_frames else min(self.room, self.parallel))

    def take(self, frames: int, now: float) -> None:
        """Notes that it begins a group of so many frames to compute."""
        if not self.groups:
            self._since = now
        self.groups += 1
        self._frames += frames
        self.dealt += frames

    def done(self, frames: int, now: float) -> None:
        """Notes that the oldest group in hand is finished."""
        if self.warm or self.parallel > 1:
            self._done_frames = self._done_frames * _KEPT + frames
            self._done_seconds = self._done_seconds * _KEPT + now - self._since
        self.warm, self._since = True, now
        self.groups -= 1
        self._frames -= frames

    def drop(self) -> None:
        """Forgets what is in hand; others will do it."""
        self.dealt -= self._frames
        self.groups = self._frames = 0

    def guessed(self, best: float, now: float) -> float:
        """Its pace, or the best of the others unless it has taken longer than that already."""
        if self.pace is not None:
            return self.pace
        return max(best, (now - self._since) / self._frames if self._frames else 0.0)

    def free_at(self, pace: float, frames: int, now: float) -> float:
        """When it could begin a group if it computed one at a time at this pace."""
        at_once = now + (self.parallel - 1) * pace * frames
        return max(at_once, self._since + self._frames * pace) if self.groups else at_once


def is_due(
    asking: Share,
    shares: Sequence[Share],
    waiting: Sequence[int],
    now: float,
) -> bool:
    """Whether a member shall take the first of the groups that wait.

    Args:
        asking: The member.
        shares: All that work, the asking one among them.
        waiting: Frames to compute in each group that is known and not begun.
        now: Seconds on the clock that the shares were told.
    """
    if not waiting or not asking.has_room:
        return False
    if asking.pace is None:
        return True
    best = min(share.pace for share in shares if share.pace is not None)
    paces = {id(share): share.guessed(best, now) for share in shares}
    free = {id(share): share.free_at(paces[id(share)], waiting[0], now) for share in shares}

    def finishing(frames: int) -> Callable[[Share], tuple[float, bool]]:
        return lambda share: (free[id(share)] + paces[id(share)] * frames, share is not asking)

    for frames in waiting:
        first = min(shares, key=finishing(frames))
        if first is asking:
            return True
        free[id(first)] += paces[id(first)] * frames
    return False
