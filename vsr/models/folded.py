"""A compact network that works on the picture folded to half its size: for the processor, live.

A convolution on a large picture with few channels is bound by memory, not arithmetic. Folding four
neighbours into channels (pixel-unshuffle; Shi et al. 2016, arXiv:1609.05158, backwards, as
Real-ESRGAN does at small scales) lets the same weights cost a quarter and see twice as far. Without
it this is `compact` (SRVGGNetCompact, Wang et al. 2021, arXiv:2107.10833).

    x           (N, C, H, W)            H and W multiples of u
    unshuffle   (N, C·u², H/u, W/u)
    body[0]     (N, F, H/u, W/u)        3×3, ReLU
    body[2k]    (N, F, H/u, W/u)        3×3, ReLU, `convs` times
    body[-1]    (N, C·(s·u)², H/u, W/u) 3×3
    shuffle     (N, C, s·H, s·W)        + nearest(x)

An own network: there is no other implementation to be equal to.
"""

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict

_LARGEST_SCALE: Final = 8
_KINDS: Final = {channels * fold**2: (channels, fold) for channels in (1, 3) for fold in (2, 4)}
"""Channels of the picture and factor of the fold, by channels of the folded picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 3 for RGB and 1 for luma.
        features: Channels between the convolutions.
        convs: Convolutions between the first and the last.
        scale: Upscaling factor, 1 to 8.
        fold: Pixels along each axis that become channels.
    """

    channels: Literal[1, 3] = 1
    features: int = 32
    convs: int = 4
    scale: int = 2
    fold: Literal[2, 4] = 2


class Folded(nn.Module):
    """The network. In bfloat16 no convolution needs float32: they only add detail."""

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: FoldedConfig) -> None:
        super().__init__()
        self.scale, self.fold = config.scale, config.fold
        inputs = config.channels * config.fold**2
        layers: list[nn.Module] = []
        for _ in range(config.convs + 1):
            layers += [nn.Conv2d(inputs, config.features, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = config.features
        layers.append(
            nn.Conv2d(inputs, config.channels * (config.scale * config.fold) ** 2, 3, 1, 1)
        )
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        detail = F.pixel_shuffle(self.body(F.pixel_unshuffle(x, self.fold)), self.scale * self.fold)
        return detail + F.interpolate(x, scale_factor=self.scale, mode="nearest")


def _spec(config: FoldedConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        multiple_of=config.fold,
        overlap=config.fold * (config.convs + 2),
    )


def _detect(state: StateDict) -> FoldedConfig | None:
    """Even entries of `body` are convolutions, and nothing else has weights."""
    if not all(re.fullmatch(r"body\.\d{1,4}\.(weight|bias)", key) for key in state):
        return None
    weights = {int(k.split(".")[1]): v for k, v in state.items() if k.endswith(".weight")}
    last = max(weights, default=0)
    if last < 2 or sorted(weights) != list(range(0, last + 1, 2)):
        return None
    first, final = weights[0], weights[last]
    if {first.ndim, final.ndim} != {4} or first.shape[1] not in _KINDS:
        return None
    channels, fold = _KINDS[first.shape[1]]
    scale = math.isqrt(final.shape[0] // first.shape[1])
    if not 1 <= scale <= _LARGEST_SCALE:
        return None
    return FoldedConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        convs=last // 2 - 1,
        scale=scale,
        fold=cast("Literal[2, 4]", fold),
    )


ARCH = Architecture(
    id="folded",
    paper="compact (Wang et al. 2021, arXiv:2107.10833) behind a pixel-unshuffle",
    config=FoldedConfig,
    build=Folded,
    spec=_spec,
    detect=_detect,
    parameters=((FoldedConfig(), 42_800), (FoldedConfig(convs=6, scale=4), 75_168)),
)
