"""A frame's planes ↔ normalised pictures, on the device.

Luma is normalised to [0, 1] and chroma to [-0.5, 0.5] by the tagged range (ITU-T H.273, 8.3);
floating-point samples are so already. The matrices are those of H.273 table 4. Nothing is clamped
before a network that needs it, so super-white survives a luma network. Chroma moves between
sampling grids with its siting: see `ChromaGrid`.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vsr.errors import UnsupportedSourceError
from vsr.resample import Kernel, resample_axis, taps
from vsr.types import ColorSpec, PixelFormat

_KR_KB: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_YCGCO = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Size and meaning of the planes at one end of the engine.

    Attributes:
        width: Luma samples in a row.
        height: Rows of luma.
        format: Layout of the planes.
        color: Resolved tags: matrix, range and siting are specified.
    """

    width: int
    height: int
    format: PixelFormat
    color: ColorSpec


@dataclass(frozen=True, slots=True)
class ChromaGrid:
    """Where the chroma samples of a picture lie among its luma samples.

    Attributes:
        width: Luma samples in a row.
        height: Rows of luma.
        ratio: Luma samples per chroma sample, (horizontal, vertical).
        offset: Displacement of chroma sample 0 from the centre of its block, in luma samples, (x,
            y).
    """

    width: int
    height: int
    ratio: tuple[int, int]
    offset: tuple[float, float]

    @classmethod
    def of(cls, picture: Picture) -> "ChromaGrid":
        """The grid of a picture's format and siting."""
        ratio = (1 << picture.format.chroma_w, 1 << picture.format.chroma_h)
        left, top, bottom = (1, 3, 5), (3, 4), (5, 6)
        siting = picture.color.siting
        x = -(ratio[0] - 1) / 2 if siting in left else 0.0
        away = (ratio[1] - 1) / 2
        y = -away if siting in top else away if siting in bottom else 0.0
        return cls(picture.width, picture.height, ratio, (x, y))

    def full(self) -> "ChromaGrid":
        """The grid of the same picture without subsampling."""
        return ChromaGrid(self.width, self.height, (1, 1), (0.0, 0.0))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a chroma plane."""
        return -(-self.height // self.ratio[1]), -(-self.width // self.ratio[0])


def move_chroma(c: Tensor, source: ChromaGrid, target: ChromaGrid, kernel: Kernel) -> Tensor:
    """Resamples chroma planes from one grid to another, in one step whatever the sizes and sitings.

    Args:
        c: Shape (N, C, h, w) on the source grid.
        source: Where the samples lie.
        target: Where they shall lie; its luma size may be any other.
        kernel: Reconstruction kernel.

    Returns:
        Shape (N, C, *target.size).
    """
    (h, w), (height, width) = source.size, target.size
    for axis, length, new, k in ((3, w, width, 0), (2, h, height, 1)):
        luma = (target.width / source.width, target.height / source.height)[k]
        scale = luma * source.ratio[k] / target.ratio[k]
        shift = (target.offset[k] / luma - source.offset[k]) / source.ratio[k]
        if new != length or abs(shift) > 1e-9 or abs(scale - 1) > 1e-9:
            c = resample_axis(c, axis, *taps(length, new, kernel, shift, scale))
    return c


@lru_cache(maxsize=64)
def _matrix(code: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(RGB → YCC, YCC → RGB) as float32 3×3 matrices; chroma in [-0.5, 0.5]."""
    if code == _YCGCO:
        forward = torch.tensor([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]]).double()
    elif code in _KR_KB:
        kr, kb = _KR_KB[code]
        y = torch.tensor([kr, 1 - kr - kb, kb], dtype=torch.float64)
        blue, red = torch.tensor([0, 0, 1.0]).double(), torch.tensor([1.0, 0, 0]).double()
        forward = torch.stack([y, (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))])
    else:
        msg = (
            f"matrix coefficients {code} (H.273) cannot be converted to RGB for this network: "
            "use a luma model such as vsr-fast, or retag the source"
        )
        raise UnsupportedSourceError(msg)
    return forward.float().to(device), torch.linalg.inv(forward).float().to(device)


def rgb_to_ycc(rgb: Tensor, code: int) -> Tensor:
    """(N, 3, H, W) RGB in [0, 1] to luma in [0, 1] and chroma in [-0.5, 0.5]."""
    return _mix(rgb, _matrix(code, rgb.device)[0])


def ycc_to_rgb(ycc: Tensor, code: int) -> Tensor:
    """(N, 3, H, W) luma and chroma to RGB, not clamped."""
    return _mix(ycc, _matrix(code, ycc.device)[1])


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    n, _, height, width = x.shape
    return torch.matmul(matrix, x.reshape(n, 3, -1)).view(n, 3, height, width)


def torch_dtype(format: PixelFormat) -> torch.dtype:  # noqa: A002
    """Torch's type of a sample."""
    if format.floating:
        return torch.float16 if format.bits == 16 else torch.float32
    return torch.uint8 if format.bits == 8 else torch.uint16


def affine(format: PixelFormat, *, full: bool, chroma: bool) -> tuple[float, float]:  # noqa: A002
    """(span, offset) in codes of the normalised unit interval."""
    if format.floating:
        return 1.0, 0.0
    step = float(1 << (format.bits - 8))
    if chroma:
        return (256 * step - 1 if full else 224 * step), 128 * step
    return (256 * step - 1, 0.0) if full else (219 * step, 16 * step)


def normalise(
    planes: tuple[Tensor, ...], picture: Picture
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Turns the planes of a batch into normalised float32 ones.

    Args:
        planes: Of the format's sample type, shape (N, h, w) each, in the format's order.
        picture: What they are.

    Returns:
        `(first, chroma, alpha)`: luma (N, 1, H, W) with chroma (N, 2, h, w) or None for gray; for
        RGB `first` is (N, 3, H, W) in R, G, B order and chroma is None. Alpha is (N, 1, H, W) or
        None. None of them shares memory with `planes`.
    """
    fmt, full = picture.format, bool(picture.color.full_range)
    span, offset = affine(fmt, full=full, chroma=False)
    alpha = None
    if fmt.alpha:
        alpha = planes[-1].to(torch.float32, copy=True).mul_(1 / _opaque(fmt))[:, None]
    if fmt.family == "rgb":
        green, blue, red = (plane.to(torch.float32) for plane in planes[:3])
        rgb = torch.stack([red, green, blue], 1)
        return rgb.sub_(offset).mul_(1 / span), None, alpha
    luma = planes[0].to(torch.float32, copy=True).sub_(offset).mul_(1 / span)[:, None]
    if fmt.family == "gray":
        return luma, None, alpha
    span, offset = affine(fmt, full=full, chroma=True)
    chroma = torch.stack([plane.to(torch.float32) for plane in planes[1:3]], 1)
    return luma, chroma.sub_(offset).mul_(1 / span), alpha


def quantise(
    first: Tensor, chroma: Tensor | None, alpha: Tensor | None, picture: Picture
) -> tuple[Tensor, ...]:
    """The inverse of `normalise`: rounds to nearest and clamps to the codes of the format.

    Floating-point samples are not rounded; RGB and alpha are clamped to [0, 1], while luma and
    chroma keep what lies beyond, as integers of limited range do. Tensors may be overwritten. A
    YUV format without chroma given gets neutral chroma, an alpha plane that is missing is opaque.

    Returns:
        Planes of the format's sample type and shape (N, h, w), in the format's order.
    """
    fmt, full = picture.format, bool(picture.color.full_range)
    luma_codes, chroma_codes = (affine(fmt, full=full, chroma=c) for c in (False, True))
    if fmt.family == "rgb":
        planes = [_codes(first[:, k], *luma_codes, fmt, bounded=True) for k in (1, 2, 0)]
    else:
        planes = [_codes(first[:, 0], *luma_codes, fmt)]
    if fmt.family == "yuv":
        if chroma is None:
            size = ChromaGrid.of(picture).size
            chroma = first.new_zeros(first.shape[0], 2, *size)
        planes += [_codes(chroma[:, k], *chroma_codes, fmt) for k in (0, 1)]
    if fmt.alpha:
        opaque = first.new_ones(first.shape[0], 1, picture.height, picture.width)
        alpha = opaque if alpha is None else alpha
        planes.append(_codes(alpha[:, 0], _opaque(fmt), 0, fmt, bounded=True))
    return tuple(planes)


def _opaque(format: PixelFormat) -> int:  # noqa: A002
    """The largest code of alpha."""
    return 1 if format.floating else (1 << format.bits) - 1


def _codes(
    x: Tensor, span: float, offset: float, fmt: PixelFormat, *, bounded: bool = False
) -> Tensor:
    if fmt.floating:
        return (x.clamp(0, 1) if bounded else x).to(torch_dtype(fmt))
    codes = x.mul(span).add_(offset).round_().clamp_(0, (1 << fmt.bits) - 1)
    return codes.to(torch_dtype(fmt))
