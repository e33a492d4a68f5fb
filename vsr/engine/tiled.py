"""Wrappers that change what size of picture an `Upscaler` sees."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.engine.base import Upscaler
from vsr.errors import UsageError
from vsr.models._base import InputSpec
from vsr.tiling import smallest_tile, spans


class Tiled:
    """Runs a network tile by tile; equal to the whole picture where the network's tiling is exact.

    Args:
        inner: The network.
        tile: Height and width that a tile reads, in input pixels; rounded up to what the network
            aligns to.
        overlap: Pixels that artificial edges spoil; the network's own if not given.

    Raises:
        UsageError: The network needs the whole picture, or the tile keeps nothing.
    """

    def __init__(self, inner: Upscaler, tile: int, overlap: int | None = None) -> None:
        spec = inner.spec
        if spec.tiling == "none":
            msg = "this network needs the whole picture and cannot be tiled: use --tile 0"
            raise UsageError(msg)
        self.inner, self.spec = inner, spec
        self.overlap = spec.overlap if overlap is None else overlap
        self.tile = tile + -tile % spec.multiple_of
        need = smallest_tile(self.overlap, spec.multiple_of)
        if self.tile < need:
            msg = f"a tile of {tile} pixels is too small for this network: it needs at least {need}"
            raise UsageError(msg)

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) to (N, C, s·H, s·W)."""
        height, width = x.shape[-2:]
        if height <= self.tile and width <= self.tile:
            return self.inner(x)
        scale, aligned = self.spec.scale, self.spec.multiple_of
        out = x.new_empty(x.shape[0], x.shape[1], height * scale, width * scale)
        for row in spans(height, self.tile, self.overlap, aligned):
            for column in spans(width, self.tile, self.overlap, aligned):
                part = self.inner(x[..., slice(*row.read), slice(*column.read)])
                top, left = row.read[0] * scale, column.read[0] * scale
                rows = slice(row.keep[0] * scale, row.keep[1] * scale)
                columns = slice(column.keep[0] * scale, column.keep[1] * scale)
                out[..., rows, columns] = part[
                    ...,
                    rows.start - top : rows.stop - top,
                    columns.start - left : columns.stop - left,
                ]
        return out


class Padded:
    """Grows a picture at the right and bottom to what the network accepts, and crops the result.

    The margin mirrors the picture where it is wide enough, and repeats its edge where it is not.

    Args:
        inner: The network.
    """

    def __init__(self, inner: Upscaler) -> None:
        self.inner = inner
        self.spec: InputSpec = replace(inner.spec, multiple_of=1, minimum=1)

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) of any size to (N, C, s·H, s·W)."""
        height, width = x.shape[-2:]
        scale = self.spec.scale
        down, right = (_missing(side, self.inner.spec) for side in (height, width))
        if not (down or right):
            return self.inner(x)
        mode = "reflect" if down < height and right < width else "replicate"
        y = self.inner(F.pad(x, (0, right, 0, down), mode=mode))
        return y[..., : height * scale, : width * scale]


def _missing(side: int, spec: InputSpec) -> int:
    target = max(side, spec.minimum)
    return target + -target % spec.multiple_of - side


class Chained:
    """Runs one network after another; scales multiply.

    Args:
        first: Runs on the input.
        second: Runs on the first's result, clamped to [0, 1].
    """

    def __init__(self, first: Upscaler, second: Upscaler) -> None:
        self.first, self.second = first, second
        a, b = first.spec, second.spec
        exact = a.tiling == b.tiling == "exact"
        self.spec = replace(
            a,
            scale=a.scale * b.scale,
            overlap=a.overlap + -(-b.overlap // a.scale),
            tiling="exact" if exact else "approximate",
            half=a.half and b.half,
        )

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) to (N, C, a·b·H, a·b·W)."""
        return self.second(torch.clamp(self.first(x), 0, 1))
