"""JPEG compression as arithmetic on tensors: batched, on any device, and differentiable.

Shin and Song 2017, "JPEG-resistant adversarial images"; what Real-ESRGAN degrades with. Luma and
chroma at 4:2:0, 8×8 cosine transforms, the tables of ITU-T T.81 annex K; entropy coding loses
nothing and is left out. Samples stay real numbers between the steps; a decoder would round them.

Real-ESRGAN's own code takes the luma table with rows and columns swapped, does not round scaled
tables, and sets black beside pictures whose sides are no multiples of 16. Here all three are as
libjpeg has them, for that is what pictures went through; `as_published` gives the others.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from vsr.errors import UsageError

type _Coder = Callable[[Tensor], Tensor]

_LUMA: Final = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA: Final = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCC: Final = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
_TO_RGB: Final = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg(
    x: Tensor,
    quality: Tensor | float,
    *,
    differentiable: bool = False,
    as_published: bool = False,
) -> Tensor:
    """Compresses and decompresses pictures.

    Args:
        x: (N, 3, H, W) RGB in [0, 1]; (N, 1, H, W) is luma alone.
        quality: 1 to 100, as libjpeg counts: one for all, or of shape (N,).
        differentiable: Whether rounding is replaced by a cubic around each integer that has a
            slope (equation 8 of the paper).
        as_published: Whether to compute as Real-ESRGAN's code does.

    Returns:
        Same shape, dtype and device, in [0, 1].

    Raises:
        UsageError: A number of channels other than 1 and 3.
    """
    if x.shape[1] not in {1, 3}:
        msg = f"JPEG takes pictures of 1 or 3 channels, got {x.shape[1]}"
        raise UsageError(msg)
    height, width = x.shape[-2:]
    factors = _factors(quality, x)
    mode = "constant" if as_published else "replicate"
    framed = functional.pad(x, (0, -width % 16, 0, -height % 16), mode=mode) * 255
    luma_table = x.new_tensor(_LUMA)
    code = partial(_coded, factors=factors, differentiable=differentiable, whole=not as_published)
    luma = partial(code, table=luma_table.T if as_published else luma_table)
    if x.shape[1] == 1:
        out = luma(framed)
    else:
        out = _colour(framed, luma, partial(code, table=x.new_tensor(_CHROMA)))
    return out[..., :height, :width].clamp(0, 255) / 255


def _colour(x: Tensor, luma: _Coder, chroma: _Coder) -> Tensor:
    ycc = torch.einsum("nchw,kc->nkhw", x, x.new_tensor(_TO_YCC))
    small = chroma(functional.avg_pool2d(ycc[:, 1:] + 128, 2)) - 128
    large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    merged = torch.cat([luma(ycc[:, :1]), large], 1)
    return torch.einsum("nchw,kc->nkhw", merged, x.new_tensor(_TO_RGB))


def _factors(quality: Tensor | float, x: Tensor) -> Tensor:
    """What the tables are multiplied by, (N, 1, 1, 1, 1, 1) or (1, …)."""
    q = torch.as_tensor(quality, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1, 1, 1)
    q = q.clamp(1, 100)
    return torch.where(q < 50, 5000 / q, 200 - 2 * q) / 100


def _coded(
    x: Tensor, *, table: Tensor, factors: Tensor, differentiable: bool, whole: bool
) -> Tensor:
    """Quantises the cosine transform of (N, C, H, W), 0 to 255, sides multiples of 8."""
    count, channels, height, width = x.shape
    blocks = x.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4) - 128
    transform = _cosines(x.dtype, x.device)
    coefficients = transform @ blocks @ transform.T
    steps = (table * factors).clamp_min(torch.finfo(x.dtype).tiny)
    if whole:
        steps = (steps + 0.5).floor().clamp(1, 255)
    levels = coefficients / steps
    rounded = levels.round()
    if differentiable:
        rounded = rounded.detach() + (levels - rounded.detach()) ** 3
    blocks = transform.T @ (rounded * steps) @ transform
    return (blocks + 128).transpose(3, 4).reshape(count, channels, height, width)


@lru_cache(maxsize=8)
def _cosines(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal transform of 8 samples: row k holds frequency k."""
    with torch.inference_mode(mode=False):
        place = (torch.arange(8, dtype=torch.float64) + 0.5) * math.pi / 8
        rows = torch.cos(torch.arange(8, dtype=torch.float64)[:, None] * place) / 2
        rows[0] *= math.sqrt(0.5)
        return rows.to(dtype=dtype, device=device)
