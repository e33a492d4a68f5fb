"""The papers' own low resolution: MATLAB's antialiased bicubic reduction, rounded, nothing else."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vsr.train.degrade.resizes import matlab_reduced


@dataclass(frozen=True, slots=True, kw_only=True)
class BicubicSettings:
    """There is nothing to set."""


class Bicubic:
    """Reduces; draws nothing."""

    def __init__(self, settings: BicubicSettings, scale: int) -> None:
        self.settings, self.scale = settings, scale
        self.margin = 4

    def __call__(self, clean: Tensor, random: np.random.Generator) -> Tensor:  # noqa: ARG002
        """Reduces (C, s·h, s·w) in [0, 1] to (C, h, w)."""
        return matlab_reduced(clean, self.scale)

    def target(self, clean: Tensor) -> Tensor:
        """The clean picture."""
        return clean
