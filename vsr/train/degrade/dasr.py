"""The classical degradation: one Gaussian blur of any direction, a reduction, white noise.

DASR: Wang, Wang, Dong, Xu, Yang, An, Guo 2021, "Unsupervised Degradation Representation Learning
for Blind Super-Resolution", arXiv:2104.00416, sections 3 and 4. Defaults are those of the paper's
general case at x4; its first experiments have round blurs and no noise (`round = 1`,
`noise = [0, 0]`).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vsr.errors import UsageError
from vsr.resample import resize
from vsr.train.degrade import kernels
from vsr.train.degrade._base import check_range, check_share
from vsr.train.degrade.noise import gaussian_noise, generator_for
from vsr.train.degrade.resizes import rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class DasrSettings:
    """Ranges of blur and noise.

    Attributes:
        side: Of the kernel, odd.
        round: Probability of a round blur.
        sigma: Range of a round blur's standard deviation in pixels; at x2 the paper ends at 2, at
            x3 at 3.
        variances: Range of the variances along the two axes of one that is not round.
        noise: Range of the noise's standard deviation in 255ths.
        bicubic: Probability of MATLAB's reduction; otherwise every s-th pixel is kept.

    Raises:
        UsageError: A range or probability that cannot be.
    """

    side: int = 21
    round: float = 0.0
    sigma: tuple[float, float] = (0.2, 4.0)
    variances: tuple[float, float] = (0.2, 4.0)
    noise: tuple[float, float] = (0.0, 25.0)
    bicubic: float = 1.0

    def __post_init__(self) -> None:
        if not (1 <= self.side <= 101 and self.side % 2):
            msg = f"side is {self.side}: an odd number from 1 to 101 was expected"
            raise UsageError(msg)
        check_share("round", self.round)
        check_share("bicubic", self.bicubic)
        check_range("sigma", self.sigma, 0.01, 50)
        check_range("variances", self.variances, 0.01, 2500)
        check_range("noise", self.noise, 0, 255)


class Dasr:
    """Degrades one picture at a time."""

    def __init__(self, settings: DasrSettings, scale: int) -> None:
        self.settings, self.scale = settings, scale
        self.margin = 4 + -(-settings.side // 2 // scale)

    def __call__(self, clean: Tensor, random: np.random.Generator) -> Tensor:
        """Degrades (3, s·h, s·w) in [0, 1] to (3, h, w), multiples of 1/255."""
        x = kernels.filtered(clean[None], self.drawn(random)[None])
        if random.random() < self.settings.bicubic:
            height, width = (side // self.scale for side in x.shape[-2:])
            low = resize(x, height, width, "bicubic")
        else:
            low = x[..., :: self.scale, :: self.scale]  # half a step off, as in the paper
        sigma = torch.tensor([float(random.uniform(*self.settings.noise))])
        colour = torch.tensor([False])
        return rounded(gaussian_noise(low, sigma, colour, generator_for(random, low.device))[0])

    def drawn(self, random: np.random.Generator) -> Tensor:
        """Draws a kernel."""
        settings = self.settings
        if random.random() < settings.round:
            sigma = float(random.uniform(*settings.sigma))
            return kernels.gaussian(settings.side, (sigma, sigma))
        first, second = np.sqrt(random.uniform(*settings.variances, 2))
        angle = float(random.uniform(0, math.pi))
        return kernels.gaussian(settings.side, (float(first), float(second)), angle)

    def target(self, clean: Tensor) -> Tensor:
        """The clean picture."""
        return clean
