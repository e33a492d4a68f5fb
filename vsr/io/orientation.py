"""Display orientation: reads FFmpeg's display matrix, and turns or mirrors the planes themselves.

A display matrix is a mirror (columns reversed, applied first) and a number of quarter turns
anticlockwise. Containers can say turns; mirrors are baked into the pixels.

Turning a picture also moves its subsampled chroma relative to luma: what was sited left becomes
top or bottom. Where no FFmpeg location says the new place (right), chroma is shifted by a fraction
of a sample to the nearest one that can be said.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Literal

import numpy as np

from vsr.types import ColorSpec, Frame, PixelFormat, Plane

_PLACES: Final = {
    1: (0.0, 0.5),
    2: (0.5, 0.5),
    3: (0.0, 0.0),
    4: (0.5, 0.0),
    5: (0.0, 1.0),
    6: (0.5, 1.0),
}
"""Horizontal and vertical place of a chroma sample, in luma samples from the first of its group."""
_CODES: Final = {place: code for code, place in _PLACES.items()}
_ALLOWED: Final = ((0.0, 0.5), (0.0, 0.5, 1.0))
"""Places that a code exists for, by axis."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How the stored picture must be changed to be seen upright.

    Attributes:
        turns: Quarter turns anticlockwise, 0 to 3.
        mirrored: Whether columns are reversed first.
    """

    turns: int = 0
    mirrored: bool = False

    def __bool__(self) -> bool:
        return bool(self.turns or self.mirrored)

    @property
    def rotation(self) -> Literal[0, 90, 180, 270]:
        """The turns in degrees."""
        degrees: tuple[Literal[0, 90, 180, 270], ...] = (0, 90, 180, 270)
        return degrees[self.turns]

    def aspect(self, sample_aspect: Fraction) -> Fraction:
        """The sample aspect ratio after turning."""
        return 1 / sample_aspect if self.turns % 2 else sample_aspect

    def layout(self, layout: PixelFormat) -> PixelFormat:
        """The pixel format after turning: 4:2:2 lying on its side is 4:4:0."""
        if self.turns % 2 == 0:
            return layout
        return replace(layout, chroma_w=layout.chroma_h, chroma_h=layout.chroma_w)

    def apply(self, frame: Frame) -> Frame:
        """Turns and mirrors a frame's planes; times and side data stay."""
        picture = _Picture(frame.planes, frame.format, _place(frame.color, frame.format))
        if self.mirrored:
            picture = picture.flipped(1)
        if self.turns % 2:
            picture = picture.transposed()
        for axis in {0: (), 1: (0,), 2: (0, 1), 3: (1,)}[self.turns]:
            picture = picture.flipped(axis)
        planes, siting = picture.settled(frame.color.siting)
        return replace(
            frame,
            planes=tuple(np.require(plane, requirements="C") for plane in planes),
            format=picture.layout,
            color=replace(frame.color, siting=siting),
        )


def orientation_of(matrix: bytes | None) -> Orientation:
    """Reads FFmpeg's AVDisplayMatrix (nine int32: rotation part in 16.16 fixed point).

    Args:
        matrix: Side-data payload; None or one that is no multiple of 90° gives no change.
    """
    if matrix is None or len(matrix) < 36:
        return Orientation()
    values = np.frombuffer(matrix, "<i4", 9)
    a, b, c, d = (int(np.sign(values[k])) if abs(values[k]) > 6553 else 0 for k in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    turns = {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}.get((a, b))
    return Orientation() if turns is None else Orientation(turns, mirrored)


@dataclass(frozen=True, slots=True)
class _Picture:
    """Planes with the exact place of chroma, which need not be one that has a code."""

    planes: tuple[Plane, ...]
    layout: PixelFormat
    place: tuple[float, float]

    def transposed(self) -> "_Picture":
        across, down = self.place
        planes = tuple(plane.T for plane in self.planes)
        return _Picture(planes, Orientation(1).layout(self.layout), (down, across))

    def flipped(self, axis: int) -> "_Picture":
        """Reverses rows (axis 0) or columns (axis 1)."""
        length = self.planes[0].shape[axis]
        planes = tuple(np.flip(plane, axis) for plane in self.planes)
        # Sample j of ceil(length / 2) at 2j + p comes to lie at 2j' + (1 or 0) - p.
        mirrored = [(1.0 if length % 2 == 0 else 0.0) - place for place in self.place]
        across, down = self.place
        place = (across, mirrored[1]) if axis == 0 else (mirrored[0], down)
        return _Picture(planes, self.layout, place)

    def settled(self, siting: int) -> tuple[tuple[Plane, ...], int]:
        """Planes whose chroma lies where a code says, and that code."""
        if not self.layout.subsampled or self.layout.family != "yuv":
            return self.planes, siting
        place = list(_PLACES[siting or 1])
        planes = self.planes
        for which, shift in enumerate((self.layout.chroma_w, self.layout.chroma_h)):
            if shift == 1:  # 4:1:1 and 4:1:0 have no siting tags
                place[which] = _nearest(_ALLOWED[which], self.place[which])
                planes = _moved(planes, 1 - which, (place[which] - self.place[which]) / 2)
        return planes, _CODES.get((place[0], place[1]), siting)


def _nearest(allowed: tuple[float, ...], value: float) -> float:
    return min(allowed, key=lambda place: abs(place - value))


def _place(color: ColorSpec, layout: PixelFormat) -> tuple[float, float]:
    across, down = _PLACES[color.siting or 1]
    return (across if layout.chroma_w else 0.0, down if layout.chroma_h else 0.0)


def _moved(planes: tuple[Plane, ...], axis: int, by: float) -> tuple[Plane, ...]:
    """Resamples the chroma planes `by` samples along an axis, linearly, edges repeated."""
    if by == 0:
        return planes
    step = 1 if by > 0 else -1

    def moved(plane: Plane) -> Plane:
        length = plane.shape[axis]
        index = np.clip(np.arange(length) + step, 0, length - 1)
        samples = plane.astype(np.float32)
        value = samples * (1 - abs(by)) + np.take(samples, index, axis) * abs(by)
        rounded = np.rint(value)
        return rounded.astype(np.uint8) if plane.itemsize == 1 else rounded.astype(np.uint16)

    return (planes[0], moved(planes[1]), moved(planes[2]), *planes[3:])
