"""Stills of several pictures or films at the same times, and where they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.errors import UsageError
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.folder import is_picture
from vsr.judging.evaluation import clock, label_of
from vsr.judging.viewing import Alignment, Rgb, View, read_view
from vsr.metrics import luma
from vsr.resample import Kernel, resize
from vsr.types import Frame

_MARGINS: Final = (Fraction(1), Fraction(10))
"""Seconds before the wanted time from which the frame shown then is looked for, in turn."""
_TOLERANCE: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels of the largest picture."""

    x: int
    y: int
    width: int
    height: int

    def of(self, picture: Rgb) -> Rgb:
        """That part of a picture."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What all inputs show at one time, at one size.

    Attributes:
        title: The time, or empty for pictures.
        pictures: By label, in the order of the inputs.
        boxes: What is enlarged.
    """

    title: str
    pictures: dict[str, Rgb]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What is shown.

    Attributes:
        at: Times in seconds after the first input's beginning; the middle if empty.
        boxes: What to enlarge; chosen where the inputs differ most if empty.
        count: How many boxes are chosen.
        box: Width and height of a chosen box.
        labels: Names of the inputs; their file names if empty.
        kernel: Brings smaller inputs to the size of the largest.
        align: `start` counts every film's times from its own first frame.
    """

    at: tuple[Fraction, ...] = ()
    boxes: tuple[Box, ...] = ()
    count: int = 2
    box: tuple[int, int] = (120, 90)
    labels: tuple[str, ...] = ()
    kernel: Literal["nearest", "bicubic"] = "bicubic"
    align: Alignment = "time"


def compare(inputs: Sequence[Path], options: CompareOptions) -> list[Moment]:
    """Takes the stills.

    Args:
        inputs: Pictures, or films and perhaps pictures among them, which never change.
        options: What is shown.

    Raises:
        UsageError: Shapes or labels do not fit, a time lies outside a film, or a box outside the
            picture.
        SourceError: An input cannot be read.
    """
    labels = options.labels or tuple(label_of(path, inputs) for path in inputs)
    if len(labels) != len(inputs) or len(set(labels)) != len(labels):
        msg = f"{len(inputs)} inputs need as many different labels, got {', '.join(labels)}"
        raise UsageError(msg)
    if all(is_picture(path) for path in inputs):
        if options.at:
            msg = "--at is a time in films, but all inputs are pictures: leave it out"
            raise UsageError(msg)
        views = [read_view(path) for path in inputs]
        return [_moment("", views, labels, options)]
    film = next(path for path in inputs if not is_picture(path))
    with open_source(film) as source:
        begin = source.first_pts * source.info.time_base
    moments = []
    for at in options.at or (_middle(film),):
        views = [_view_at(path, at, begin, options.align) for path in inputs]
        moments.append(_moment(clock(at), views, labels, options))
    return moments


def _middle(film: Path) -> Fraction:
    from vsr.io.probe import probe  # noqa: PLC0415 - only without --at

    length = probe(film).duration
    return Fraction(0) if length is None else length / 2


def _view_at(path: Path, at: Fraction, begin: Fraction, align: Alignment) -> View:
    if is_picture(path):
        return read_view(path)
    return View(frame_at(path, at, None if align == "start" else begin), film=True)


def frame_at(path: Path, at: Fraction, begin: Fraction | None = None) -> Frame:
    """The frame that a film shows at a time: the last one that does not begin later.

    Args:
        path: The film.
        at: Seconds after `begin`.
        begin: Time in the film to count from; its first frame's if None.

    Raises:
        UsageError: The film begins later, or has ended.
        SourceError: It cannot be read.
    """
    with open_source(path) as source:
        first = source.first_pts * source.info.time_base
        # A container may round a time up by half a tick, so a little late is in time.
        slack = source.info.time_base / 2
    wanted = at + (first if begin is None else begin)
    from_start = wanted - first
    if from_start < -slack:
        msg = f"{path} begins {float(-from_start):g} s after {float(at):g} s: use another --at"
        raise UsageError(msg)
    for start in (*(from_start - margin for margin in _MARGINS), Fraction(0)):
        if start < 0:
            continue
        try:
            shown, following = _around(path, start, wanted + slack)
        except UsageError:  # nothing begins after that start, but an earlier frame may still stay
            if start == 0:
                raise
            continue
        if shown is not None:
            _check_end(path, shown, at, wanted, ended=not following)
            return shown
    msg = f"{path} shows nothing at {float(at):g} s: use another --at"
    raise UsageError(msg)


def _around(path: Path, start: Fraction, latest: Fraction) -> tuple[Frame | None, bool]:
    """The last frame up to a time, and whether another one follows it."""
    shown: Frame | None = None
    options = SourceOptions(start=start, bake_rotation=True)
    with open_source(path, options) as source:
        for frame in source:
            if frame.seconds > latest:
                return shown, True
            shown = frame
    return shown, False


def _check_end(path: Path, shown: Frame, at: Fraction, wanted: Fraction, *, ended: bool) -> None:
    """The last frame stays for its duration, or for a second where that is unknown."""
    stays = shown.duration * shown.time_base or Fraction(1)
    if ended and wanted > shown.seconds + stays + shown.time_base:
        last = float(at - (wanted - shown.seconds))
        msg = f"{path} ends at {last:g} s, before {float(at):g} s: use an earlier --at"
        raise UsageError(msg)


def _moment(
    title: str, views: Sequence[View], labels: Sequence[str], options: CompareOptions
) -> Moment:
    width, height = max((view.size for view in views), key=lambda size: size[0] * size[1])
    for view, label in zip(views, labels, strict=True):
        ratio = (view.size[0] * height) / (view.size[1] * width)
        if abs(ratio - 1) > _TOLERANCE:
            msg = (
                f"{label} is {view.size[0]}x{view.size[1]}, of another shape than "
                f"{width}x{height}: crop or scale it first"
            )
            raise UsageError(msg)
    pictures = [fitted(view.rgb, width, height, options.kernel) for view in views]
    for box in options.boxes:
        if box.x + box.width > width or box.y + box.height > height:
            msg = (
                f"--crop {box.x},{box.y},{box.width},{box.height} leaves the picture of "
                f"{width}x{height}"
            )
            raise UsageError(msg)
    boxes = options.boxes or differing(pictures, options.box, options.count)
    named = dict(zip(labels, pictures, strict=True))
    return Moment(title=title, pictures=named, boxes=tuple(boxes))


def fitted(picture: Rgb, width: int, height: int, kernel: Kernel) -> Rgb:
    """A picture at another size; itself if it has that."""
    if picture.shape[:2] == (height, width):
        return picture
    x = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float()
    made = resize(x, height, width, kernel).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(made.permute(1, 2, 0).numpy())


def differing(pictures: Sequence[Rgb], size: tuple[int, int], count: int) -> list[Box]:
    """Chooses boxes where the luma of the pictures differs most, none overlapping another.

    Args:
        pictures: Of one size.
        size: Width and height of a box; of the picture if that is smaller.
        count: How many at most.
    """
    lumas = np.stack([luma(picture) for picture in pictures])
    spread = (lumas.max(0) - lumas.min(0)) ** 2
    height, width = (min(a, b) for a, b in zip(size[::-1], spread.shape, strict=True))
    total = _sums(spread, height, width)
    boxes: list[Box] = []
    while len(boxes) < count and np.isfinite(total.max()):
        y, x = (int(i) for i in np.unravel_index(int(total.argmax()), total.shape))
        boxes.append(Box(x=x, y=y, width=width, height=height))
        total[max(0, y - height + 1) : y + height, max(0, x - width + 1) : x + width] = -np.inf
    return sorted(boxes, key=lambda box: (box.y, box.x))


def _sums(plane: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """The sum over every box of a size, by its upper left corner."""
    table = np.pad(plane.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return np.asarray(
        table[height:, width:]
        - table[:-height, width:]
        - table[height:, :-width]
        + table[:-height, :-width]
    )
