"""Unsharp masking of the targets (Real-ESRGAN, section 3.4).

Sharpened targets make networks draw sharper; the degradation starts from them as well.
"""

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

RADIUS: Final = 50
"""Side of the kernel, made odd."""


def sharpened(
    x: Tensor, *, weight: float = 0.5, threshold: float = 10.0, radius: int = RADIUS
) -> Tensor:
    """Adds what a blur takes away, where that is more than noise.

    Args:
        x: (N, C, H, W) in [0, 1].
        weight: Share of the residue that is added.
        threshold: Residue in 255ths above which a pixel is sharpened; the mask is blurred.
        radius: Side of the Gaussian, whose sigma follows from it as in OpenCV.

    Returns:
        Same shape, dtype and device, in [0, 1].
    """
    side = radius + 1 - radius % 2
    residue = x - _blurred(x, side)
    mask = (residue.abs() * 255 > threshold).to(x)
    soft = _blurred(mask, side)
    sharp = (x + weight * residue).clamp(0, 1)
    return soft * sharp + (1 - soft) * x


def _gaussian(side: int) -> Tensor:
    """One axis of the kernel; OpenCV's rule makes a sigma of the side."""
    sigma = 0.3 * ((side - 1) * 0.5 - 1) + 0.8
    steps = torch.arange(side, dtype=torch.float64) - side // 2
    values = torch.exp(-steps.square() / (2 * sigma**2))
    return values / values.sum()


def _blurred(x: Tensor, side: int) -> Tensor:
    """Blurs both axes, each by a product with a matrix: so wide a kernel fills most of it."""
    rows, columns = (_matrix(extent, side, x.dtype, x.device) for extent in x.shape[-2:])
    return rows @ (x @ columns.T)


@lru_cache(maxsize=32)
def _matrix(length: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What each sample of a blurred row takes from each, reflections about the ends included."""
    with torch.inference_mode(mode=False):
        period = max(1, 2 * (length - 1))
        reach = torch.arange(length)[:, None] + torch.arange(side) - side // 2
        place = reach.remainder(period)
        place = torch.minimum(place, period - place).clamp_max(length - 1)
        weights = _gaussian(side).expand(length, side)
        made = torch.zeros(length, length, dtype=torch.float64).scatter_add_(1, place, weights)
        return made.to(dtype=dtype, device=device)
