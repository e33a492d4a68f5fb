"""Generators of noise: what codecs and sensors add, learned from pairs.

`dcgan` makes patches out of chance alone, as Radford, Metz, Chintala 2015, arXiv:1511.06434, do
pictures; Chen, Chen, Chao, Yang 2018 ("Image Blind Denoising With Generative Adversarial Network
Based Noise Modeling", CVPR) learn noise with it, and a denoiser from the noise. `conditional` also
sees the clean picture, since what a codec adds is made of edges and texture, and is convolutional,
so that it serves any size (Mirza, Osindero 2014, arXiv:1411.1784, for the condition). Both are told
how strong the compression is, a number from 0 to 1.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig:
    """Hyperparameters.

    Attributes:
        kind: `dcgan` for noise by itself, `conditional` for noise that depends on the picture.
        channels: Of pictures.
        features: Of the widest level of `conditional`, of the last of `dcgan`.
        chance: Random numbers: per patch for `dcgan`, per pixel for `conditional`.
        size: Side of the patches that `dcgan` makes: 4·2^k.
        blocks: Residual blocks of `conditional`.
        amplitude: Largest noise, in units of white; what comes out of the tanh is scaled by it.
    """

    kind: Literal["dcgan", "conditional"] = "conditional"
    channels: int = 3
    features: int = 64
    chance: int = 4
    size: int = 64
    blocks: int = 4
    amplitude: float = 0.5


class PatchNoise(nn.Module):
    """Transposed convolutions from chance to a patch."""

    multiple_of = 1

    def __init__(self, config: NoiseConfig) -> None:
        super().__init__()
        self.config = config
        levels = max(1, (config.size // 4).bit_length() - 1)
        width = config.features * 2 ** (levels - 1)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(config.chance + 1, width, 4, 1, 0, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for _ in range(levels - 1):
            layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(width // 2), nn.ReLU()]
            width //= 2
        layers += [nn.ConvTranspose2d(width, config.channels, 4, 2, 1), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, clean: Tensor, level: Tensor) -> Tensor:
        """Draws noise (N, C, size, size); of `clean` (N, C, H, W) only N matters.

        Args:
            clean: Pictures.
            level: (N,), strength of the compression from 0 to 1.
        """
        chance = torch.randn(len(clean), self.config.chance, 1, 1, device=clean.device)
        start = torch.cat([chance.to(clean.dtype), level.view(-1, 1, 1, 1).to(clean.dtype)], 1)
        return cast("Tensor", self.model(start)) * self.config.amplitude


class ConditionalNoise(nn.Module):
    """A residual network over the clean picture, chance and the level as planes."""

    multiple_of = 1

    def __init__(self, config: NoiseConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        self.head = nn.Conv2d(config.channels + config.chance + 1, f, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(0.2),
                nn.Conv2d(f, f, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(f, f, 3, padding=1),
            )
            for _ in range(config.blocks)
        )
        self.tail = nn.Conv2d(f, config.channels, 3, padding=1)

    def forward(self, clean: Tensor, level: Tensor) -> Tensor:
        """Draws noise for pictures.

        Args:
            clean: (N, C, H, W) in [0, 1].
            level: (N,), strength of the compression from 0 to 1.

        Returns:
            (N, C, H, W), to be added.
        """
        count, _, height, width = clean.shape
        chance = torch.randn(count, self.config.chance, height, width, device=clean.device)
        strength = level.view(-1, 1, 1, 1).expand(-1, 1, height, width)
        x = self.head(torch.cat([clean, chance.to(clean.dtype), strength.to(clean.dtype)], 1))
        for block in self.body:
            x = x + block(x)
        return torch.tanh(self.tail(x)) * self.config.amplitude


def build_noise(config: NoiseConfig) -> PatchNoise | ConditionalNoise:
    """Makes the network of a config."""
    return PatchNoise(config) if config.kind == "dcgan" else ConditionalNoise(config)
