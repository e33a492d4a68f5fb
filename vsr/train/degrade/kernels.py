"""Blur kernels: Gaussians, generalised and plateau-shaped ones, and the sinc filter.

Real-ESRGAN (Wang, Xie, Dong, Shan 2021, arXiv:2107.10833), section 3.2 and appendix A; the shapes
are those of Liu, Zhang, Yang, Wang, Cao, Tao 2020, "Estimating generalized Gaussian blur kernels
for out-of-focus image deblurring". All kernels are float64 of shape (K, K) with K odd, sum to one,
and are meant for `filtered`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vsr.errors import UsageError

type Shape = Literal[
    "iso", "aniso", "generalised_iso", "generalised_aniso", "plateau_iso", "plateau_aniso"
]

SHAPES: Final[tuple[Shape, ...]] = (
    "iso",
    "aniso",
    "generalised_iso",
    "generalised_aniso",
    "plateau_iso",
    "plateau_aniso",
)


def gaussian(size: int, sigmas: tuple[float, float], angle: float = 0.0) -> Tensor:
    """A Gaussian of any direction.

    Args:
        size: Side, odd.
        sigmas: Standard deviations in pixels along the two axes of the ellipse.
        angle: Of the first axis against the rows, in radians.
    """
    return _normalised(torch.exp(-0.5 * _squared_distance(size, sigmas, angle)))


def generalised(size: int, sigmas: tuple[float, float], beta: float, angle: float = 0.0) -> Tensor:
    """A Gaussian whose exponent is raised to `beta`: below 1 with long tails, above 1 flatter."""
    return _normalised(torch.exp(-0.5 * _squared_distance(size, sigmas, angle).pow(beta)))


def plateau(size: int, sigmas: tuple[float, float], beta: float, angle: float = 0.0) -> Tensor:
    """1 / (1 + d^(2 beta)) for the distance d in standard deviations: flat in its middle."""
    return _normalised(1 / (1 + _squared_distance(size, sigmas, angle).pow(beta)))


def sinc(size: int, cutoff: float) -> Tensor:
    """The ideal circular low-pass, which rings; equation 6 of the paper.

    Args:
        size: Side, odd.
        cutoff: Frequency in radians per pixel, up to pi.
    """
    y, x = _offsets(size)
    distance = torch.hypot(y, x)
    wave = cutoff * torch.special.bessel_j1(cutoff * distance)
    kernel = wave / (2 * math.pi * distance)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return _normalised(kernel)


def pulse(size: int) -> Tensor:
    """The kernel that changes nothing."""
    kernel = torch.zeros(size, size, dtype=torch.float64)
    kernel[size // 2, size // 2] = 1
    return kernel


def padded(kernel: Tensor, size: int) -> Tensor:
    """Zeros around a kernel, up to a side of `size`."""
    margin = (size - kernel.shape[-1]) // 2
    return functional.pad(kernel, (margin,) * 4)


def filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Filters every picture of a batch by its own kernel; what lies beyond an edge is reflected.

    Args:
        x: (N, C, H, W), sides above half the kernel's.
        kernels: (N, K, K) or (1, K, K) for all, K odd.

    Returns:
        Same shape, dtype and device as `x`.
    """
    # By Fourier transforms: of kernels that large, several times as fast as sums of products.
    side = kernels.shape[-1]
    framed = reflected(x, side // 2)
    size = (framed.shape[-2], framed.shape[-1])
    response = torch.fft.rfft2(kernels.to(x).flip(-2, -1), s=size)[:, None]
    out: Tensor = torch.fft.irfft2(torch.fft.rfft2(framed) * response, s=size)
    return out[..., side - 1 :, side - 1 :].contiguous()


def reflected(x: Tensor, margin: int) -> Tensor:
    """Reflects (N, C, H, W) about its edge samples, in several turns where it is small."""
    while margin > 0:
        step = min(margin, min(x.shape[-2:]) - 1)
        if step < 1:
            return functional.pad(x, (margin,) * 4, mode="replicate")
        x = functional.pad(x, (step,) * 4, mode="reflect")
        margin -= step
    return x


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """How blur kernels are drawn.

    Attributes:
        sides: Smallest and largest side; odd ones between are equally likely.
        weights: Of the six `SHAPES` in their order.
        sinc: Probability of a sinc filter instead.
        sigma: Range of the standard deviations in pixels.
        beta_generalised: Range of the exponent; one half of the draws is below 1, one above.
        beta_plateau: Likewise.

    Raises:
        UsageError: A range that is empty, or weights that cannot be probabilities.
    """

    sides: tuple[int, int] = (7, 21)
    weights: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc: float = 0.1
    sigma: tuple[float, float] = (0.2, 3.0)
    beta_generalised: tuple[float, float] = (0.5, 4.0)
    beta_plateau: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        low, high = self.sides
        if not (0 < low <= high and low % 2 and high % 2):
            msg = f"kernel sides {self.sides}: two odd numbers were expected, the smaller first"
            raise UsageError(msg)
        if len(self.weights) != len(SHAPES) or min(self.weights) < 0 or sum(self.weights) <= 0:
            msg = f"weights {self.weights}: six numbers of at least 0 were expected, not all 0"
            raise UsageError(msg)


def drawn(settings: KernelSettings, random: np.random.Generator) -> Tensor:
    """Draws a kernel.

    Returns:
        float64 (K, K), K the largest side of the settings.
    """
    side = drawn_side(settings.sides, random)
    if random.random() < settings.sinc:
        lowest = math.pi / 3 if side < 13 else math.pi / 5
        kernel = sinc(side, float(random.uniform(lowest, math.pi)))
    else:
        shape = SHAPES[int(random.choice(len(SHAPES), p=_probabilities(settings.weights)))]
        kernel = _shaped(shape, side, settings, random)
    return padded(kernel, settings.sides[1])


def drawn_side(sides: tuple[int, int], random: np.random.Generator) -> int:
    """Draws an odd number of a range."""
    return int(random.integers(sides[0] // 2, sides[1] // 2 + 1)) * 2 + 1


def _shaped(
    shape: Shape, side: int, settings: KernelSettings, random: np.random.Generator
) -> Tensor:
    first = float(random.uniform(*settings.sigma))
    sigmas, angle = (first, first), 0.0
    if shape.endswith("aniso"):
        sigmas = (first, float(random.uniform(*settings.sigma)))
        angle = float(random.uniform(-math.pi, math.pi))
    if shape.startswith("generalised"):
        return generalised(side, sigmas, _beta(settings.beta_generalised, random), angle)
    if shape.startswith("plateau"):
        return plateau(side, sigmas, _beta(settings.beta_plateau, random), angle)
    return gaussian(side, sigmas, angle)


def _beta(limits: tuple[float, float], random: np.random.Generator) -> float:
    low, high = limits
    if random.random() < 0.5:
        return float(random.uniform(min(low, 1.0), 1.0))
    return float(random.uniform(1.0, max(high, 1.0)))


def _probabilities(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _offsets(size: int) -> tuple[Tensor, Tensor]:
    steps = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return y, x


def _squared_distance(size: int, sigmas: tuple[float, float], angle: float) -> Tensor:
    """Squared Mahalanobis distance from the middle."""
    y, x = _offsets(size)
    cosine, sine = math.cos(angle), math.sin(angle)
    along, across = cosine * x + sine * y, cosine * y - sine * x
    return (along / sigmas[0]).square() + (across / sigmas[1]).square()


def _normalised(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum()
