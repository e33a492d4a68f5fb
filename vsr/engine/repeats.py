"""Finds frames whose picture is the one before, so that the network need not see it again.

Films are telecined, animation is drawn on twos and threes, and encoders skip what does not change:
such frames are decoded to the very same samples. Only that counts; times and side data stay each
frame's own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from vsr.types import Frame

_FIRST_ROWS: Final = 16
"""Where most pictures that differ do so already."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame, and whether its picture differs from that of the frame before."""

    frame: Frame
    new: bool


def shots(frames: Iterable[Frame]) -> Iterator[Shot]:
    """Marks the frames of a stream; the first is always new."""
    previous: Frame | None = None
    for frame in frames:
        yield Shot(frame, previous is None or not same_picture(previous, frame))
        previous = frame


def same_picture(a: Frame, b: Frame) -> bool:
    """Whether two frames hold the same samples with the same meaning."""
    if a.format != b.format or a.color != b.color:
        return False
    pairs = tuple(zip(a.planes, b.planes, strict=True))
    return all(np.array_equal(p[:_FIRST_ROWS], q[:_FIRST_ROWS]) for p, q in pairs) and all(
        np.array_equal(p, q) for p, q in pairs
    )
