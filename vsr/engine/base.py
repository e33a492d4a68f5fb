"""The one thing the engine needs of a network: a map from tensors to larger tensors."""

from typing import Protocol

from torch import Tensor

from vsr.models._base import InputSpec


class Upscaler(Protocol):
    """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype and device.

    `Tiled`, `Padded`, `Resampled` and the networks themselves all are one; nobody downstream knows
    which.
    """

    @property
    def spec(self) -> InputSpec:
        """What the network accepts and what it does to the size."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Upscales a batch."""
        ...
