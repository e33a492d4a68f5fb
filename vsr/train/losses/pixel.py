"""Losses on the pixels themselves."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of one shape; a scalar."""
    return F.l1_loss(output, target)


def l2(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two tensors of one shape; a scalar."""
    return F.mse_loss(output, target)


def charbonnier(output: Tensor, target: Tensor, eps: float = 1e-12) -> Tensor:
    """A smooth L1: the mean of sqrt(d² + eps).

    Lai, Huang, Ahuja, Yang 2017 (LapSRN), arXiv:1704.03915, equation 1, whose ε is sqrt(eps).

    Args:
        output: Any shape.
        target: The same shape.
        eps: Added under the root; above 0.
    """
    return torch.sqrt((output - target) ** 2 + eps).mean()


def total_variation(output: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference of neighbours down and across, which are added.

    Rudin, Osher, Fatemi 1992, anisotropic; the weights as in BasicSR's `WeightedTVLoss`.

    Args:
        output: (N, C, H, W), at least 2 pixels high and wide.
        weight: The same shape, or None for 1 everywhere. Of a pair of neighbours the upper or left
            one's counts.
    """
    down = (output[:, :, :-1] - output[:, :, 1:]).abs()
    across = (output[:, :, :, :-1] - output[:, :, :, 1:]).abs()
    if weight is not None:
        down, across = down * weight[:, :, :-1], across * weight[:, :, :, :-1]
    return down.mean() + across.mean()
