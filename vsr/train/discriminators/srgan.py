"""SRGAN's discriminator.

Ledig et al. 2016, arXiv:1609.04802, figure 4: eight 3×3 convolutions, F to 8·F features, every
second with stride 2; batch norm on all but the first; LeakyReLU 0.2; two dense layers.

Deviations: it ends in a logit, the sigmoid being part of the loss.
"""

from typing import cast

from torch import Tensor, nn

from vsr.errors import UsageError


class SrganDiscriminator(nn.Module):
    """The network.

    Args:
        channels: Of the pictures.
        features: Of the first layer.
        size: Side of the pictures, a multiple of 16; the paper's is 96.

    Raises:
        UsageError: No such size.
    """

    def __init__(self, channels: int = 3, features: int = 64, size: int = 96) -> None:
        super().__init__()
        if size < 16 or size % 16:
            msg = f"SRGAN's discriminator takes pictures of a multiple of 16, got {size}"
            raise UsageError(msg)
        self.size = size
        layers: list[nn.Module] = [nn.Conv2d(channels, features, 3, padding=1), nn.LeakyReLU(0.2)]
        width = features
        for k in range(1, 8):
            out = features * 2 ** (k // 2)
            layers += [
                nn.Conv2d(width, out, 3, 1 + k % 2, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.LeakyReLU(0.2),
            ]
            width = out
        self.body = nn.Sequential(*layers)
        hidden = 16 * features
        self.tail = nn.Sequential(
            nn.Linear(width * (size // 16) ** 2, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, S, S) to logits (N, 1)."""
        if x.shape[2:] != (self.size, self.size):
            msg = (
                f"the discriminator was made for {self.size}×{self.size}, got "
                f"{x.shape[2]}×{x.shape[3]}: its size must be the high-resolution patch's"
            )
            raise UsageError(msg)
        return cast("Tensor", self.tail(self.body(x).flatten(1)))
