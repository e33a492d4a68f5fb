"""Resampling folded into the weights of the convolution beside it: same result, fewer products.

Nearest ×2 followed by a 3×3 convolution: an output row 2y + p sees the enlarged rows 2y + p - 1 to
2y + p + 1, which are the input rows y - 1, y, y for p = 0 and y, y, y + 1 for p = 1. So each of the
four phases (p, q) is a 2×2 convolution of the small picture whose weights are sums of the large
one's: 16 products an input pixel instead of 36, and the enlarged picture is never written. (The
same identity as in Shi et al., "Is the deconvolution layer the same as a convolutional layer?",
2016, arXiv:1609.07009.) Zero padding of the enlarged picture is zero padding of the small one.

An average of f×f after a pixel shuffle by s: the shuffled pixels are outputs of the last
convolution, so that averaging its weights over f×f of the s² sub-pixels gives a convolution for a
shuffle by s / f: a network for ×4 gives an antialiased ×2 for less than its own price.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import UsageError
from vsr.models.compact import Compact

_SUMS = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))
"""By phase: which of the three taps each of the two taps adds up."""


def phase_weights(weight: Tensor) -> Tensor:
    """Folds nearest ×2 into a 3×3 convolution.

    Args:
        weight: (K, C, 3, 3), floating point; half precisions are added up in float32.

    Returns:
        (2, 2, K, C, 2, 2), same dtype: phase row, phase column, then a 2×2 kernel. Phase (p, q)
        makes the output pixels (2y + p, 2x + q); its first tap lies on the input pixel
        (y + p - 1, x + q - 1).

    Raises:
        UsageError: Not a 3×3 kernel.
    """
    if weight.ndim != 4 or weight.shape[2:] != (3, 3):
        msg = f"nearest ×2 folds into a 3×3 kernel, got weights {tuple(weight.shape)}: leave it"
        raise UsageError(msg)
    wide = weight if weight.dtype == torch.float64 else weight.float()
    sums = torch.tensor(_SUMS, dtype=wide.dtype, device=wide.device)
    return torch.einsum("pay,qbx,kcyx->pqkcab", sums, sums, wide).to(weight.dtype)


class PhaseConv2d(nn.Module):
    """Nearest ×2 and a 3×3 convolution with padding 1, as one 2×2 convolution for all four phases.

    Args:
        conv: The 3×3 convolution; stride 1, zero padding 1, one group.

    Raises:
        UsageError: Another convolution.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        check_foldable(conv)
        weight = phase_weights(conv.weight.detach())
        bias = None if conv.bias is None else conv.bias.detach().repeat(4)
        self.register_buffer("weight", weight.flatten(0, 2).contiguous())
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, K, 2·H, 2·W), same dtype, in the input's memory format."""
        n, _, height, width = x.shape
        phases = F.conv2d(x, self.weight, self.bias, padding=1)
        last = phases.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        features = phases.shape[1] // 4
        size = (n, features, 2 * height, 2 * width)
        out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
        for index, phase in enumerate(torch.split(phases, features, 1)):
            p, q = divmod(index, 2)
            out[:, :, p::2, q::2] = phase[:, :, p : p + height, q : q + width]
        return out


def check_foldable(conv: nn.Conv2d) -> None:
    """Refuses what nearest ×2 does not fold into.

    Raises:
        UsageError: Not a 3×3 convolution with stride 1, one group and zero padding 1.
    """
    shape = (conv.kernel_size, conv.stride, conv.dilation, conv.groups)
    if shape != ((3, 3), (1, 1), (1, 1), 1) or conv.padding not in ((1, 1), "same"):
        msg = f"nearest ×2 folds into a 3×3 convolution with padding 1, got {conv}: leave it"
        raise UsageError(msg)
    if conv.padding_mode != "zeros":
        msg = f"nearest ×2 folds where borders are zeros, got {conv.padding_mode}: leave it"
        raise UsageError(msg)


def fold_area(conv: nn.Conv2d, scale: int, factor: int) -> nn.Conv2d:
    """Folds an average of `factor`×`factor` after a pixel shuffle into the convolution before it.

    Args:
        conv: Any convolution with C·scale² outputs, in the order of `pixel_shuffle`.
        scale: Of the pixel shuffle.
        factor: Divides `scale`.

    Returns:
        A convolution with C·(scale/factor)² outputs, for a shuffle by scale/factor.

    Raises:
        UsageError: Numbers that do not divide, or a grouped convolution.
    """
    if factor < 1 or scale % factor or conv.out_channels % scale**2 or conv.groups != 1:
        msg = (
            f"cannot fold an area reduction by {factor} into {conv} before a shuffle by {scale}: "
            "the factor must divide the scale, and scale² the outputs of one group"
        )
        raise UsageError(msg)
    folded = copy.deepcopy(conv)
    folded.out_channels = conv.out_channels // factor**2
    folded.weight = nn.Parameter(_averaged(conv.weight, scale, factor), requires_grad=False)
    if conv.bias is not None:
        folded.bias = nn.Parameter(_averaged(conv.bias, scale, factor), requires_grad=False)
    return folded


def _averaged(values: Tensor, scale: int, factor: int) -> Tensor:
    """Averages outputs (C·scale², ...) over factor × factor sub-pixels."""
    wide = values.detach() if values.dtype == torch.float64 else values.detach().float()
    small = scale // factor
    wide = wide.view(-1, small, factor, small, factor, *values.shape[1:]).mean((2, 4))
    return wide.flatten(0, 2).to(values.dtype)


def reduced(network: Compact, factor: int) -> Compact:
    """A compact network followed by an area reduction, as one network of the smaller scale.

    The picture that it adds, repeated s times, is after the reduction the picture repeated
    s / factor times.

    Args:
        network: Left as it is.
        factor: Divides the network's scale.

    Returns:
        A network for scale / factor, same dtype and device.

    Raises:
        UsageError: The factor does not divide the scale.
    """
    smaller = copy.deepcopy(network)
    last = smaller.body[-1]
    if not isinstance(last, nn.Conv2d):
        msg = f"the last layer is {type(last).__name__}, expected a convolution: fold before fusing"
        raise UsageError(msg)
    smaller.body[-1] = fold_area(last, network.scale, factor)
    smaller.scale = network.scale // factor
    return smaller
