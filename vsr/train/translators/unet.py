"""pix2pix's U-Net generator.

Isola, Zhu, Zhou, Efros 2016, arXiv:1611.07004; names and layers are those of the authors'
`UnetGenerator`, of which `depth=8` is their `unet_256`.

    x           (N, C, H, W)      in [-1, 1]; H and W multiples of 2^depth
    down k      (N, f, H/2^k, …)  LeakyReLU 0.2 (not first), 4×4 stride 2, norm (not first, last)
    up k        (N, f, …)         ReLU, transposed 4×4 stride 2, norm (not last)
                                  the skip is concatenated before each but the first
    output      (N, C, H, W)      tanh

As in the original, the activation that begins a level also reaches that level's skip.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetConfig:
    """Hyperparameters.

    Attributes:
        channels: Of pictures, in and out.
        features: Of the outermost level; up to eight times as many within.
        depth: Halvings, at least 5: the picture must be a multiple of 2^depth.
        norm: What normalises the features.
        dropout: Whether half of the innermost features are left out in training, which is
            pix2pix's only source of chance.
        residual: Whether the output is added to the picture instead of replacing it; small networks
            then need not learn to copy. Not in the original.
    """

    channels: int = 3
    features: int = 64
    depth: int = 8
    norm: Literal["batch", "instance"] = "batch"
    dropout: bool = True
    residual: bool = False


class Level(nn.Module):
    """One halving, all that lies within, and the doubling that undoes it."""

    def __init__(self, config: UnetConfig, depth: int) -> None:
        super().__init__()
        innermost = depth == config.depth - 1
        self.outermost = depth == 0
        outer, inner = _width(config, depth - 1), _width(config, depth)
        biased = config.norm == "instance"
        into = config.channels if self.outermost else outer
        down: list[nn.Module] = [nn.Conv2d(into, inner, 4, 2, 1, bias=biased)]
        wide = inner if innermost else 2 * inner
        up: list[nn.Module] = [nn.ReLU()]
        if self.outermost:
            up += [nn.ConvTranspose2d(wide, config.channels, 4, 2, 1), nn.Tanh()]
        else:
            down.insert(0, nn.Identity())  # keeps the original's numbering
            up += [nn.ConvTranspose2d(wide, outer, 4, 2, 1, bias=biased), _norm(config, outer)]
            if not innermost:
                down.append(_norm(config, inner))
        within = [] if innermost else [Level(config, depth + 1)]
        dropping = config.dropout and 4 <= depth < config.depth - 1
        self.model = nn.Sequential(*down, *within, *up, *([nn.Dropout(0.5)] if dropping else []))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, f, H, W) to the picture, or to twice as many features of the same size."""
        if self.outermost:
            return cast("Tensor", self.model(x))
        x = F.leaky_relu(x, 0.2)
        return torch.cat([x, self.model(x)], 1)


class Unet(nn.Module):
    """The network."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.multiple_of, self.residual = 2**config.depth, config.residual
        self.model = Level(config, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [-1, 1] to the same; a residual may lead a little beyond."""
        made = cast("Tensor", self.model(x))
        return x + made if self.residual else made


def _width(config: UnetConfig, depth: int) -> int:
    return config.features * min(1 << max(depth, 0), 8)


def _norm(config: UnetConfig, features: int) -> nn.Module:
    return nn.BatchNorm2d(features) if config.norm == "batch" else nn.InstanceNorm2d(features)
