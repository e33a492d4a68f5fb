"""Finds frames whose picture is the one before, so that the network need not see it again.

Films are telecined, animation is drawn on twos and threes, and encoders skip what does not change:
such frames are decoded to the very same samples. Only that counts; times and side data stay each
frame's own. Frames that lie on a device are not compared, as the host would have to wait for that:
each counts as new, which is said once.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from vsr.types import Frame

_log = logging.getLogger(__name__)

_FIRST_ROWS: Final = 16
"""Where most pictures that differ do so already."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame, and whether its picture differs from that of the frame before.

    Attributes:
        frame: As it came.
        new: Whether the network has to see it.
        part: Number of the part of the stream that it belongs to.
    """

    frame: Frame
    new: bool
    part: int = 0


def shots(frames: Iterable[Frame], every: int | None = None) -> Iterator[Shot]:
    """Marks the frames of a stream.

    Args:
        frames: In order.
        every: Frames in each part; all are one part if None. The first of a part is always new, so
            that a part does not depend on the one before.
    """
    previous: Frame | None = None
    told = False
    for index, frame in enumerate(frames):
        part, place = divmod(index, every) if every else (0, index)
        new = previous is None or place == 0 or not same_picture(previous, frame)
        if frame.surface is not None and not told:
            told = True
            _log.info("frames stay on the device, where repeated pictures are not looked for")
        yield Shot(frame, new, part)
        previous = frame


def same_picture(a: Frame, b: Frame) -> bool:
    """Whether two frames hold the same samples with the same meaning."""
    if a.surface is not None or b.surface is not None:
        return False
    if a.format != b.format or a.color != b.color:
        return False
    pairs = tuple(zip(a.planes, b.planes, strict=True))
    return all(np.array_equal(p[:_FIRST_ROWS], q[:_FIRST_ROWS]) for p, q in pairs) and all(
        np.array_equal(p, q) for p, q in pairs
    )
