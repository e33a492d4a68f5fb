"""Resizes as degradations meet them: with and without antialiasing.

`area`, `bilinear` and `bicubic` are OpenCV's, and so PyTorch's: the latter two sample between the
pixels however much smaller the result, and so alias. `matlab` is antialiased and rounded.
"""

from typing import Final, Literal

import numpy as np
from torch import Tensor
from torch.nn import functional

from vsr.resample import resize

type Mode = Literal["area", "bilinear", "bicubic"]

MODES: Final[tuple[Mode, ...]] = ("area", "bilinear", "bicubic")


def resized(x: Tensor, height: int, width: int, mode: Mode) -> Tensor:
    """Resizes (N, C, H, W); bicubic overshoots and is not clamped."""
    size = (max(1, height), max(1, width))
    if mode == "area":
        return functional.interpolate(x, size=size, mode="area")
    return functional.interpolate(x, size=size, mode=mode, align_corners=False)


def drawn_mode(random: np.random.Generator) -> Mode:
    """Draws one of the three, equally likely."""
    return MODES[int(random.integers(len(MODES)))]


def matlab_reduced(x: Tensor, scale: int) -> Tensor:
    """Reduces as the papers' data sets were: MATLAB's `imresize` on 8 bits.

    Antialiased bicubic; MATLAB reduces the height first, rounds to whole samples, then the width.

    Args:
        x: (..., H, W) in [0, 1], sides multiples of the scale.
        scale: To reduce by.

    Returns:
        (..., H / scale, W / scale), multiples of 1/255 in [0, 1].
    """
    height, width = (side // scale for side in x.shape[-2:])
    low = (resize(x * 255, height, x.shape[-1], "bicubic")).round().clamp(0, 255)
    return resize(low, height, width, "bicubic").round().clamp(0, 255) / 255


def rounded(x: Tensor) -> Tensor:
    """What 8 bits can hold, in [0, 1]."""
    return (x * 255).round().clamp(0, 255) / 255
