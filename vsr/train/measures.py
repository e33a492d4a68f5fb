"""How near a network has come to its target, in figures that a run logs.

psnr       dB over all pixels and channels
features   distance of features of fixed random filters (see `losses.random`): a stand-in for LPIPS
           that needs no weights; less is nearer
spectrum   dB by which the power of made damage differs from that of true damage, the mean over
           bands of frequency: damage can be right in no pixel and yet be of the right kind
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from vsr.train.losses.perceptual import FeatureDistance
from vsr.train.losses.random import LAYERS, RandomFeatures

_LEAST_ERROR = 1e-10
_LEAST_POWER = (0.1 / 255) ** 2
"""Of noise that nobody sees: a tenth of an 8-bit level."""
_BANDS = 8


@torch.no_grad()
def fidelity(columns: Sequence[Tensor], *, damage: bool = False) -> dict[str, float]:
    """Measures samples.

    Args:
        columns: Each (N, C, H, W) in [0, 1] of one size: what there was before, the output, the
            target; or the last two.
        damage: Whether it is damage that is made of the first column, which is clean.

    Returns:
        `psnr` and `features` of the output, `…_before` of what there was before, and `spectrum`.
    """
    *given, target = columns
    found: dict[str, float] = {}
    for end, column in zip(("", "_before"), reversed(given), strict=False):
        error = float(((column - target) ** 2).mean())
        found[f"psnr{end}"] = -10 * float(torch.tensor(max(error, _LEAST_ERROR)).log10())
        found[f"features{end}"] = float(_distance()(column.cpu().float(), target.cpu().float()))
    if damage and len(columns) == 3:
        clean, made, damaged = columns
        found["spectrum"] = spectral_gap(made - clean, damaged - clean)
    return found


@lru_cache(maxsize=1)
def _distance() -> FeatureDistance:
    return FeatureDistance(RandomFeatures(), dict.fromkeys(LAYERS, 1.0))


def spectral_gap(made: Tensor, true: Tensor) -> float:
    """Gap in dB between the power spectra of two noises (N, C, H, W), mean over bands."""
    ours, theirs = (_bands(x.cpu().float()) for x in (made, true))
    return float((10 * (ours.log10() - theirs.log10())).abs().mean())


def _bands(noise: Tensor) -> Tensor:
    """Mean power in rings of frequency, (bands,); as much as noise of that variance has."""
    height, width = noise.shape[-2:]
    power = torch.fft.fft2(noise).abs().square().mean((0, 1)) / (height * width)
    y, x = (torch.fft.fftfreq(side).abs() for side in (height, width))
    ring = (torch.hypot(y[:, None], x[None]) * 2 * _BANDS).long().clamp_max(_BANDS - 1)
    total = torch.zeros(_BANDS).scatter_add_(0, ring.flatten(), power.flatten())
    count = torch.bincount(ring.flatten(), minlength=_BANDS).clamp_min(1)
    return total / count + _LEAST_POWER
