"""Steadiness of a film against its original, over successive frames.

tof     how far the apparent motion of the result is from that of the original, in pixels (Chu et
        al. 2020, TecoGAN, eq. 5: tOF)
warp    what remains of the result when each frame is compared with the one before, moved along the
        original's motion, where nothing is hidden (Lai et al. 2018, eq. 9), as a root of the mean
        square in 8-bit levels. The original's motion serves all results, so they compare
static  flicker: what changes in the result from frame to frame where the original stands still, in
        8-bit levels
"""

from collections.abc import Collection
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vsr.judging.filtering import correlated
from vsr.judging.flow import Flow, flow, inside, warped

type Steadiness = Literal["tof", "warp", "static"]
type Luma = NDArray[np.floating]
"""Shape (H, W), 0 to 255."""

_BORDER: Final = 8
"""Left out of tOF along every side, as TecoGAN does."""
_STILL: Final = 1.0
_REACH: Final = 3
_LEAST: Final = 0.01
_CUT: Final = 25.0
"""More levels than this are left where motion explains nothing: another scene has begun."""


class Temporal:
    """Measures successive pairs of frames; a flow is computed once for what shares it.

    Args:
        wanted: What to measure.
    """

    def __init__(self, wanted: Collection[Steadiness]) -> None:
        self._wanted = wanted
        self._last: tuple[Luma, Luma] | None = None

    def push(self, reference: Luma, result: Luma) -> dict[str, float]:
        """Takes the next pair of frames.

        Args:
            reference: Luma of the original's frame.
            result: Luma of the result's, same shape.

        Returns:
            What was wanted, by name; NaN at the first frame, at cuts, and where nothing can be
            measured because all moves or all is hidden.

        Raises:
            UsageError: The pictures are too small for optical flow.
        """
        before, self._last = self._last, (reference, result)
        scores: dict[str, float] = dict.fromkeys(self._wanted, float("nan"))
        if before is None:
            return scores
        if "static" in scores:
            scores["static"] = flicker(before, (reference, result))
        if "tof" not in scores and "warp" not in scores:
            return scores
        motion = flow(reference, before[0])
        if np.sqrt(np.mean(np.square(reference - warped(before[0], motion)))) > _CUT:
            return scores
        if "tof" in scores:
            scores["tof"] = motion_error(motion, flow(result, before[1]))
        if "warp" in scores:
            back = flow(before[0], reference)
            scores["warp"] = warping_error(before[1], result, motion, back)
        return scores


def motion_error(reference: Flow, result: Flow) -> float:
    """The mean distance of two flow fields in pixels, 8 pixels of border left out."""
    far = np.linalg.norm(reference - result, axis=-1)
    inner = slice(_BORDER, -_BORDER)
    return float((far[inner, inner] if min(far.shape) > 4 * _BORDER else far).mean())


def warping_error(before: Luma, now: Luma, motion: Flow, back: Flow) -> float:
    """What moving the frame before does not explain of a frame.

    Args:
        before: Luma of the earlier frame.
        now: Luma of the frame.
        motion: From `now` to `before`, of the original.
        back: From `before` to `now`, of the original.

    Returns:
        Root of the mean square in 8-bit levels over the visible; NaN if nothing is.
    """
    seen = visible(motion, back)
    if seen.mean() < _LEAST:
        return float("nan")
    rest = now - warped(before, motion)
    return float(np.sqrt(np.mean(np.square(rest[seen]))))


def visible(motion: Flow, back: Flow) -> NDArray[np.bool_]:
    """Where motion there and back agree (Sundaram, Brox, Keutzer 2010, eq. 5) in the picture."""
    returned = warped(back, motion)
    apart = np.square(motion + returned).sum(-1)
    size = np.square(motion).sum(-1) + np.square(returned).sum(-1)
    return np.asarray((apart <= 0.01 * size + 0.5) & inside(motion))


def flicker(before: tuple[Luma, Luma], now: tuple[Luma, Luma]) -> float:
    """The result's change over time where the original has none.

    Args:
        before: Luma of the earlier frames of original and result.
        now: Luma of the frames.

    Returns:
        Root of the mean square in 8-bit levels, over pixels whose surroundings of 7×7 change by
        less than one level on the average in the original; NaN if fewer than 1 % do.
    """
    mean = np.full(2 * _REACH + 1, 1 / (2 * _REACH + 1))
    moved = np.abs(now[0].astype(np.float64) - before[0])
    still = correlated(correlated(moved, mean, 0), mean, 1) < _STILL
    if still.mean() < _LEAST:
        return float("nan")
    change = (now[1].astype(np.float64) - before[1]) - (now[0].astype(np.float64) - before[0])
    return float(np.sqrt(np.mean(np.square(change[still]))))
