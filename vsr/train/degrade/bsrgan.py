"""Shuffled degradation: two blurs, resizes, Gaussian noise, JPEG and camera noise in any order.

BSRGAN: Zhang, Liang, Van Gool, Timofte 2021, "Designing a Practical Degradation Model for Deep
Blind Image Super-Resolution", arXiv:2103.14006, section 3. Defaults are those of the published
code. At x4 some pictures are halved first, so that scales are mixed. The second resize, which makes
the size right, comes after the first; a last JPEG ends everything.

Deviations: JPEG is computed on tensors (see `jpeg`).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vsr.resample import resize
from vsr.train.degrade import kernels
from vsr.train.degrade._base import check_range, check_share
from vsr.train.degrade.isp import camera_noise, drawn_camera
from vsr.train.degrade.jpeg import jpeg
from vsr.train.degrade.noise import correlated_noise, gaussian_noise, generator_for
from vsr.train.degrade.resizes import drawn_mode, resized, rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class BsrganSettings:
    """Probabilities and ranges.

    Attributes:
        halved: Probability at x4 that the picture is halved before everything else.
        anisotropic: Probability that a blur has a direction.
        sides: Smallest and largest side of the blurs.
        resampled: Probability that the first resize is by a drawn factor; otherwise the picture is
            blurred by a shifted kernel and every s-th pixel kept.
        sigma: Range of the noise's standard deviation in 255ths, whole numbers.
        colour: Probability of noise that differs in each channel.
        gray: Probability of noise that is the same; what is left is correlated noise.
        middle_jpeg: Probability of a JPEG among the shuffled steps.
        jpeg: Range of the quality.
        camera: Probability of camera noise.

    Raises:
        UsageError: A range or probability that cannot be.
    """

    halved: float = 0.25
    anisotropic: float = 0.5
    sides: tuple[int, int] = (7, 25)
    resampled: float = 0.75
    sigma: tuple[int, int] = (2, 25)
    colour: float = 0.4
    gray: float = 0.4
    middle_jpeg: float = 0.9
    jpeg: tuple[int, int] = (30, 95)
    camera: float = 0.25

    def __post_init__(self) -> None:
        for name in ("halved", "anisotropic", "resampled", "middle_jpeg", "camera"):
            check_share(name, getattr(self, name))
        check_share("the sum of colour and gray", self.colour + self.gray)
        check_range("sides", self.sides, 3, 101)
        check_range("sigma", self.sigma, 0, 255)
        check_range("jpeg", self.jpeg, 1, 100)


class Bsrgan:
    """Degrades one picture at a time."""

    def __init__(self, settings: BsrganSettings, scale: int) -> None:
        self.settings, self.scale = settings, scale
        self.margin = -(-32 // scale)

    def __call__(self, clean: Tensor, random: np.random.Generator) -> Tensor:
        """Degrades (3, s·h, s·w) in [0, 1] to (3, h, w), multiples of 1/255."""
        height, width = (side // self.scale for side in clean.shape[-2:])
        x, scale = clean[None], self.scale
        if scale == 4 and random.random() < self.settings.halved:
            x, scale = self._halved(x, random), 2
        for step in drawn_order(random):
            if step in {"blur", "blur again"}:
                x = self._blurred(x, scale, random)
            elif step == "first resize":
                x = self._first_resize(x, scale, random)
            elif step == "second resize":
                x = resized(x, height, width, drawn_mode(random)).clamp(0, 1)
            elif step == "noise":
                x = self._noisy(x, random)
            elif step == "jpeg":
                if random.random() < self.settings.middle_jpeg:
                    x = self._compressed(x, random)
            elif random.random() < self.settings.camera:
                x = camera_noise(x[0], drawn_camera(random), random)[None]
        return rounded(self._compressed(x, random)[0])

    def target(self, clean: Tensor) -> Tensor:
        """The clean picture."""
        return clean

    def _halved(self, x: Tensor, random: np.random.Generator) -> Tensor:
        height, width = (side // 2 for side in x.shape[-2:])
        if random.random() < 0.5:
            return resized(x, height, width, drawn_mode(random)).clamp(0, 1)
        return resize(x, height, width, "bicubic").clamp(0, 1)

    def _blurred(self, x: Tensor, scale: int, random: np.random.Generator) -> Tensor:
        side = kernels.drawn_side(self.settings.sides, random)
        if random.random() < self.settings.anisotropic:
            # the paper draws variances along the axes, not deviations
            first, second = np.sqrt((4 + scale) * random.uniform(0.001, 1, 2))
            angle = float(random.uniform(0, math.pi))
            kernel = kernels.gaussian(side, (float(first), float(second)), angle)
        else:
            sigma = float((2 + 0.2 * scale) * random.uniform(0.05, 1))
            kernel = kernels.gaussian(side, (sigma, sigma))
        return kernels.filtered(x, kernel[None])

    def _first_resize(self, x: Tensor, scale: int, random: np.random.Generator) -> Tensor:
        height, width = x.shape[-2:]
        if random.random() < self.settings.resampled:
            factor = random.uniform(1, 2 * scale)
            small = (int(height / factor), int(width / factor))
            return resized(x, *small, drawn_mode(random)).clamp(0, 1)
        sigma = float(random.uniform(0.1, 0.6 * scale))
        kernel = shifted_gaussian(25, sigma, (scale - 1) / 2)
        return kernels.filtered(x, kernel[None])[..., ::scale, ::scale].clamp(0, 1)

    def _noisy(self, x: Tensor, random: np.random.Generator) -> Tensor:
        low, high = self.settings.sigma
        sigma = torch.tensor([float(random.integers(low, high + 1))])
        share, generator = random.random(), generator_for(random, x.device)
        if share < self.settings.colour + self.settings.gray:
            gray = torch.tensor([share >= self.settings.colour])
            return gaussian_noise(x, sigma, gray, generator).clamp(0, 1)
        return correlated_noise(x, drawn_covariance(high / 255, random), generator).clamp(0, 1)

    def _compressed(self, x: Tensor, random: np.random.Generator) -> Tensor:
        quality = int(random.integers(self.settings.jpeg[0], self.settings.jpeg[1] + 1))
        return rounded(jpeg(rounded(x), quality))


def drawn_order(random: np.random.Generator) -> list[str]:
    """Draws the order of the seven steps; the second resize follows the first."""
    steps = ["blur", "blur again", "first resize", "second resize", "noise", "jpeg", "camera"]
    order = [steps[int(place)] for place in random.permutation(len(steps))]
    first, second = order.index("first resize"), order.index("second resize")
    if first > second:
        order[first], order[second] = order[second], order[first]
    return order


def shifted_gaussian(side: int, sigma: float, shift: float) -> Tensor:
    """A Gaussian moved right and down, so that every s-th pixel stays centred on its s pixels."""
    steps = torch.arange(side, dtype=torch.float64) - side // 2 - shift
    axis = torch.exp(-0.5 * (steps / sigma).square())
    kernel = torch.outer(axis, axis)
    return kernel / kernel.sum()


def drawn_covariance(level: float, random: np.random.Generator) -> Tensor:
    """Draws the covariance of noise between channels: random axes, variances up to level²."""
    axes, _ = np.linalg.qr(random.uniform(0, 1, (3, 3)))
    return torch.from_numpy(np.abs(level**2 * axes.T @ np.diag(random.uniform(0, 1, 3)) @ axes))
