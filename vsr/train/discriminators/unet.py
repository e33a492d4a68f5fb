"""U-Net discriminator with spectral normalisation: a logit for every pixel.

Wang, Xie, Dong, Shan 2021 (Real-ESRGAN), arXiv:2107.10833, after Schönfeld, Schiele, Khoreva 2020,
arXiv:2002.12655; spectral normalisation: Miyato et al. 2018, arXiv:1802.05957. Layers are those of
BasicSR's `UNetDiscriminatorSN`.

    x          (N, C, H, W)                in [0, 1]; H and W multiples of 8
    conv0      (N, F, H, W)                3×3
    conv1…3    (N, 2F…8F, H/2…H/8)         4×4 stride 2
    conv4…6    (N, 4F…F, H/4…H)            bilinear ×2, 3×3, + the same size's
    conv7, 8   (N, F, H, W)                3×3
    conv9      (N, 1, H, W)                3×3, logits
"""

import re
from collections.abc import Mapping
from typing import cast

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class UnetDiscriminator(nn.Module):
    """The network.

    Args:
        channels: Of the pictures.
        features: Of the first layer.
        skips: Whether features of the way down are added on the way up.
    """

    def __init__(self, channels: int = 3, features: int = 64, *, skips: bool = True) -> None:
        super().__init__()
        self.skips, f = skips, features
        self.conv0 = nn.Conv2d(channels, f, 3, padding=1)
        self.conv1 = _normed(f, 2 * f, down=True)
        self.conv2 = _normed(2 * f, 4 * f, down=True)
        self.conv3 = _normed(4 * f, 8 * f, down=True)
        self.conv4 = _normed(8 * f, 4 * f)
        self.conv5 = _normed(4 * f, 2 * f)
        self.conv6 = _normed(2 * f, f)
        self.conv7 = _normed(f, f)
        self.conv8 = _normed(f, f)
        self.conv9 = nn.Conv2d(f, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to logits (N, 1, H, W)."""
        x0 = _leaky(self.conv0(x))
        x1 = _leaky(self.conv1(x0))
        x2 = _leaky(self.conv2(x1))
        y = _leaky(self.conv3(x2))
        for conv, skip in ((self.conv4, x2), (self.conv5, x1), (self.conv6, x0)):
            y = _leaky(conv(F.interpolate(y, scale_factor=2, mode="bilinear")))
            y = y + skip if self.skips else y
        return cast("Tensor", self.conv9(_leaky(self.conv8(_leaky(self.conv7(y))))))


def canonicalise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the older spectral norm's tensors, as in the published `RealESRGAN_*_netD.pth`."""

    def renamed(key: str) -> str:
        key = re.sub(r"\.weight_orig$", ".parametrizations.weight.original", key)
        return re.sub(r"\.weight_([uv])$", r".parametrizations.weight.0._\1", key)

    return {renamed(key): value for key, value in state.items()}


def _normed(into: int, out: int, *, down: bool = False) -> nn.Module:
    conv = nn.Conv2d(into, out, 4 if down else 3, 2 if down else 1, 1, bias=False)
    return spectral_norm(conv)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
