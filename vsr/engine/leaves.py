"""Pictures that are drawn, for whoever needs some with the statistics of photographs and has none.

Dead leaves: shapes of random place, size and brightness, each in front of the next. With radii of
density r⁻³ they have the edges, the flat parts and the spectrum of photographs at every scale (Lee,
Mumford and Huang, "Occlusion Models for Natural Images: A Statistical Study of a Scale-Invariant
Dead Leaves Model", 2001). Some of the shapes are thin as strokes are, and some pictures are noisy.
They are drawn larger and reduced, as a lens and a sensor leave no edge sharper than a pixel.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FINER: Final = 3
"""Times as large as wanted they are drawn."""
_SMALLEST: Final = 12.0
"""Radius of a leaf in pixels of the drawing."""
_CONTRAST: Final = (1.0, 0.7, 0.4)
"""Of the whole range, taken in turns; the mean gradient is then that of photographs, 0.08."""
_THIN: Final = 0.15
"""Of a stroke's length."""
_NOISE: Final = (0.0, 0.004, 0.016)
"""Standard deviations, likewise."""


def leaves(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Draws pictures, the same for a seed every time.

    Args:
        count: How many.
        channels: Of each, all coloured independently.
        height: In pixels.
        width: Likewise.
        seed: Another one draws others.

    Returns:
        Shape (count, channels, height, width), float32 on the CPU, in [0, 1].
    """
    random = np.random.default_rng(seed)
    drawn = np.empty((count, channels, height, width), np.float32)
    for number in range(count):
        large = _drawn(random, channels, height * _FINER, width * _FINER)
        contrast = _CONTRAST[number % len(_CONTRAST)]
        drawn[number] = large.reshape(channels, height, _FINER, width, _FINER).mean((2, 4))
        drawn[number] = contrast * drawn[number] + (1 - contrast) * random.random()
        drawn[number] += random.normal(0, _NOISE[number % len(_NOISE)], drawn[number].shape)
    return torch.from_numpy(drawn.clip(0, 1))


def _drawn(
    random: np.random.Generator, channels: int, height: int, width: int
) -> NDArray[np.float32]:
    """One picture, drawn from the front to the back until nothing shows through."""
    picture = np.zeros((channels, height, width), np.float32)
    free = np.ones((height, width), bool)
    largest = max(height, width) / 2
    thinnest = _SMALLEST**-2 - largest**-2
    while free.any():
        radius = (_SMALLEST**-2 - random.random() * thinnest) ** -0.5
        middle = random.random(2) * (height, width)
        top, left = np.maximum(middle - radius, 0).astype(int)
        bottom, right = (middle + radius + 1).astype(int)
        y, x = np.ogrid[top : min(bottom, height), left : min(right, width)]
        inside = _inside(random, y - middle[0], x - middle[1], radius)
        place = (slice(top, bottom), slice(left, right))
        inside &= free[place]
        picture[(slice(None), *place)][:, inside] = random.random((channels, 1))
        free[place] &= ~inside
    return picture


def _inside(
    random: np.random.Generator, y: NDArray[np.float64], x: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """Which pixels a leaf of random kind covers: a disc, or a turned square or stroke."""
    kind, angle = random.integers(3), random.random() * np.pi
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == 0:
        return np.asarray(along**2 + across**2 < radius**2)
    half = radius / 2**0.5
    thin = 1 if kind == 1 else _THIN
    return np.asarray((abs(along) < half) & (abs(across) < half * thin))
