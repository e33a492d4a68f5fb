"""Likeness of two pictures: PSNR and SSIM of colour, and SSIM over several scales.

PSNR and SSIM of single planes, which papers mean, are in `vsr.metrics`.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsr.errors import UsageError
from vsr.judging.filtering import gaussian, valid
from vsr.metrics import Picture, ssim

SCALES: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, finest first: Wang, Simoncelli, Bovik 2003, section 3.2."""
_WINDOW: Final = gaussian(5, 1.5)
SMALLEST: Final = 11 * 2 ** (len(SCALES) - 1)
"""Shortest side that five scales of an 11×11 window need."""


def ssim_rgb(a: Picture, b: Picture, crop: int = 0) -> float:
    """The mean of the channels' SSIM, for pictures of shape (H, W, 3) from 0 to 255.

    Raises:
        ValueError: The shapes differ, or a side is shorter than 11 pixels.
    """
    if a.shape != b.shape:
        msg = f"pictures differ in shape: {a.shape} and {b.shape}"
        raise ValueError(msg)
    return float(np.mean([ssim(a[..., c], b[..., c], crop) for c in range(a.shape[2])]))


def ms_ssim(a: Picture, b: Picture, crop: int = 0, peak: float = 255.0) -> float:
    """Structural similarity over five scales.

    Wang, Simoncelli, Bovik 2003 ("Multi-scale structural similarity for image quality assessment"),
    eq. 7 with the published weights: contrast and structure at every scale, luminance at the
    coarsest; between scales a 2×2 mean and every other sample. Means below 0 count as 0.

    Args:
        a: Single plane of shape (H, W), at least 176 pixels a side after cropping.
        b: Of the same shape.
        crop: Pixels left out along every border.
        peak: Largest possible value.

    Returns:
        At most 1, which equal pictures have.

    Raises:
        UsageError: A side is too short.
        ValueError: The shapes differ, or the pictures have channels.
    """
    if a.shape != b.shape or a.ndim != 2:
        msg = f"MS-SSIM needs two single planes of one shape, got {a.shape} and {b.shape}"
        raise ValueError(msg)
    inner = slice(crop, -crop or None)
    x, y = a[inner, inner].astype(np.float64), b[inner, inner].astype(np.float64)
    if min(x.shape) < SMALLEST:
        msg = (
            f"MS-SSIM needs at least {SMALLEST} pixels a side, got {x.shape[1]}x{x.shape[0]}: "
            "leave msssim out of --metrics"
        )
        raise UsageError(msg)
    score = 1.0
    for place, weight in enumerate(SCALES):
        structure, whole = _moments(x, y, peak)
        last = place == len(SCALES) - 1
        score *= max(0.0, whole if last else structure) ** weight
        x, y = _halved(x), _halved(y)
    return score


def _moments(x: NDArray[np.float64], y: NDArray[np.float64], peak: float) -> tuple[float, float]:
    """Means of contrast × structure, and of that × luminance."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mx, my = valid(x, _WINDOW), valid(y, _WINDOW)
    vx, vy = valid(x * x, _WINDOW) - mx * mx, valid(y * y, _WINDOW) - my * my
    both = valid(x * y, _WINDOW) - mx * my
    structure = (2 * both + c2) / (vx + vy + c2)
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return float(structure.mean()), float((structure * luminance).mean())


def _halved(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A 2×2 mean at every other sample; an odd last row or column is left out."""
    height, width = (side // 2 * 2 for side in x.shape)
    blocks = x[:height, :width].reshape(height // 2, 2, width // 2, 2)
    return np.asarray(blocks.mean((1, 3)))
