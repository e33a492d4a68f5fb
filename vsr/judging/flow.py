"""Dense optical flow by polynomial expansion, in numpy.

Farnebäck 2003 ("Two-frame motion estimation based on polynomial expansion"): around every pixel
each picture is fitted by a quadratic, f(x) ≈ xᵀAx + bᵀx + c, under a Gaussian weight. Where the
second picture is the first moved by d, A stays and b becomes b − 2Ad, so that A d = −Δb / 2: a
linear equation, solved in the least-squares sense over a window, from coarse to fine and a few
times at each level about the motion known so far (section 4.2 and 4.3 of the paper).

The settings are those with which TecoGAN's tOF is measured: a window of 15, 3 iterations,
quadratics over 11×11 with σ = 1.2, halved pictures below. Known limits: motion beyond a window at
the coarsest level is not found, and neither are textureless regions, which follow their
surroundings.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsr.errors import UsageError
from vsr.judging.filtering import correlated, gaussian, separable

type Flow = NDArray[np.float32]
"""Shape (H, W, 2): rightward and downward motion in pixels."""

_RADIUS: Final = 5
_SIGMA: Final = 1.2
_WINDOW: Final = 15
_ROUNDS: Final = 3
_LEVELS: Final = 5
_SMALLEST: Final = 24
_BINOMIAL: Final = np.array([1, 4, 6, 4, 1]) / 16
_FLOOR: Final = 1e-3
"""Added to the determinant, as OpenCV does: flat regions then stand still."""


def flow(first: NDArray[np.floating], second: NDArray[np.floating]) -> Flow:
    """Finds where the points of a picture have gone to in another.

    Args:
        first: Shape (H, W), values from 0 to 255, at least 24 pixels a side.
        second: Of the same shape.

    Returns:
        `second` at `p + flow[p]` shows what `first` shows at `p`.

    Raises:
        UsageError: The pictures are too small.
        ValueError: The shapes differ.
    """
    if first.shape != second.shape or first.ndim != 2:
        msg = f"flow needs two single planes of one shape, got {first.shape} and {second.shape}"
        raise ValueError(msg)
    if min(first.shape) < _SMALLEST:
        msg = (
            f"optical flow needs at least {_SMALLEST} pixels a side, got "
            f"{first.shape[1]}x{first.shape[0]}: leave tof and warp out of --metrics"
        )
        raise UsageError(msg)
    pyramid = [(first.astype(np.float32), second.astype(np.float32))]
    while len(pyramid) < _LEVELS and min(pyramid[-1][0].shape) >= 2 * _SMALLEST:
        a, b = pyramid[-1]
        pyramid.append((_reduced(a), _reduced(b)))
    motion: Flow = np.zeros((*pyramid[-1][0].shape, 2), np.float32)
    for a, b in reversed(pyramid):
        motion = _enlarged(motion, a.shape)
        here, there = _expansion(a), _expansion(b)
        for _ in range(_ROUNDS):
            motion = _step(here, there, motion)
    return motion


def warped(picture: NDArray[np.floating], motion: Flow) -> NDArray[np.float32]:
    """Fetches what has moved back: `picture` at `p + motion[p]`, bilinear.

    Args:
        picture: Shape (H, W) or (H, W, C).
        motion: Shape (H, W, 2).

    Returns:
        Same shape as `picture`; beyond an edge its last samples go on.
    """
    height, width = picture.shape[:2]
    y, x = _targets(motion)
    y, x = y.clip(0, height - 1), x.clip(0, width - 1)
    top = np.minimum(y.astype(np.int32), max(0, height - 2))
    left = np.minimum(x.astype(np.int32), max(0, width - 2))
    down, right = min(1, height - 1), min(1, width - 1)
    v, h = (y - top).astype(np.float32), (x - left).astype(np.float32)
    if picture.ndim == 3:
        v, h = v[..., None], h[..., None]
    upper = picture[top, left] * (1 - h) + picture[top, left + right] * h
    lower = picture[top + down, left] * (1 - h) + picture[top + down, left + right] * h
    return np.asarray(upper * (1 - v) + lower * v, np.float32)


def inside(motion: Flow) -> NDArray[np.bool_]:
    """Where motion leads to a point of the picture."""
    height, width = motion.shape[:2]
    y, x = _targets(motion)
    return np.asarray((y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1))


def _targets(motion: Flow) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    height, width = motion.shape[:2]
    rows = np.arange(height, dtype=np.float32)[:, None]
    return rows + motion[..., 1], np.arange(width, dtype=np.float32) + motion[..., 0]


def _reduced(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(separable(x, _BINOMIAL, _BINOMIAL)[::2, ::2], np.float32)


def _enlarged(motion: Flow, shape: tuple[int, ...]) -> Flow:
    """Doubles a flow field in size and length; sample 2i of the finer level is sample i here."""
    if motion.shape[:2] == shape:
        return motion
    rows = np.arange(shape[0], dtype=np.float32)[:, None] / 2 - np.arange(shape[0])[:, None]
    columns = np.arange(shape[1], dtype=np.float32) / 2 - np.arange(shape[1])
    grid = np.stack(np.broadcast_arrays(columns, rows), -1).astype(np.float32)
    margin = [(0, shape[0] - motion.shape[0]), (0, shape[1] - motion.shape[1]), (0, 0)]
    return 2 * warped(np.pad(motion, margin, mode="edge"), grid)


def _expansion(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The quadratics of a picture.

    With a separable weight that sums to 1 and has moments m₂ and m₄, the normal equations solve in
    closed form: the products of even and odd functions vanish.

    Returns:
        Shape (H, W, 5): bx, by, Axx, Ayy, Axy.
    """
    weight = gaussian(_RADIUS, _SIGMA)
    place = np.arange(-_RADIUS, _RADIUS + 1)
    second = float((weight * place**2).sum())
    spread = float((weight * place**4).sum()) - second**2
    flat, slope, bend = weight, weight * place / second, weight * (place**2 - second) / spread
    rows = [correlated(x, taps, 0) for taps in (flat, slope, bend)]
    return np.stack(
        [
            correlated(rows[0], slope, 1),
            correlated(rows[1], flat, 1),
            correlated(rows[0], bend, 1),
            correlated(rows[2], flat, 1),
            correlated(rows[1], slope, 1) / 2,
        ],
        axis=-1,
    ).astype(np.float32)


def _step(here: NDArray[np.float32], there: NDArray[np.float32], motion: Flow) -> Flow:
    """One round: the equation about the known motion, gathered over a window and solved."""
    moved = warped(there, motion)
    known = inside(motion)[..., None]
    xx, yy, xy = (np.where(known, (here + moved) / 2, here)[..., i] for i in (2, 3, 4))
    change = np.where(known, (here - moved) / 2, 0)
    bx = change[..., 0] + xx * motion[..., 0] + xy * motion[..., 1]
    by = change[..., 1] + xy * motion[..., 0] + yy * motion[..., 1]
    mean = np.full(_WINDOW, 1 / _WINDOW)
    # Gathered in double precision: the determinant is a difference of nearly equal products.
    g11, g12, g22, h1, h2 = (
        separable(plane.astype(np.float64), mean, mean)
        for plane in (
            xx * xx + xy * xy,
            xy * (xx + yy),
            xy * xy + yy * yy,
            xx * bx + xy * by,
            xy * bx + yy * by,
        )
    )
    scale = 1 / (g11 * g22 - g12 * g12 + _FLOOR)
    return np.stack([(g22 * h1 - g12 * h2) * scale, (g11 * h2 - g12 * h1) * scale], -1).astype(
        np.float32
    )
