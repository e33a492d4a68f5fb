"""Wrappers that change what size of picture an `Upscaler` sees."""

import math
from dataclasses import replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.engine.base import PlaneMap, Routed, Upscaler
from vsr.engine.color import Picture
from vsr.errors import UsageError
from vsr.models._base import InputSpec
from vsr.resample import Kernel
from vsr.tiling import smallest_tile, spans

_STEP = 16
"""Sides of tiles are multiples of this where they can be, for the sake of vector units."""


@lru_cache(maxsize=64)
def even_tile(length: int, tile: int, overlap: int, multiple_of: int) -> int:
    """The shortest tile, by steps, that cuts an axis into as few pieces as the one given.

    Without it the last tile, which moves inward, computes most of its neighbour again.

    Args:
        length: Pixels of the axis.
        tile: Most pixels that a tile may read.
        overlap: Pixels that an artificial edge spoils.
        multiple_of: What the network aligns to.
    """
    if tile >= length:
        return tile
    step = math.lcm(_STEP, multiple_of)
    pieces, best = len(spans(length, tile, overlap, multiple_of)), tile
    least = smallest_tile(overlap, multiple_of)
    for shorter in range((tile - 1) // step * step, least - 1, -step):
        if len(spans(length, shorter, overlap, multiple_of)) > pieces:
            break
        best = shorter
    return best


class Tiled:
    """Runs a network tile by tile; equal to the whole picture where the network's tiling is exact.

    All tiles of a picture have one shape.

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
        tall, wide = (even_tile(s, self.tile, self.overlap, aligned) for s in (height, width))
        for row in spans(height, tall, self.overlap, aligned):
            for column in spans(width, wide, self.overlap, aligned):
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


class FixedBatch:
    """Grows a batch to one size by repeating its last picture, for engines made for one shape.

    Args:
        inner: The engine, or what wraps it.
        batch: Pictures that it always gets; larger batches go as they are.
    """

    def __init__(self, inner: Upscaler, batch: int) -> None:
        self.inner, self.spec, self.batch = inner, inner.spec, batch

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) to (N, C, s·H, s·W)."""
        count = x.shape[0]
        if count >= self.batch:
            return self.inner(x)
        more = x[-1:].expand(self.batch - count, -1, -1, -1)
        return self.inner(torch.cat([x, more]))[:count]


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

    def route(self, source: Picture, target: Picture, kernel: Kernel) -> PlaneMap | None:
        """The inner one's, where nothing has to be added."""
        sides = (source.height, source.width)
        if not isinstance(self.inner, Routed) or any(_missing(s, self.inner.spec) for s in sides):
            return None
        return self.inner.route(source, target, kernel)


def _missing(side: int, spec: InputSpec) -> int:
    return spec.fitting(side) - side


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
