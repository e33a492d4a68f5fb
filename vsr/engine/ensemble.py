"""Test-time augmentation: the mean over the eight symmetries of the square."""

import torch
from torch import Tensor

from vsr.engine.base import Upscaler


class Ensemble:
    """Runs a network on the eight flips and turns of a picture and averages the results.

    "Geometric self-ensemble" of Lim et al., "Enhanced Deep Residual Networks for Single Image
    Super-Resolution", 2017, arXiv:1707.02921, section 3.4. Eight times the work.

    Args:
        inner: The network.
    """

    def __init__(self, inner: Upscaler) -> None:
        self.inner, self.spec = inner, inner.spec

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        total: Tensor | None = None
        for turns in range(4):
            for flip in (False, True):
                view = torch.rot90(x, turns, (2, 3))
                y = self.inner(view.flip(3) if flip else view)
                y = torch.rot90(y.flip(3) if flip else y, -turns, (2, 3))
                total = y if total is None else total.add_(y)
        return x if total is None else total.mul_(1 / 8)
