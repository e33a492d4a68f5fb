"""Separable antialiased resampling, equal to zimg's and MATLAB's `imresize`.

Sample positions follow the centre-aligned convention (zimg, swscale, MATLAB,
`align_corners=False`): output sample `i` lies at `(i + 0.5) / scale - 0.5 + shift` of the input.
When the output is smaller than the input, the kernel is stretched by the ratio, so that it
low-passes. Samples beyond an edge are mirrored about the edge (half-sample symmetric), as zimg's
`compute_filter` and MATLAB's `imresize` do.

On the CPU an axis is cut into blocks of outputs, each the product of a small dense matrix with the
few inputs that it needs: matrix units are so fast that multiplying by zeros costs less than moving
data once per tap. Elsewhere the taps are accumulated one by one, in full precision whatever the
device's matrix units would round to. Either way a plane's bits do not depend on the batch.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

type Kernel = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_BLOCK = 32
"""Outputs per matrix: measured best from 320×180 to 1280×720, within 20 % from 16 to 64."""


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_min(0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -0.5 (Keys 1981, eq. 15), as in MATLAB.

    zimg calls it b = 0, c = 0.5; its own default is b = c = 1/3, VapourSynth's too.
    """
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
        `(index, weight)`, both of shape (target, taps) on the CPU: int64 in [0, source) and float64
        rows that sum to one. Equal arguments give the same tensors: do not write to them.
    """
    with torch.inference_mode(mode=False):
        scale = target / source if scale is None else scale
        centre = (torch.arange(target, dtype=torch.float64) + 0.5) / scale - 0.5 + shift
        if kernel == "nearest":
            index = centre.add(0.5).floor().long().clamp(0, source - 1)[:, None]
            return index, torch.ones(target, 1, dtype=torch.float64)
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
    """Applies the result of `taps` along one of the last two axes of a floating-point tensor.

    Args:
        x: Shape (..., H, W); half precisions are computed in float32.
        axis: That of H or W, counted from either end.
        index: From `taps`.
        weight: From `taps`.

    Returns:
        Same shape but for the axis, same dtype and device; differentiable in `x`. Once a device has
        seen the taps, nothing waits for the host.
    """
    if index.shape[1] == 1:
        return x.index_select(axis, _taps_on(index, weight, x.device, x.dtype)[0][0])
    vertical = axis % x.ndim == x.ndim - 2
    apply = _by_blocks if x.device.type == "cpu" else _by_taps
    return apply(x.to(_working(x.dtype)), index, weight, vertical=vertical).to(x.dtype)


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _by_taps(x: Tensor, index: Tensor, weight: Tensor, *, vertical: bool) -> Tensor:
    places, factors = _taps_on(index, weight, x.device, x.dtype)
    axis = x.ndim - 1 - vertical
    factors = factors[:, :, None] if vertical else factors
    out = x.index_select(axis, places[0]) * factors[0]
    for place, factor in zip(places[1:], factors[1:], strict=True):
        out.addcmul_(x.index_select(axis, place), factor)
    return out


def _by_blocks(x: Tensor, index: Tensor, weight: Tensor, *, vertical: bool) -> Tensor:
    gather, matrix = _blocks(index, weight, x.dtype)
    multiply = _rows if vertical else _columns
    planes = [multiply(plane, gather, matrix, len(index)) for plane in x.reshape(-1, *x.shape[-2:])]
    out = torch.stack(planes) if len(planes) > 1 else planes[0]
    return out.view(*x.shape[:-2], *out.shape[-2:])


def _rows(plane: Tensor, gather: Tensor, matrix: Tensor, target: int) -> Tensor:
    count, _, length = matrix.shape
    needed = plane.index_select(0, gather).view(count, length, -1)
    return torch.bmm(matrix, needed).view(-1, plane.shape[1])[:target]


def _columns(plane: Tensor, gather: Tensor, matrix: Tensor, target: int) -> Tensor:
    count, _, length = matrix.shape
    needed = plane.index_select(1, gather).view(-1, count, length).transpose(0, 1)
    out = torch.bmm(needed, matrix.transpose(1, 2)).transpose(0, 1).reshape(plane.shape[0], -1)
    return out[:, :target].contiguous()


@lru_cache(maxsize=128)
def _taps_on(
    index: Tensor, weight: Tensor, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Taps first and on the device: (taps, target) each. Tensors hash by identity."""
    with torch.inference_mode(mode=False):
        places, factors = index.t().contiguous(), weight.t().contiguous()
        return places.to(device), factors.to(device=device, dtype=dtype)


@lru_cache(maxsize=128)
def _blocks(index: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Folds taps into dense matrices.

    Returns:
        `gather` (blocks · length): the inputs that each block of outputs needs, blocks overlapping;
        `matrix` (blocks, outputs, length), zero where an output does not use an input.
    """
    with torch.inference_mode(mode=False):
        missing = -len(index) % _BLOCK
        rows = torch.arange(len(index) + missing).clamp_max(len(index) - 1)
        index, weight = (t[rows].view(-1, _BLOCK, t.shape[1]) for t in (index, weight))
        first, last = index.amin((1, 2)), index.amax((1, 2))
        length = int((last - first).max()) + 1
        first = first.clamp_max(max(0, int(last.max()) + 1 - length))[:, None]
        gather = first + torch.arange(length)
        matrix = torch.zeros(len(index), _BLOCK, length, dtype=torch.float64)
        matrix.scatter_add_(2, index - first[:, None], weight)
        return gather.flatten(), matrix.to(dtype)


def resize(x: Tensor, height: int, width: int, kernel: Kernel = "bicubic") -> Tensor:
    """Resamples the last two axes of a floating-point tensor.

    Args:
        x: Floating-point tensor of shape (..., H, W), any value range.
        height: Rows of the result.
        width: Columns of the result.
        kernel: Reconstruction kernel; stretched when the result is smaller.

    Returns:
        Tensor of shape (..., height, width), same dtype and device. Values may overshoot the
        input's range.
    """
    y = x.to(_working(x.dtype))
    if width != x.shape[-1]:
        y = resample_axis(y, y.ndim - 1, *taps(x.shape[-1], width, kernel))
    if height != x.shape[-2]:
        y = resample_axis(y, y.ndim - 2, *taps(x.shape[-2], height, kernel))
    return y.to(x.dtype)
