"""Blocks that EDSR and the networks made from its code have in common.

Sources: Lim et al. 2017 (EDSR), arXiv:1707.02921; Shi et al. 2016 (sub-pixel convolution),
arXiv:1609.05158. Keys equal those of the authors' EDSR-PyTorch, which RDN, RCAN, SAN and many
others were trained with.
"""

import re
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import StateDict

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K's pictures in [0, 1], which these networks subtract."""


class MeanShift(nn.Module):
    """A fixed 1×1 convolution that moves the mean colour away (sign -1) or back (sign 1).

    Its tensors belong to the checkpoint, but are not learned: buffers, not parameters.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, white: float, sign: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(3).view(3, 3, 1, 1))
        self.register_buffer("bias", sign * white * torch.tensor(DIV2K_MEAN))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to the same."""
        return F.conv2d(x, self.weight, self.bias)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution around a skip; (N, F, H, W) to the same.

    Args:
        features: Channels.
        kernel: Side of the kernels, odd.
        scale: Factor of the residual; EDSR's wide variant needs 0.1 to train (section 3.3).
    """

    def __init__(self, features: int, kernel: int = 3, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.Sequential(
            nn.Conv2d(features, features, kernel, padding=kernel // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, kernel, padding=kernel // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds the scaled residual."""
        return torch.add(x, self.body(x), alpha=self.scale)


def squeeze(features: int, squeezed: int) -> nn.Sequential:
    """The two 1×1 convolutions of channel attention (Zhang et al. 2018, equation 10).

    All squeezed channels start active. By the usual initialisation a handful of them can all start
    dead, about every sixteenth time for four, and such an attention would never learn.
    """
    first, last = nn.Conv2d(features, squeezed, 1), nn.Conv2d(squeezed, features, 1)
    nn.init.normal_(first.weight, std=1e-3)
    nn.init.ones_(first.bias)  # type: ignore[arg-type]  # it has one
    return nn.Sequential(first, nn.ReLU(inplace=True), last, nn.Sigmoid())


def upsampler(features: int, scale: int) -> nn.Sequential:
    """Sub-pixel convolutions: one of ×3, or as many of ×2 as the scale is a power of two."""
    layers: list[nn.Module] = []
    for factor in factors(scale):
        layers.append(nn.Conv2d(features, features * factor**2, 3, padding=1))
        layers.append(nn.PixelShuffle(factor))
    return nn.Sequential(*layers)


def factors(scale: int) -> tuple[int, ...]:
    """Steps in which a scale is reached: (3,) for 3, otherwise twos."""
    return (3,) if scale == 3 else (2,) * (scale.bit_length() - 1)


def scale_of(state: StateDict, keys: str, features: int) -> int | None:
    """The scale of an `upsampler` by its tensors' shapes; None if it is not one.

    Args:
        state: Tensors by name.
        keys: Regular expression that its weights' names match.
        features: Channels that go in.
    """
    pattern = re.compile(keys)
    widths = [(*v.shape, 0)[0] for key, v in state.items() if pattern.fullmatch(key)]
    if widths == [9 * features]:
        return 3
    fits = 1 <= len(widths) <= 3 and set(widths) == {4 * features}
    return int(2 ** len(widths)) if fits else None


def white_of(state: StateDict) -> float | None:
    """The value of white that a checkpoint was trained with: 255 or 1; None without `sub_mean`.

    The mean that is subtracted is below 1 in networks that work in [0, 1]. Without values (on the
    meta device) it is the usual 255.
    """
    bias = state.get("sub_mean.bias")
    if bias is None or bias.shape != (3,):
        return None
    return 255.0 if bias.is_meta or float(bias.abs().max()) > 1 else 1.0


def mean_shifts(white: float = 255.0, mean: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
    """The tensors of `sub_mean` and `add_mean` for layouts that keep the mean elsewhere.

    Args:
        white: Value of white that the network was trained with.
        mean: Three numbers for a white of 1, of any shape; None if the code has them, DIV2K's.
    """
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        shift = MeanShift(white, sign).state_dict()
        if mean is not None and mean.numel() == 3:
            shift["bias"] = sign * white * mean.reshape(3)
        for key, value in shift.items():
            yield f"{name}.{key}", value


def reach(last: int, scale: int) -> int:
    """Input pixels to each side that a tail of sub-pixel convolutions sees.

    Args:
        last: Radius, in output pixels, of what follows the last shuffle.
        scale: Of the `upsampler` before it, whose convolutions are 3×3.
    """
    for factor in factors(scale):
        last = -(-last // factor) + 1
    return last
