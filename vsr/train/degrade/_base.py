"""What a degradation is, and checks that their settings share."""

from typing import Protocol

import numpy as np
from torch import Tensor

from vsr.errors import UsageError


class Degradation(Protocol):
    """Makes of clean pictures what a camera, a codec or a network of the past would have left.

    All draws come from the generator that is given, so equal generators give equal results.

    Attributes:
        scale: Clean pixels per degraded pixel along each axis.
        margin: Degraded pixels beside a crop that its content may depend on; callers that can,
            degrade a crop that is larger by so much, and cut.
    """

    scale: int
    margin: int

    def __call__(self, clean: Tensor, random: np.random.Generator) -> Tensor:
        """Degrades a picture.

        Args:
            clean: (3, s·h, s·w) RGB in [0, 1], float32 on the CPU.
            random: Where all draws come from.

        Returns:
            (3, h, w) in [0, 1].
        """
        ...

    def target(self, clean: Tensor) -> Tensor:
        """What a network should make of it: the clean picture itself, or sharpened."""
        ...


def check_range(name: str, limits: tuple[float, float], low: float, high: float) -> None:
    """Raises a one-line `UsageError` unless low <= limits[0] <= limits[1] <= high."""
    if not low <= limits[0] <= limits[1] <= high:
        msg = f"{name} is {limits}: two numbers from {low:g} to {high:g} were expected, in order"
        raise UsageError(msg)


def check_share(name: str, value: float) -> None:
    """Raises a one-line `UsageError` unless a probability is one."""
    if not 0 <= value <= 1:
        msg = f"{name} is {value:g}: a probability from 0 to 1 was expected"
        raise UsageError(msg)
