"""The one thing the engine needs of a network: a map from tensors to larger tensors."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from vsr.engine.color import Picture
from vsr.models._base import InputSpec
from vsr.resample import Kernel

type PlaneMap = Callable[[tuple[Tensor, ...]], tuple[tuple[Tensor, ...], Tensor]]
"""Maps planes (N, h, w) to planes of the target's sample type, and a scalar that is finite if all
samples are."""


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


@runtime_checkable
class Routed(Protocol):
    """An upscaler that knows a shorter way between planes than through `Route`."""

    def route(self, source: Picture, target: Picture, kernel: Kernel) -> PlaneMap | None:
        """The way from one picture's planes to another's, None if there is none for these."""
        ...
