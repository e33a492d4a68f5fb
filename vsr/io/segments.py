"""Files of encoded pictures: what an encoder gave for one segment of a film, in its order.

Each packet is a head of fixed size and its payloads. Decoding times are not kept: they follow from
all presentation times, once the segments are put together.
"""

import contextlib
import hashlib
import os
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct("<qqIIB")


@dataclass(frozen=True, slots=True)
class Piece:
    """One encoded picture.

    Attributes:
        pts: Presentation time in ticks of the output.
        duration: In ticks.
        key: Whether decoding can begin here.
        data: The packet.
        addition: Matroska's BlockAdditional of the packet (alpha), behind 8 bytes of id; or b"".
    """

    pts: int
    duration: int
    key: bool
    data: bytes
    addition: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What is known of a finished file.

    Attributes:
        frames: Pictures in it.
        size: Bytes.
        sha256: Of the file.
        first: Presentation time of its first picture, in ticks.
        delay: By how many pictures its decoding order runs ahead of presentation.
    """

    frames: int
    size: int
    sha256: str
    first: int
    delay: int


class SegmentWriter:
    """Writes the packets of one segment.

    Args:
        path: Of the file; an older one is replaced.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._times: list[int] = []
        self._size = 0

    @property
    def frames(self) -> int:
        """Packets so far."""
        return len(self._times)

    def add(self, piece: Piece) -> None:
        """Appends a packet, in the encoder's order."""
        sizes = len(piece.data), len(piece.addition)
        head = _HEAD.pack(piece.pts, piece.duration, *sizes, piece.key)
        for part in (head, piece.data, piece.addition):
            self._file.write(part)
            self._digest.update(part)
            self._size += len(part)
        self._times.append(piece.pts)

    def finish(self) -> Segment:
        """Forces the file to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return Segment(
            frames=len(self._times),
            size=self._size,
            sha256=self._digest.hexdigest(),
            first=min(self._times),
            delay=_delay(self._times),
        )

    def discard(self) -> None:
        """Removes the file; safe at any time."""
        with contextlib.suppress(OSError):  # what a full disk did not take
            self._file.close()
        self._path.unlink(missing_ok=True)


def _delay(times: list[int]) -> int:
    """The least d for which no i-th packet is presented before the (i - d)-th picture."""
    places = {time: place for place, time in enumerate(sorted(times))}
    return max(i - places[time] for i, time in enumerate(times))


def is_whole(path: Path, segment: Segment) -> bool:
    """Whether a file holds what was written."""
    if not path.is_file() or path.stat().st_size != segment.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == segment.sha256


def read_pieces(path: Path) -> Iterator[Piece]:
    """Gives the packets of a segment in the encoder's order."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            pts, duration, size, more, key = _HEAD.unpack(head)
            yield Piece(pts, duration, bool(key), file.read(size), file.read(more))


def _sorted_times(path: Path) -> list[int]:
    times = []
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            pts, _, size, more, _ = _HEAD.unpack(head)
            times.append(pts)
            file.seek(size + more, os.SEEK_CUR)
    return sorted(times)


def dated(paths: Iterable[Path], delay: int) -> Iterator[tuple[Piece, int]]:
    """Puts segments together: gives every packet with its decoding time.

    The i-th packet is decoded when the (i - delay)-th picture is presented, so decoding times rise
    across the joints as they would in one piece. The first few come as long before as x264 puts
    them (encoder.c): by the time of `delay` pictures.

    Args:
        paths: Of the segments, in order.
        delay: The greatest of all segments.
    """
    latest: deque[int] = deque(maxlen=delay + 1)
    run_up = early = 0
    for path in paths:
        times = _sorted_times(path)
        if not latest and delay:
            run_up = times[delay] - times[0]
        for piece, time in zip(read_pieces(path), times, strict=True):
            latest.append(time)
            early += 1
            yield piece, latest[0] if early > delay else time - run_up
