"""Files to what measures take: pairs of pictures, and films whose frames are matched by time."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vsr.errors import UsageError
from vsr.io.stills import read_still
from vsr.metrics import luma
from vsr.types import ColorSpec, Frame, PixelFormat

_log = logging.getLogger(__name__)

type Rgb = NDArray[np.uint8]
"""Shape (H, W, 3)."""
type Alignment = Literal["time", "start"]

_LARGEST_REST: Final = 7
"""What cropping to a multiple of the scale, at most 8, takes from an original."""


class View:
    """One picture, in the forms that measures ask for.

    Args:
        frame: As decoded, or as `frame_of` makes it.
        film: Whether it is a film's, whose luma is the plane itself; papers take the luma of
            stills from their RGB.
    """

    def __init__(self, frame: Frame, *, film: bool = False) -> None:
        self.frame, self.film = frame, film

    @cached_property
    def rgb(self) -> Rgb:
        """8-bit RGB; alpha is left out."""
        from vsr.engine.convert import frame_to_rgb  # noqa: PLC0415 - imports torch

        return frame_to_rgb(self.frame)

    @property
    def gray(self) -> bool:
        """Whether it is stored as gray; papers measure such a still as it is."""
        return self.frame.format.family == "gray"

    @cached_property
    def colorless(self) -> bool:
        """Whether all channels are equal, however it is stored."""
        rgb = self.rgb
        return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frame.width, self.frame.height

    @property
    def plane(self) -> bool:
        """Whether luma can be taken as it was decoded."""
        return self.film and self.frame.format.family != "rgb" and not self.frame.format.floating

    @cached_property
    def color(self) -> ColorSpec:
        """What the samples mean, nothing unspecified."""
        return self.frame.color.resolved(*self.size, self.frame.format.family)

    @cached_property
    def decoded_luma(self) -> NDArray[np.float64]:
        """The luma plane in steps of 8 bits, 16 to 235 whatever the range; see `plane`."""
        y = self.frame.planes[0].astype(np.float64)
        peak = (1 << self.frame.format.bits) - 1
        if self.color.full_range:
            return 16 + y * (219 / peak)
        return y / (1 << (self.frame.format.bits - 8))

    def cropped(self, width: int, height: int) -> "View":
        """The upper left part, of RGB."""
        return View(frame_of(self.rgb[:height, :width]), film=self.film)


def frame_of(picture: NDArray[np.uint8]) -> Frame:
    """A frame of an 8-bit picture: RGB of shape (H, W, 3), or gray of shape (H, W)."""
    gray = picture.ndim == 2
    planes = (picture,) if gray else tuple(picture[..., c] for c in (1, 2, 0))
    return Frame(
        planes=tuple(np.ascontiguousarray(plane) for plane in planes),
        format=PixelFormat(family="gray" if gray else "rgb"),
        color=ColorSpec(full_range=True),
        pts=0,
        time_base=Fraction(1, 25),
    )


def read_view(path: Path) -> View:
    """Decodes a picture; its orientation is baked.

    Raises:
        SourceError: No picture, a damaged one, or an animation.
    """
    return View(read_still(path).frame)


class Pair:
    """An original and what is to be judged, of one size.

    Args:
        reference: The original; up to 7 rows and columns more than the result has are cropped at
            the right and bottom, as data sets do for sizes that the scale does not divide.
        result: What is judged.
        name: Of the result, for the error.

    Raises:
        UsageError: The sizes differ by more.
    """

    def __init__(self, reference: View, result: View, name: str = "the result") -> None:
        rest = [a - b for a, b in zip(reference.size, result.size, strict=True)]
        if any(not 0 <= side <= _LARGEST_REST for side in rest):
            sizes = " against ".join(f"{w}x{h}" for w, h in (result.size, reference.size))
            msg = f"{name} differs in size from its original: {sizes}; upscale to the same size"
            raise UsageError(msg)
        if any(rest):
            _log.info("%s: the original is cropped to %dx%d", name, *result.size)
            reference = reference.cropped(*result.size)
        self.reference, self.result = reference, result

    @cached_property
    def rgb(self) -> tuple[Rgb, Rgb]:
        """Both as 8-bit RGB."""
        return self.reference.rgb, self.result.rgb

    @cached_property
    def luma(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both as luma from 0 to 255.

        Of films the planes as decoded, if both have the same matrix. Of stills the BT.601 luma of
        papers; or gray as it is if one is stored so and the other has no colour either.
        """
        views = (self.reference, self.result)
        if all(view.plane for view in views) and views[0].color.matrix == views[1].color.matrix:
            return views[0].decoded_luma, views[1].decoded_luma
        if any(view.gray for view in views) and all(view.colorless for view in views):
            return tuple(luma(view.rgb[..., 0]) for view in views)  # type: ignore[return-value]  # two
        return luma(views[0].rgb), luma(views[1].rgb)


@dataclass(slots=True)
class Matching:
    """How many frames of two films have found each other.

    Attributes:
        matched: Pairs.
        only_reference: Frames of the original without a partner.
        only_result: Frames of the result without one.
    """

    matched: int = 0
    only_reference: int = 0
    only_result: int = 0

    def note(self, name: str) -> str:
        """One line for people if frames were left over, otherwise empty."""
        if not (self.only_reference or self.only_result):
            return ""
        return (
            f"{name}: {self.matched} frames compared; {self.only_reference} of the original and "
            f"{self.only_result} of the result have no partner at their time"
        )


def matched(
    reference: Iterable[Frame],
    result: Iterable[Frame],
    counts: Matching,
    align: Alignment = "time",
) -> Iterator[tuple[Fraction, Frame, Frame]]:
    """Pairs the frames of two films that are presented at the same time.

    Times are compared as fractions; they are the same if they differ by no more than half a tick
    of the coarser time base, which is what a container of milliseconds does to them.

    Args:
        reference: Frames in the order of their times.
        result: Likewise.
        counts: Filled on the way.
        align: `start` counts both films' times from their first frames.

    Yields:
        Time of the original's frame in seconds, and both frames.

    Raises:
        UsageError: No two frames have the same time.
    """
    ours, theirs = iter(reference), iter(result)
    a, b = next(ours, None), next(theirs, None)
    starts = [frame.seconds if frame else Fraction(0) for frame in (a, b)]
    origin = starts if align == "start" else [Fraction(0), Fraction(0)]
    while a is not None and b is not None:
        apart = (a.seconds - origin[0]) - (b.seconds - origin[1])
        if abs(apart) <= max(a.time_base, b.time_base) / 2:
            counts.matched += 1
            yield a.seconds, a, b
            a, b = next(ours, None), next(theirs, None)
        elif apart < 0:
            counts.only_reference += 1
            a = next(ours, None)
        else:
            counts.only_result += 1
            b = next(theirs, None)
    counts.only_reference += (a is not None) + sum(1 for _ in ours)
    counts.only_result += (b is not None) + sum(1 for _ in theirs)
    if not counts.matched:
        msg = (
            f"no two frames have the same time: the films begin at {float(starts[0]):g} s and "
            f"{float(starts[1]):g} s; --align start counts from the first frames"
        )
        raise UsageError(msg)
