"""Separable antialiased resampling, equal to zimg's and MATLAB's `imresize`.

Sample positions follow the centre-aligned convention (zimg, swscale, MATLAB, `align_corners=False`):
output sample `i` lies at `(i + 0.5) / scale - 0.5 + shift` of the input. When the output is smaller than the
input, the kernel is stretched by the ratio, so that it low-passes. Samples beyond an edge are mirrored about
the edge (half-sample symmetric), as zimg's `compute_filter` and MATLAB's `imresize` do.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

type Kernel = Literal["nearest", "bilinear", "bicubic", "lanczos"]


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_min(0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -0.5 (Keys 1981, eq. 15), the default of zimg and MATLAB."""
    a, x = -0.5, x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _lanczos3(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))


_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos3, 3.0),
}


@lru_cache(maxsize=256)
def taps(
    source: int, target: int, kernel: Kernel, shift: float = 0.0, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Computes which input samples make each output sample along one axis.

    Args:
        source: Length of the input axis.
        target: Length of the output axis.
        kernel: Reconstruction kernel.
        shift: Displacement of the sampling grid in input samples.
        scale: Output samples per input sample; `target / source` when not given.

    Returns:
        `(index, weight)`, both of shape (target, taps) on the CPU: int64 in [0, source) and float64 rows
        that sum to one.
    """
    scale = target / source if scale is None else scale
    centre = (torch.arange(target, dtype=torch.float64) + 0.5) / scale - 0.5 + shift
    if kernel == "nearest":
        return centre.add(0.5).floor().long().clamp(0, source - 1)[:, None], torch.ones(target, 1).double()
    function, radius = _KERNELS[kernel]
    stretch = max(1.0, 1.0 / scale)
    count = 2 * math.ceil(radius * stretch) + 1
    first = (centre - radius * stretch).ceil()
    position = first[:, None] + torch.arange(count, dtype=torch.float64)
    weight = function((position - centre[:, None]) / stretch)
    weight = weight / weight.sum(1, keepdim=True)
    used = weight.abs().amax(0) > 0
    return _mirror(position.long(), source)[:, used], weight[:, used]


def _mirror(index: Tensor, length: int) -> Tensor:
    index = index.remainder(2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def resample_axis(x: Tensor, axis: int, index: Tensor, weight: Tensor) -> Tensor:
    """Applies the result of `taps` along one axis of a floating-point tensor."""
    shape = [1] * x.ndim
    shape[axis] = -1
    index, weight = index.to(x.device), weight.to(x)
    out = x.index_select(axis, index[:, 0]).mul_(weight[:, 0].view(shape))
    for k in range(1, index.shape[1]):
        out.addcmul_(x.index_select(axis, index[:, k]), weight[:, k].view(shape))
    return out


def resize(x: Tensor, height: int, width: int, kernel: Kernel = "bicubic") -> Tensor:
    """Resamples the last two axes of a floating-point tensor.

    Args:
        x: Floating-point tensor of shape (..., H, W), any value range.
        height: Rows of the result.
        width: Columns of the result.
        kernel: Reconstruction kernel; stretched when the result is smaller.

    Returns:
        Tensor of shape (..., height, width), same dtype and device. Values may overshoot the input's range.
    """
    if width != x.shape[-1]:
        x = resample_axis(x, x.ndim - 1, *taps(x.shape[-1], width, kernel))
    if height != x.shape[-2]:
        x = resample_axis(x, x.ndim - 2, *taps(x.shape[-2], height, kernel))
    return x
