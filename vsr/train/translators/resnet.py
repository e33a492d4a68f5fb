"""CycleGAN's generator: residual blocks at a quarter of the size.

Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", 2017, arXiv:1703.10593, after Johnson et al. 2016; names and layers are those of the
authors' `ResnetGenerator` with transposed convolutions.

    x             (N, C, H, W)          in [-1, 1]; H and W multiples of 4
    model[1]      (N, F, H, W)          7×7, reflected borders; norm, ReLU
    model[4, 7]   (N, 4·F, H/4, W/4)    3×3 stride 2; norm, ReLU
    model[10…]    (N, 4·F, H/4, W/4)    `blocks` of two 3×3, norm, + input
    model[-7, -4] (N, F, H, W)          transposed 3×3 stride 2; norm, ReLU
    model[-2]     (N, C, H, W)          7×7, tanh
"""

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ResnetConfig:
    """Hyperparameters.

    Attributes:
        channels: Of pictures, in and out.
        features: Of the outermost level.
        blocks: Residual blocks, 9 for 256 pixels, 6 for 128.
        norm: What normalises the features.
        residual: Whether the output is added to the picture instead of replacing it; small networks
            then need not learn to copy. Not in the original.
    """

    channels: int = 3
    features: int = 64
    blocks: int = 9
    norm: Literal["batch", "instance"] = "instance"
    residual: bool = False


class Block(nn.Module):
    """Two convolutions in a residual; (N, F, H, W) to the same."""

    def __init__(self, config: ResnetConfig, features: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3, bias=config.norm == "instance"),
            _norm(config, features),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3, bias=config.norm == "instance"),
            _norm(config, features),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        return x + cast("Tensor", self.conv_block(x))


class Resnet(nn.Module):
    """The network."""

    multiple_of = 4

    def __init__(self, config: ResnetConfig) -> None:
        super().__init__()
        self.residual = config.residual
        f, biased = config.features, config.norm == "instance"
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(config.channels, f, 7, bias=biased),
        ]
        layers += [_norm(config, f), nn.ReLU()]
        for width in (f, 2 * f):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=biased)]
            layers += [_norm(config, 2 * width), nn.ReLU()]
        layers += [Block(config, 4 * f) for _ in range(config.blocks)]
        for width in (4 * f, 2 * f):
            layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1, bias=biased)]
            layers += [_norm(config, width // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(f, config.channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [-1, 1] to the same; a residual may lead a little beyond."""
        made = cast("Tensor", self.model(x))
        return x + made if self.residual else made


def _norm(config: ResnetConfig, features: int) -> nn.Module:
    return nn.BatchNorm2d(features) if config.norm == "batch" else nn.InstanceNorm2d(features)
