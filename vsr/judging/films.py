"""Films as data sets: every frame is an original, and its low resolution is upscaled.

Low resolution is the film of `LR_bicubic/X2` beside `HR` where there is one, with the damage that
its codec has done; otherwise every frame is reduced as pictures are. Frames are compared as RGB.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsr.errors import SourceError
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.folder import is_picture, natural_key, pictures_in
from vsr.judging.evaluation import Score, clock
from vsr.judging.gallery import Entry, Gallery
from vsr.judging.measures import Judge
from vsr.judging.viewing import Matching, Pair, View, frame_of, matched
from vsr.types import Frame

type Samples = NDArray[np.uint8]
type Upscale = Callable[[Samples], Samples]
"""From low resolution to high, RGB of shape (H, W, 3)."""

_NAMES: Final = """
    .mkv .webm .mp4 .m4v .mov .3gp .avi .ts .m2ts .mts .mpg .mpeg .vob .flv .asf .wmv .ogv .nut .mxf
    .y4m .ivf .h264 .264 .h265 .hevc .m2v .dv .rm
"""
_SUFFIXES: Final = frozenset(_NAMES.split())
_OPTIONS: Final = SourceOptions(bake_rotation=True)


def is_film(path: Path) -> bool:
    """Whether a file name is that of a film."""
    return path.suffix.lower() in _SUFFIXES


def members(folder: Path) -> tuple[list[Path], list[Path]]:
    """The pictures and the films of a data set, in natural order.

    Args:
        folder: A folder, perhaps with `HR` in it, or a single picture or film.

    Raises:
        SourceError: There is neither, or the folder cannot be read.
    """
    if folder.is_file():
        return ([folder], []) if is_picture(folder) else ([], [folder])
    inner = folder / "HR" if (folder / "HR").is_dir() else folder
    try:
        entries = [path for path in inner.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        msg = f"{inner} cannot be read: {error.strerror}"
        raise SourceError(msg) from error
    films = sorted((path for path in entries if is_film(path)), key=natural_key)
    if films and not any(is_picture(path) for path in entries):
        return [], films
    return pictures_in(inner), films


def lowered_film(folder: Path, film: Path, scale: int) -> Path | None:
    """The low resolution of a film; None if there is none.

    Args:
        folder: Of the data set.
        film: Its original.
        scale: Whole factor.
    """
    lows = folder / "LR_bicubic" / f"X{scale}"
    if not lows.is_dir():
        return None
    names = {f"{film.stem}x{scale}", film.stem}
    return next((p for p in sorted(lows.iterdir()) if is_film(p) and p.stem in names), None)


class Screening:
    """Judges one model on one film.

    Args:
        film: The original.
        low: Its low resolution; None to make that of every frame.
        scale: Whole factor.
        reduce: Makes low resolution of RGB samples whose sides are multiples of the scale.
        most: Frames at most; 0 for all.
    """

    def __init__(
        self, film: Path, low: Path | None, scale: int, reduce: Upscale, most: int = 0
    ) -> None:
        self.film, self.low, self.scale = film, low, scale
        self.reduce, self.most = reduce, most
        self.counts = Matching()

    def scores(
        self, group: str, label: str, upscale: Upscale, judge: Judge, gallery: Gallery | None
    ) -> Iterator[Score]:
        """Measures every frame.

        Args:
            group: Name of the film and scale.
            label: Of the model.
            upscale: The model.
            judge: What is measured.
            gallery: Keeps pictures to be shown.

        Raises:
            SourceError: A film cannot be read, is too small, or has no frame.
            UsageError: The low resolution has another size, or no frame at the same time.
        """
        sitting, times = judge.film(), []
        for place, (seconds, high, low) in enumerate(self._frames()):
            pair = Pair(
                View(frame_of(high)), View(frame_of(upscale(low))), f"{label} on {self.film}"
            )
            known = sitting.push(pair)
            times.append(seconds)
            if gallery is not None:
                entry = Entry(title=f"{group}: {clock(seconds)}", pair=pair, values=known)
                gallery.offer(group, place, label, entry)
        if not times:
            msg = f"{self.film} has no frame to compare"
            raise SourceError(msg)
        for seconds, values in zip(times, sitting.finish(), strict=True):
            yield Score(
                group=group, item=clock(seconds), label=label, values=values, seconds=seconds
            )

    def _frames(self) -> Iterator[tuple[Fraction, Samples, Samples]]:
        """Times, originals, and low resolution, in step."""
        most = self.most or None
        with ExitStack() as stack:
            ours = stack.enter_context(open_source(self.film, _OPTIONS))
            if self.low is None:
                for frame in islice(ours, most):
                    high = self._cut(View(frame).rgb)
                    yield frame.seconds, high, self.reduce(high)
                return
            theirs = stack.enter_context(open_source(self.low, _OPTIONS))
            pairs = matched(ours, theirs, self.counts)
            for seconds, frame, small in islice(pairs, most):
                yield seconds, *self._paired(frame, small)

    def _paired(self, frame: Frame, small: Frame) -> tuple[Samples, Samples]:
        high, low = self._cut(View(frame).rgb), View(small).rgb
        sizes = [(x.shape[1], x.shape[0]) for x in (low, high)]
        if any(a * self.scale != b for a, b in zip(*sizes, strict=True)):
            (width, height), (large, tall) = sizes
            msg = (
                f"{self.low} is {width}x{height}, {large // self.scale}x{tall // self.scale} was "
                f"expected for {self.film.name}: --lr make computes low resolution"
            )
            raise SourceError(msg)
        return high, low

    def _cut(self, rgb: Samples) -> Samples:
        height, width = (side // self.scale * self.scale for side in rgb.shape[:2])
        if min(height, width) == 0:
            msg = (
                f"{self.film} is {rgb.shape[1]}x{rgb.shape[0]}, too small for x{self.scale}: give "
                "a larger one"
            )
            raise SourceError(msg)
        return rgb[:height, :width]
