"""Deinterlaces streams of frames whose interlacing is told beside the pictures."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from vsr.errors import SourceError
from vsr.io.deinterlace import Deinterlacer
from vsr.io.formats import from_planes, to_planes
from vsr.types import Frame

type Parity = Literal["tff", "bff"]


def deinterlaced(frames: Iterable[Frame], parity: Parity | None) -> Iterator[Frame]:
    """Makes one progressive picture of each frame, one frame later, with its own time.

    Args:
        frames: All of one size and format.
        parity: Which field comes first; None lets the filter assume top.

    Raises:
        UnsupportedSourceError: The picture is too small.
        SourceError: That of `frames`, after the pictures before it.
    """
    deinterlacer: Deinterlacer | None = None
    waiting: deque[Frame] = deque()
    ended: SourceError | None = None
    pictures = iter(frames)
    while True:
        try:
            frame = next(pictures)
        except StopIteration:
            break
        except SourceError as error:
            ended = error
            break
        made = from_planes(frame)
        if deinterlacer is None:
            deinterlacer = Deinterlacer(made, parity=parity, every=True)
        waiting.append(frame)
        for done in deinterlacer.push(made):
            whole = waiting.popleft()
            yield replace(whole, planes=to_planes(done, whole.format))
    for done in deinterlacer.finish() if deinterlacer else ():
        whole = waiting.popleft()
        yield replace(whole, planes=to_planes(done, whole.format))
    if ended is not None:
        raise ended
