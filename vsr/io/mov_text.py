"""Puts cues that overlap in time one after the other, for formats that show one at a time.

mov_text has one text at any moment: FFmpeg's muxer would delay a cue that begins before the last
one has ended. So overlapping cues are cut where one begins or ends, and each piece shows all texts
of its time, above each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One mov_text sample: times in ticks, payload as in an mp4 file."""

    start: int
    end: int
    payload: bytes


class OneAtATime:
    """Takes cues by their start, and gives cues that never overlap."""

    def __init__(self) -> None:
        self._active: list[Cue] = []
        self._from = 0

    def push(self, cue: Cue) -> Iterator[Cue]:
        """Takes the next cue and gives what is settled by it: everything before its start."""
        yield from self._until(cue.start)
        self._from = max(self._from, cue.start)
        self._active.append(cue)

    def flush(self) -> Iterator[Cue]:
        """Gives everything that is left."""
        yield from self._until(max((cue.end for cue in self._active), default=0))

    def _until(self, time: int) -> Iterator[Cue]:
        while self._active and self._from < time:
            stop = min(time, *(cue.end for cue in self._active))
            if stop > self._from:
                texts = [cue.payload for cue in self._active]
                yield Cue(start=self._from, end=stop, payload=_joined(texts))
            self._from = max(self._from, stop)
            self._active = [cue for cue in self._active if cue.end > self._from]


def _joined(payloads: list[bytes]) -> bytes:
    """Several texts as one, without their styles, which point into the text by position."""
    if len(payloads) == 1:
        return payloads[0]
    text = b"\n".join(payload[2 : 2 + int.from_bytes(payload[:2])] for payload in payloads)
    return min(len(text), 0xFFFF).to_bytes(2) + text[:0xFFFF]
