"""PatchGAN: a logit for every patch, 70×70 pixels with three layers.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", 2016,
arXiv:1611.07004; names and layers are those of the authors' `NLayerDiscriminator`.

    x         (N, C, H, W)      in [-1, 1]; for pix2pix the condition and the picture, stacked
    model     (N, 1, h, w)      4×4 convolutions: `layers` of stride 2, then two of stride 1
"""

from typing import Literal, cast

from torch import Tensor, nn

type NormKind = Literal["batch", "instance"]


class PatchDiscriminator(nn.Module):
    """The network.

    Args:
        channels: Of its input.
        features: Of the first layer; doubled up to eightfold.
        layers: Convolutions of stride 2.
        norm: `batch` for pix2pix, `instance` for CycleGAN.
    """

    def __init__(
        self,
        channels: int = 3,
        features: int = 64,
        layers: int = 3,
        norm: NormKind = "instance",
    ) -> None:
        super().__init__()
        biased = norm == "instance"  # batch norm has a bias of its own
        parts: list[nn.Module] = [nn.Conv2d(channels, features, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = features
        for k in range(1, layers + 1):
            out = features * min(2**k, 8)
            parts += [
                nn.Conv2d(width, out, 4, 2 if k < layers else 1, 1, bias=biased),
                nn.BatchNorm2d(out) if norm == "batch" else nn.InstanceNorm2d(out),
                nn.LeakyReLU(0.2),
            ]
            width = out
        self.model = nn.Sequential(*parts, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to logits (N, 1, h, w); H and W at least 8·2^(layers-1)."""
        return cast("Tensor", self.model(x))
