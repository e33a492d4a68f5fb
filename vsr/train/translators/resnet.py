"""CycleGAN's generator: residual blocks at a quarter of the size.

Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", 2017, arXiv:1703.10593, after Johnson et al. 2016; names and layers are those of the
authors' `ResnetGenerator` with transposed convolutions.

    x             (N, C, H, W)          in [-1, 1]; H and W multiples of 2^levels, levels = 2
    model[1]      (N, F, H, W)          7×7, reflected borders; norm, ReLU
    model[4, 7]   (N, 4·F, H/4, W/4)    3×3 stride 2; norm, ReLU
    model[10…]    (N, 4·F, H/4, W/4)    `blocks` of two 3×3, norm, + input
    model[-7, -4] (N, F, H, W)          transposed 3×3 stride 2; norm, ReLU
    model[-2]     (N, C, H, W)          7×7, tanh
"""

from dataclasses import dataclass
from typing import Annotated, Literal, cast

from torch import Tensor, nn

from vsr.train.strict import Within


@dataclass(frozen=True, slots=True, kw_only=True)
class ResnetConfig:
    """Hyperparameters.

    Attributes:
        channels: Of pictures, in and out.
        features: Of the outermost level.
        blocks: Residual blocks, 9 for 256 pixels, 6 for 128.
        norm: What normalises the features. Instance norm makes what is added to a picture equally
            strong whatever its contrast, and blur is not: `none` can learn it. Not in the original.
        residual: Whether the output is added to the picture instead of replacing it; small networks
            then need not learn to copy. Not in the original.
        levels: How often the picture is halved on the way in, 2 in the original; at 0 nothing fine
            has to pass through a narrow middle.
    """

    channels: int = 3
    features: int = 64
    blocks: int = 9
    norm: Literal["batch", "instance", "none"] = "instance"
    residual: bool = False
    levels: Annotated[int, Within(0, 6)] = 2


class Block(nn.Module):
    """Two convolutions in a residual; (N, F, H, W) to the same."""

    def __init__(self, config: ResnetConfig, features: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3, bias=config.norm != "batch"),
            _norm(config, features),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3, bias=config.norm != "batch"),
            _norm(config, features),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        return x + cast("Tensor", self.conv_block(x))


class Resnet(nn.Module):
    """The network."""

    def __init__(self, config: ResnetConfig) -> None:
        super().__init__()
        self.residual = config.residual
        self.multiple_of = 2**config.levels
        f, biased = config.features, config.norm != "batch"
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(config.channels, f, 7, bias=biased),
        ]
        layers += [_norm(config, f), nn.ReLU()]
        widths = [f * 2**level for level in range(config.levels)]
        for width in widths:
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=biased)]
            layers += [_norm(config, 2 * width), nn.ReLU()]
        layers += [Block(config, f * 2**config.levels) for _ in range(config.blocks)]
        for width in reversed(widths):
            layers += [nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1, bias=biased)]
            layers += [_norm(config, width), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(f, config.channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [-1, 1] to the same; a residual may lead a little beyond."""
        made = cast("Tensor", self.model(x))
        return x + made if self.residual else made


def _norm(config: ResnetConfig, features: int) -> nn.Module:
    if config.norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(features) if config.norm == "batch" else nn.InstanceNorm2d(features)
