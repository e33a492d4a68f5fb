"""Both ends of a network in a kernel each: integer planes in, integer planes out.

    luma   Y → (N, 1, H, W) half               detail (+ nearest Y) → shuffle → rounded Y
           U, V → U, V of the output's grid, beside the network
    RGB    Y, U, V → siting, matrix, clamp     detail (+ nearest RGB) → shuffle → clamp →
           → (N, 3, H, W) half, channels last  matrix → Y; siting → U, V; or G, B, R

They compute what `vsr.engine.route` does, with its taps and matrices and in its order: codes are
equal, but where a sum of float32 that is ordered otherwise lies on the edge between two codes. One
thing is better: the network's detail and the picture that it is added to are summed in float32, and
for luma this picture is the exact one.

Not for these kernels, and refused by `fits`: alpha, floating-point samples, a size that is not the
network's own, and a luma network between different matrices. `Route` does them all.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from vsr.engine.color import (
    ChromaGrid,
    Picture,
    affine,
    rgb_to_ycc,
    torch_dtype,
    ycc_to_rgb,
)
from vsr.engine.kernels import launching, runs_on
from vsr.errors import DeviceError, UsageError
from vsr.resample import Kernel, taps

type Planes = tuple[Tensor, ...]
type Detail = Callable[[Tensor], Tensor]
"""A network without its end: (N, C, H, W) to (N, C·r², H·s/r, W·s/r), before a shuffle by r."""

_TILE_Y: Final = 4
_TILE_X: Final = 128
_FAMILIES: Final = {"gray": 0, "yuv": 1, "rgb": 2}


def fits(source: Picture, target: Picture, scale: int, channels: int | None) -> bool:
    """Whether the kernels do what `Route` would do between two pictures.

    Args:
        source: What comes in.
        target: What goes out.
        scale: Of the network.
        channels: Of the network: 1 for luma, 3 for RGB.
    """
    formats = (source.format, target.format)
    sized = (target.width, target.height) == (scale * source.width, scale * source.height)
    if not sized or any(fmt.alpha or fmt.floating for fmt in formats):
        return False
    families = (source.format.family, target.format.family)
    if channels == 3:
        return True
    same = source.color.matrix == target.color.matrix
    return channels == 1 and same and families in {("yuv", "yuv"), ("yuv", "gray"), ("gray",) * 2}


@dataclass(frozen=True, slots=True)
class Moves:
    """From one chroma grid to another: taps along both axes, on the device.

    Attributes:
        columns: Input column of each tap, int32 (taps, output columns).
        across: Weights to them, float32.
        rows: Input row of each tap, int32 (taps, output rows).
        down: Weights to them, float32.
    """

    columns: Tensor
    across: Tensor
    rows: Tensor
    down: Tensor

    @classmethod
    def between(
        cls, source: ChromaGrid, target: ChromaGrid, kernel: Kernel, device: torch.device
    ) -> "Moves":
        """The taps of `move_chroma`, or single ones where nothing moves."""
        found = []
        for k in (0, 1):
            length, new = source.size[1 - k], target.size[1 - k]
            luma = (target.width / source.width, target.height / source.height)[k]
            scale = luma * source.ratio[k] / target.ratio[k]
            shift = (target.offset[k] / luma - source.offset[k]) / source.ratio[k]
            still = new == length and abs(shift) <= 1e-9 and abs(scale - 1) <= 1e-9
            index, weight = taps(length, new, "nearest" if still else kernel, shift, scale)
            found.append(index.t().contiguous().to(device, torch.int32))
            found.append(weight.t().contiguous().to(device, torch.float32))
        return cls(*found)

    @property
    def counts(self) -> tuple[int, int]:
        """Taps along rows and along columns."""
        return self.columns.shape[0], self.rows.shape[0]


class _Ends:
    """What the two have in common.

    Args:
        source: What comes in.
        target: What goes out; `fits` must hold.
        kernel: For chroma.
        device: Where the planes are.
        dtype: The network's.
        base: Whether the network's detail is added to the picture, repeated (as in `Compact`).
    """

    channels = 1

    def __init__(
        self,
        source: Picture,
        target: Picture,
        *,
        kernel: Kernel = "bicubic",
        device: torch.device,
        dtype: torch.dtype = torch.float16,
        base: bool = True,
    ) -> None:
        self.scale = target.width // max(1, source.width)
        if not fits(source, target, self.scale, self.channels):
            msg = (
                f"the fused ends cannot go from {source} to {target} with {self.channels} network "
                "channels: use the plain route"
            )
            raise UsageError(msg)
        if not runs_on(device):
            msg = f"Triton cannot run on {device}: it needs its package and a CUDA device"
            raise DeviceError(msg)
        self.source, self.target, self.kernel = source, target, kernel
        self.device, self.dtype, self.base = device, dtype, base
        self._luma_in, self._chroma_in = _inward(source, chroma=False), _inward(source, chroma=True)
        self._luma_out, self._chroma_out = (_outward(target, chroma=c) for c in (False, True))

    def _planes(self, count: int) -> list[Tensor]:
        fmt, (width, height) = self.target.format, (self.target.width, self.target.height)
        return [
            torch.empty(count, h, w, dtype=torch_dtype(fmt), device=self.device)
            for h, w in fmt.plane_shapes(width, height)
        ]

    def _shuffle(self, detail: Tensor) -> int:
        """The factor of the shuffle that a network's output still needs."""
        n, channels, height, width = detail.shape
        r = self.target.width // max(1, width)
        whole = (self.target.height, self.target.width) == (r * height, r * width)
        if not whole or channels != self.channels * r * r or (self.base and r != self.scale):
            wanted = (n, self.channels * self.scale**2, self.source.height, self.source.width)
            msg = (
                f"got a network output {tuple(detail.shape)}, expected {wanted} before its shuffle"
            )
            raise UsageError(msg)
        return r

    def _launch(self, name: str, size: tuple[int, int, int], *args: Any, **constants: Any) -> None:
        kernel = getattr(_sources(), name)
        images, height, width = size
        grid = (images * _blocks(height, width),)
        with launching(self.device):
            kernel[grid](
                *args, **constants, BY=_TILE_Y, BX=_TILE_X, num_warps=4, enable_fp_fusion=False
            )

    def _health(self, count: int) -> Tensor:
        programs = count * _blocks(self.target.height, self.target.width)
        return torch.empty(programs, dtype=torch.float32, device=self.device)


class LumaEnds(_Ends):
    """For networks of one channel; chroma is resampled beside them. See `_Ends` for arguments."""

    channels = 1

    def open(self, planes: Planes) -> Tensor:
        """Maps the source's planes, (N, h, w) each, to luma (N, 1, H, W) in the network's dtype."""
        luma = planes[0].contiguous()
        n, height, width = luma.shape
        out = torch.empty(n, 1, height, width, dtype=self.dtype, device=luma.device)
        self._launch("luma_in", (n, height, width), luma, out, height, width, *self._luma_in)
        return out

    def close(self, planes: Planes, x: Tensor, detail: Tensor) -> tuple[Planes, Tensor]:
        """Makes the target's planes.

        Args:
            planes: The source's.
            x: From `open`.
            detail: The network's output before its shuffle, channels last.

        Returns:
            The target's planes, and a scalar that is finite if and only if all of `detail` is.
        """
        del x  # the integer plane is more exact
        r, n = self._shuffle(detail), detail.shape[0]
        detail = detail.contiguous(memory_format=torch.channels_last)
        out, health = self._planes(n), self._health(n)
        size = (n, self.target.height, self.target.width)
        self._launch(
            "luma_out",
            size,
            *(detail, *_strides(detail, r * r), planes[0].contiguous(), out[0], health, *size[1:]),
            *(*self._luma_in, *self._luma_out),
            S=r,
            BASE=self.base,
        )
        if len(out) == 3:
            self._move(planes[1:3], out[1:])
        return tuple(out), health.sum()

    @functools.cached_property
    def _moves(self) -> Moves:
        source, target = ChromaGrid.of(self.source), ChromaGrid.of(self.target)
        return Moves.between(source, target, self.kernel, self.device)

    def _move(self, planes: Planes, out: list[Tensor]) -> None:
        moves = self._moves
        for plane, moved in zip(planes, out, strict=True):
            n, height, width = moved.shape
            self._launch(
                "resample",
                (n, height, width),
                *(plane.contiguous(), moved, *plane.shape[1:], height, width),
                *(moves.columns, moves.across, moves.rows, moves.down),
                *(*self._chroma_in, *self._chroma_out),
                TX=moves.counts[0],
                TY=moves.counts[1],
            )


class RgbEnds(_Ends):
    """For networks of three channels. See `_Ends` for arguments."""

    channels = 3

    def open(self, planes: Planes) -> Tensor:
        """Maps the source's planes to RGB (N, 3, H, W) in [0, 1], channels last."""
        family = self.source.format.family
        first, second, third = (planes[k if family != "gray" else 0].contiguous() for k in range(3))
        n, height, width = first.shape
        out = torch.empty(n, height, width, 3, dtype=self.dtype, device=first.device)
        moves = self._moves_in
        self._launch(
            "rgb_in",
            (n, height, width),
            *(first, second, third, out, *second.shape[1:], height, width),
            *(moves.columns, moves.across, moves.rows, moves.down),
            *(*self._luma_in, *self._chroma_in, *self._to_rgb),
            FAMILY=_FAMILIES[family],
            TX=moves.counts[0],
            TY=moves.counts[1],
        )
        return out.permute(0, 3, 1, 2)

    def close(self, planes: Planes, x: Tensor, detail: Tensor) -> tuple[Planes, Tensor]:
        """Makes the target's planes; see `LumaEnds.close`."""
        del planes
        r, n = self._shuffle(detail), detail.shape[0]
        detail = detail.contiguous(memory_format=torch.channels_last)
        base = x.contiguous(memory_format=torch.channels_last)
        out, health = self._planes(n), self._health(n)
        size = (n, self.target.height, self.target.width)
        network = (detail, *_strides(detail, 3 * r * r), base)
        self._launch(
            "rgb_out",
            size,
            *(*network, *([out[0]] * 3 if len(out) == 1 else out), health, *size[1:]),
            *(*self._to_ycc[:3], *self._luma_out),
            S=r,
            BASE=self.base,
            PLANES=3 if self.target.format.family == "rgb" else 1,
        )
        if self.target.format.family == "yuv":
            self._chroma(network, r, out)
        return tuple(out), health.sum()

    def _chroma(self, network: tuple[Any, ...], r: int, out: list[Tensor]) -> None:
        moves, (height, width) = self._moves_out, (self.target.height, self.target.width)
        n, rows, columns = out[1].shape
        lines = torch.empty(2, n, height, columns, dtype=torch.float32, device=self.device)
        self._launch(
            "chroma_rows",
            (n, height, columns),
            *(*network, lines, height, width, columns, moves.columns, moves.across),
            *self._to_ycc[3:],
            S=r,
            BASE=self.base,
            TX=moves.counts[0],
        )
        for line, plane in zip(lines, out[1:], strict=True):
            self._launch(
                "chroma_columns",
                (n, rows, columns),
                *(line, plane, height, rows, columns, moves.rows, moves.down, *self._chroma_out),
                TY=moves.counts[1],
            )

    @functools.cached_property
    def _moves_in(self) -> Moves:
        grid = ChromaGrid.of(self.source)
        return Moves.between(grid, grid.full(), self.kernel, self.device)

    @functools.cached_property
    def _moves_out(self) -> Moves:
        grid = ChromaGrid.of(self.target)
        return Moves.between(grid.full(), grid, self.kernel, self.device)

    @functools.cached_property
    def _to_rgb(self) -> list[float]:
        yuv = self.source.format.family == "yuv"
        return _matrix(ycc_to_rgb, self.source.color.matrix) if yuv else [0.0] * 9

    @functools.cached_property
    def _to_ycc(self) -> list[float]:
        rgb = self.target.format.family == "rgb"
        return [0.0] * 9 if rgb else _matrix(rgb_to_ycc, self.target.color.matrix)


class FusedRoute:
    """Maps the planes of a batch to those of the upscaled batch, as `Route` does.

    Args:
        network: Without its pixel shuffle and what is added after it.
        ends: For its channels.
    """

    def __init__(self, network: Detail, ends: LumaEnds | RgbEnds) -> None:
        self.network, self.ends = network, ends

    def __call__(self, planes: Planes) -> tuple[Planes, Tensor]:
        """Upscales a batch; see `Route`."""
        x = self.ends.open(planes)
        return self.ends.close(planes, x, self.network(x))


@functools.cache
def _sources() -> Any:
    from vsr.engine.kernels import _planes  # noqa: PLC0415 - imports Triton

    return _planes


def _blocks(height: int, width: int) -> int:
    return -(-height // _TILE_Y) * -(-width // _TILE_X)


def _inward(picture: Picture, *, chroma: bool) -> tuple[float, float]:
    """(offset, factor) that normalise codes."""
    span, offset = affine(picture.format, full=bool(picture.color.full_range), chroma=chroma)
    return offset, 1 / span


def _outward(picture: Picture, *, chroma: bool) -> tuple[float, float, float]:
    """(span, offset, largest code)."""
    span, offset = affine(picture.format, full=bool(picture.color.full_range), chroma=chroma)
    return span, offset, float((1 << picture.format.bits) - 1)


def _strides(detail: Tensor, channels: int) -> tuple[int, int, int]:
    """Between images, rows and pixels of a dense channels_last tensor, whatever its sides."""
    _, _, height, width = detail.shape
    return height * width * channels, width * channels, channels


def _matrix(convert: Callable[[Tensor, int], Tensor], code: int) -> list[float]:
    """The nine numbers of a conversion, row by row: what it makes of the unit vectors."""
    unit = torch.eye(3).view(1, 3, 3, 1)
    return [float(value) for value in convert(unit, code).flatten()]
