"""The exponential moving average of a network's weights, which is better than its last ones."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """Follows a network.

    Early on it follows faster, by (n + 1) / (n + 10) after n steps, lest it remember the start.

    Args:
        network: What to follow.
        decay: From 0, which makes it the network itself, to below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.module = network
        if decay > 0:
            self.module = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Draws the average towards the network; statistics of norms are taken over."""
        if self.decay <= 0:
            return
        share = 1 - min(self.decay, (step + 1) / (step + 10))
        own: list[Tensor] = list(self.module.parameters())
        given: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(own, given, share)
        pairs = zip(self.module.buffers(), self.network.buffers(), strict=True)
        for kept, value in pairs:
            kept.copy_(value)
