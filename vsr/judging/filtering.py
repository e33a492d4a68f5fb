"""Separable filters of single planes in numpy."""

import numpy as np
from numpy.typing import NDArray

type Plane = NDArray[np.floating]
"""Shape (H, W)."""


def gaussian(radius: int, sigma: float) -> NDArray[np.float64]:
    """A sampled Gaussian of 2·radius + 1 taps that sum to 1."""
    offset = np.arange(-radius, radius + 1)
    window = np.exp(-(offset**2) / (2 * sigma**2))
    return np.asarray(window / window.sum())


def correlated(x: Plane, taps: NDArray[np.float64], axis: int) -> Plane:
    """Correlates along one axis; beyond an edge its last sample goes on.

    Args:
        x: Shape (H, W).
        taps: An odd number of weights.
        axis: 0 or 1.

    Returns:
        Same shape and dtype.
    """
    radius = len(taps) // 2
    margin = [(0, 0), (0, 0)]
    margin[axis] = (radius, radius)
    padded = np.pad(x, margin, mode="edge")
    length = x.shape[axis]
    out = np.zeros_like(x)
    for place, weight in enumerate(taps):
        if weight:
            part = slice(place, place + length)
            out += x.dtype.type(weight) * (padded[part] if axis == 0 else padded[:, part])
    return out


def separable(x: Plane, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Plane:
    """Correlates along the vertical axis with `rows` and along the horizontal with `columns`."""
    return correlated(correlated(x, rows, 0), columns, 1)


def valid(x: Plane, taps: NDArray[np.float64]) -> Plane:
    """Filters both axes with the same taps and keeps what lies wholly inside."""
    for axis in (0, 1):
        x = np.lib.stride_tricks.sliding_window_view(x, len(taps), axis=axis) @ taps
    return x
