"""Compares pictures made small: luma, colour, detail, order, black, frozen and broken ones.

An upscaled picture brought down again by area averages must be close to its source. All limits are
in 255ths of the range from black to white. Beside each stands the most that was measured on 173
right outputs of bicubic and of the embedded network (synthetic cases at x1/3 to x4, deinterlaced
ones among them) and on 68 of real clips, all of at least 16 pixels; networks that invent detail or
take away noise need the room between.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsr.io.inspection import Thumbnail
from vsr.types import ColorSpec
from vsr.verification.report import Finding, fault, ok

type Image = NDArray[np.float32]
"""Shape (H, W, 3), RGB, 0 black and 255 white, upright; not clipped."""

LUMA: Final = 4.0
"""Most by which the mean luma of one frame may be off; measured: 0.4."""
COLOUR: Final = 8.0
"""Most by which the colours of blocks may be off on average over frames; measured: 2.5, and 4.6
where the source is corrupt."""
DETAIL: Final = 26.0
"""Most root mean square by which a small picture may be off, 20 dB; measured: 9.1, woven."""
BLOCK: Final = 64.0
"""Most by which one block of one frame may be off, less than a hole in a picture; measured: 23."""
_BLOCKS: Final = 8
"""Blocks along each side."""
_BLACK: Final = 6.0
_ALIVE: Final = 8.0
"""A frame is black below the one on average, where its source is brighter by the other."""
_STILL: Final = 0.25
_MOTION: Final = 0.5
"""A frame is frozen if it changes by less than the one of what its source does, which is at least
the other."""
_NEARER: Final = 0.7
_MARGIN: Final = 0.15
"""A frame is another one if it is nearer to that by both, the first a factor."""
_LOOSE: Final = 3.0
"""By how much limits are wider for tiny pictures."""
_FITS: Final = 0.6
_FITS_BY: Final = 0.6
"""Colours are of another matrix or range if they fit better with that by both."""
_SHOWN: Final = 4

_PRIMARIES: Final = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""Weights of red and blue in luma by H.273 matrix (table 4)."""
_LUMA: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)
_HYPOTHESES: Final = {
    "BT.709 limited": (1, False),
    "BT.601 limited": (6, False),
    "BT.2020 limited": (9, False),
    "BT.709 full": (1, True),
    "BT.601 full": (6, True),
}


def upright(picture: Thumbnail) -> NDArray[np.float32]:
    """Samples of shape (H, W, C), turned as they are to be seen; alpha left out."""
    colours = 1 if picture.format.family == "gray" else 3
    stack = np.stack([plane.astype(np.float32) for plane in picture.planes[:colours]], axis=2)
    if picture.orientation.mirrored:
        stack = stack[:, ::-1]
    return np.rot90(stack, picture.orientation.turns)


def resolved(picture: Thumbnail) -> ColorSpec:
    """Its colour, with what players assume filled in."""
    return picture.color.resolved(*picture.size, picture.format.family)


def to_rgb(
    samples: NDArray[np.float32], picture: Thumbnail, matrix: int, *, full_range: bool
) -> Image:
    """Converts samples by ITU-T H.273 (8.1 to 8.3); linear, so means may be converted too.

    Args:
        samples: Shape (..., C) as in `picture`.
        picture: Tells format and depth.
        matrix: H.273 matrix coefficients.
        full_range: Whether samples use the whole range.
    """
    family, bits = picture.format.family, picture.format.bits
    top = float(2**bits - 1)
    if family == "rgb":
        green, blue, red = (samples[..., k] * (255 / top) for k in range(3))
        return np.stack([red, green, blue], axis=-1)
    unit = float(2 ** (bits - 8))
    luma = (
        samples[..., 0] * (255 / top) if full_range else (samples[..., 0] / unit - 16) * 255 / 219
    )
    if family == "gray":
        return np.stack([luma] * 3, axis=-1)
    half = 128 * unit
    scale = 255 / top if full_range else 255 / (224 * unit)
    blueness, redness = ((samples[..., k] - half) * scale for k in (1, 2))
    kr, kb = _PRIMARIES.get(matrix, _PRIMARIES[6])
    red = luma + 2 * (1 - kr) * redness
    blue = luma + 2 * (1 - kb) * blueness
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([red, green, blue], axis=-1).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A picture ready to be compared.

    Attributes:
        picture: As decoded.
        samples: Shape (H, W, C), upright.
        rgb: What a player shows.
        luma: Shape (H, W), from 0 to 255.
    """

    picture: Thumbnail
    samples: NDArray[np.float32]
    rgb: Image
    luma: NDArray[np.float32]


type Near = tuple[Seen | None, Seen, Seen | None]
"""A frame of the source between its neighbours in time."""


def seen(picture: Thumbnail) -> Seen:
    """Makes a picture ready."""
    samples, color = upright(picture), resolved(picture)
    rgb = to_rgb(samples, picture, color.matrix, full_range=bool(color.full_range))
    rgb = rgb.clip(0, 255)  # as any player does
    return Seen(picture, samples, rgb, rgb @ _LUMA)


def pair_up(
    source: Iterable[Thumbnail], output: Iterable[Thumbnail], shift: Fraction
) -> Iterator[tuple[Seen, Near]]:
    """Gives each frame of the output with that of the source nearest in time and its neighbours.

    Frames without times, of either, go by their order.

    Args:
        source: In order.
        output: In order.
        shift: Seconds by which the output is later.
    """
    rest = map(seen, source)
    window: deque[Seen | None] = deque([None, next(rest, None), next(rest, None)], maxlen=3)
    for number, picture in enumerate(map(seen, output)):
        stepped = number == 0
        while _is_later(picture, window, shift, stepped=stepped):
            window.append(next(rest, None))
            stepped = True
        before, current, after = window
        if current is None:
            return
        yield picture, (before, current, after)


def _is_later(
    picture: Seen, window: "deque[Seen | None]", shift: Fraction, *, stepped: bool
) -> bool:
    """Whether the window must move on for a picture."""
    current, after = window[1], window[2]
    if current is None or after is None:
        return False
    time, one, other = picture.picture.time, current.picture.time, after.picture.time
    if time is None or one is None or other is None:
        return not stepped
    return abs(other - time + shift) < abs(one - time + shift)


@dataclass(slots=True, kw_only=True)
class PictureJudge:
    """Takes pictures one after the other, and says at the end what was wrong.

    Attributes:
        tiny: Whether pictures are so small that limits must be wider.
        frames: How many were compared.
        luma: Largest error of a frame's mean luma.
        detail: Largest root mean square error of a frame's small picture.
        block: Largest error of one block of one frame.
    """

    tiny: bool = False
    frames: int = 0
    luma: float = 0.0
    detail: float = 0.0
    block: float = 0.0
    _wrong: dict[str, list[float]] = field(default_factory=dict)
    _colours: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _wanted: NDArray[np.float64] | None = None
    _tagged: tuple[int, bool] = (6, False)
    _before: tuple[Seen, Seen] | None = None

    def cut(self) -> None:
        """Says that the next picture does not follow the last."""
        self._before = None

    def add(
        self,
        now: Seen,
        source: Near,
    ) -> None:
        """Compares a frame with its source and that one's neighbours in time."""
        had = source[1]
        self.frames += 1
        time = float(now.picture.time or 0)
        loose = _LOOSE if self.tiny else 1.0
        difference = now.luma - had.luma
        self.luma = max(self.luma, bias := abs(float(difference.mean())))
        self.detail = max(self.detail, error := float(np.sqrt(np.square(difference).mean())))
        blocks = _block_means(now.rgb - had.rgb)
        self.block = max(self.block, hole := float(np.abs(blocks).max()))
        dark = float(now.luma.mean())
        if dark < _BLACK and float(had.luma.mean()) > dark + _ALIVE:
            self._note("black", time)
        elif hole > BLOCK * loose:
            self._note("broken", time)
        elif bias > LUMA * loose:
            self._note("luma", time)
        elif error > DETAIL * loose:
            self._note("detail", time)
        self._gather(now, had)
        self._follow(now, source, time)

    def _follow(self, now: Seen, source: Near, time: float) -> None:
        """Whether it is this frame and no other, where it is not woven of two times, and moves."""
        had, before = source[1], self._before
        self._before = now, had
        own = _apart(now, had)
        others = [_apart(now, near) for near in (source[0], source[2]) if near]
        nearer = any(other < own * _NEARER and own - other > _MARGIN for other in others)
        if nearer and not had.picture.interlaced:
            self._note("order", time)
        elif before is not None:
            change = _apart(now, before[0]), _apart(had, before[1])
            if change[1] > _MOTION and change[0] < _STILL * change[1]:
                self._note("frozen", time)

    def _gather(self, now: Seen, had: Seen) -> None:
        """Sums up the colours of blocks, as tagged and as if they were tagged otherwise."""
        wanted = _block_means(had.rgb).astype(np.float64)
        color = resolved(now.picture)
        self._tagged = color.matrix, bool(color.full_range)
        samples = _block_means(now.samples)
        readings = {"tagged": self._tagged}
        if now.picture.format.family == "yuv":
            readings |= _HYPOTHESES
        for name, (matrix, full) in readings.items():
            rgb = to_rgb(samples, now.picture, matrix, full_range=full)
            self._colours[name] = self._colours.get(name, np.zeros(wanted.shape)) + rgb
        self._wanted = wanted if self._wanted is None else self._wanted + wanted

    def _note(self, what: str, time: float) -> None:
        self._wrong.setdefault(what, []).append(time)

    def findings(self) -> Iterator[Finding]:
        """What was found, faults by kind."""
        if not self.frames:
            yield fault("pictures", "no picture could be compared")
            return
        said = {
            "black": "black where the source is not",
            "luma": "brighter or darker than the source",
            "broken": "with parts that are not in the source",
            "detail": "unlike the source",
            "order": "like another frame of the source than their own",
            "frozen": "a repetition where the source moves",
        }
        for kind, times in self._wrong.items():
            where = ", ".join(f"{time:.3f}" for time in times[:_SHOWN])
            more = ", ..." if len(times) > _SHOWN else ""
            text = f"{len(times)} frames are {said[kind]}: at {where}{more} s"
            yield fault(kind, text, count=len(times), times=[round(t, 4) for t in times[:100]])
        yield self._colour()
        if not self._wrong:
            yield ok("pictures", f"{self.frames} frames are those of the source", **self._figures())

    def _figures(self) -> dict[str, float]:
        names = ("luma", "detail", "block")
        return {name: round(float(getattr(self, name)), 2) for name in names}

    def _colour(self) -> Finding:
        off = {
            name: float(np.abs(total - self._wanted).mean() / self.frames)
            for name, total in self._colours.items()
            if self._wanted is not None
        }
        tagged = off.pop("tagged")
        best = min(off, key=lambda name: off[name], default=None)
        if best is not None and off[best] < min(tagged * _FITS, tagged - _FITS_BY):
            text = f"colours are off by {tagged:.1f}/255; they would fit as {best} range"
            return fault("colour", text, error=round(tagged, 2), fits=best)
        if tagged > COLOUR * (_LOOSE if self.tiny else 1.0):
            return fault("colour", f"colours are off by {tagged:.1f}/255", error=round(tagged, 2))
        return ok("colour", f"colours to {tagged:.2f}/255", error=round(tagged, 3))


def _apart(one: Seen, other: Seen) -> float:
    return float(np.abs(one.luma - other.luma).mean())


def _block_means(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of up to 8 by 8 blocks of equal size: shape (rows, columns, C)."""
    for axis in (0, 1):
        length = picture.shape[axis]
        edges = np.linspace(0, length, min(_BLOCKS, length) + 1).astype(np.intp)
        sums = np.add.reduceat(picture, edges[:-1], axis=axis)
        shape = [-1 if k == axis else 1 for k in range(3)]
        picture = (sums / np.diff(edges).reshape(shape)).astype(np.float32)
    return picture
