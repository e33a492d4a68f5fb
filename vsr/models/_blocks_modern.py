"""A linear layer for mixed types, and the geometry of attention within windows.

The windows are the Swin transformer's (Liu et al. 2021, arXiv:2103.14030). Pictures here have their
channels last, (N, H, W, E), and sides that are multiples of the window; a window's T = window²
pixels are in reading order.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """A linear layer that takes its input in its weight's type, as the engine's convolutions do."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., A) to (..., B)."""
        return super().forward(x.to(self.weight.dtype))


def pair_offsets(window: int) -> Tensor:
    """Row of the bias table for each pair of pixels of a window, (T, T)."""
    row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    y, x = (axis.flatten()[:, None] - axis.flatten()[None] for axis in (row, column))
    return (y + window - 1) * (2 * window - 1) + x + window - 1


def windows(x: Tensor, window: int) -> Tensor:
    """Cuts (N, H, W, E) into windows, (N·H·W/T, T, E)."""
    count, height, width, embed = x.shape
    x = x.reshape(count, height // window, window, width // window, window, embed)
    return x.transpose(2, 3).reshape(-1, window * window, embed)


def picture(x: Tensor, window: int, shape: torch.Size) -> Tensor:
    """Undoes `windows`."""
    count, height, width, embed = shape
    x = x.reshape(count, height // window, width // window, window, window, embed)
    return x.transpose(2, 3).reshape(count, height, width, embed)


def shifted_mask(x: Tensor, window: int) -> Tensor:
    """Keeps apart what the cyclic shift brings together, (N·H·W/T, 1, T, T).

    After the shift, the last window of a row or column holds the picture's end and its beginning.
    """
    count, height, width, _ = x.shape
    shift = window // 2
    rows, columns = (
        (torch.arange(side, device=x.device) >= side - shift).to(x.dtype)
        for side in (height, width)
    )
    part = (2 * rows[:, None] + columns).reshape(1, height, width, 1)
    part = windows(part, window)
    apart = (part != part.transpose(1, 2)).unsqueeze(1).repeat(count, 1, 1, 1)
    return torch.zeros_like(apart, dtype=x.dtype).masked_fill(apart, -math.inf)


def aligned(x: Tensor, window: int) -> Tensor:
    """Mirrors the picture at the right and bottom up to a multiple of the window."""
    height, width = x.shape[-2:]
    down, right = -height % window, -width % window
    if not (down or right):
        return x
    mode = "reflect" if down < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, down), mode=mode)
