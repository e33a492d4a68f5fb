"""VGG-style discriminator of ESRGAN, for pictures of one size.

Wang et al. 2018, arXiv:1809.00219; names and layers are those of BasicSR's
`VGGStyleDiscriminator`, whose weights load as they are.

    x              (N, C, S, S)       in [0, 1]
    conv{k}_0      (N, f, S/2^k, …)   3×3, LeakyReLU 0.2;   f = F·min(2^k, 8)
    conv{k}_1      (N, f, S/2^(k+1))  4×4 stride 2, LeakyReLU;   batch norm on all but conv0_0
    linear1        (N, 100)           of the 4×4 that is left
    linear2        (N, 1)             logit
"""

import math
from typing import cast

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vsr.errors import UsageError

_HIDDEN = 100


class VggDiscriminator(nn.Module):
    """The network.

    Args:
        channels: Of the pictures.
        features: Of the first layer.
        size: Side of the pictures: 4·2^k, such as 128.

    Raises:
        UsageError: No such size.
    """

    def __init__(self, channels: int = 3, features: int = 64, size: int = 128) -> None:
        super().__init__()
        self.levels = int(math.log2(max(size, 1) / 4))
        if self.levels < 1 or 4 << self.levels != size:
            msg = f"a VGG-style discriminator takes pictures of 8, 16 … 128 or 256, got {size}"
            raise UsageError(msg)
        self.size = size
        width = channels
        for k in range(self.levels):
            out = features * min(2**k, 8)
            # the first convolution has no norm behind it, hence a bias
            self.add_module(f"conv{k}_0", nn.Conv2d(width, out, 3, padding=1, bias=k == 0))
            if k:
                self.add_module(f"bn{k}_0", nn.BatchNorm2d(out))
            self.add_module(f"conv{k}_1", nn.Conv2d(out, out, 4, 2, 1, bias=False))
            self.add_module(f"bn{k}_1", nn.BatchNorm2d(out))
            width = out
        self.linear1 = nn.Linear(width * 16, _HIDDEN)
        self.linear2 = nn.Linear(_HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, S, S) to logits (N, 1)."""
        if x.shape[2:] != (self.size, self.size):
            msg = (
                f"the discriminator was made for {self.size}×{self.size}, got "
                f"{x.shape[2]}×{x.shape[3]}: its size must be the high-resolution patch's"
            )
            raise UsageError(msg)
        for k in range(self.levels):
            for step in (0, 1):
                x = self.get_submodule(f"conv{k}_{step}")(x)
                if k or step:
                    x = self.get_submodule(f"bn{k}_{step}")(x)
                x = F.leaky_relu(x, 0.2)
        return cast("Tensor", self.linear2(F.leaky_relu(self.linear1(x.flatten(1)), 0.2)))
