"""Sensor-like noise: Gaussian and Poisson, in colour or gray (Real-ESRGAN, section 3.2).

All functions work on batches (N, C, H, W) in [0, 1] on any device, with parameters of shape (N,),
and draw from a generator of that device. What they return is not clamped.
"""

import numpy as np
import torch
from torch import Tensor

_GRAY = (0.2989, 0.587, 0.114)
"""What the paper's code (torchvision) weighs red, green and blue with."""


def generator_for(random: np.random.Generator, device: torch.device) -> torch.Generator:
    """A generator on a device whose state follows from one drawn number."""
    return torch.Generator(device).manual_seed(int(random.integers(1 << 62)))


def gaussian_noise(x: Tensor, sigma: Tensor, gray: Tensor, generator: torch.Generator) -> Tensor:
    """Adds white Gaussian noise.

    Args:
        x: Pictures.
        sigma: Standard deviation in 255ths, (N,).
        gray: Whether all channels of a picture get the same noise, (N,), bool.
        generator: Of the device of `x`.
    """
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    noise = torch.where(_per_picture(gray, x).bool(), noise[:, :1], noise)
    return x + noise * _per_picture(sigma, x) / 255


def poisson_noise(x: Tensor, scale: Tensor, gray: Tensor, generator: torch.Generator) -> Tensor:
    """Adds shot noise: the brighter, the stronger.

    The light of a full sample is a power of two of photons, at least as many as the picture has
    different values.

    Args:
        x: Pictures.
        scale: What the noise is multiplied by, (N,).
        gray: Whether all channels of a picture get the noise of its luma, (N,), bool.
        generator: Of the device of `x`.
    """
    noise = _shot(x, generator)
    if x.shape[1] == 3 and bool(gray.any()):
        luma = torch.einsum("nchw,c->nhw", x, x.new_tensor(_GRAY))[:, None]
        noise = torch.where(_per_picture(gray, x).bool(), _shot(luma, generator), noise)
    return x + noise * _per_picture(scale, x)


def _shot(x: Tensor, generator: torch.Generator) -> Tensor:
    levels = (x * 255).round().clamp(0, 255)
    counts = [_power_of_two(len(picture.unique())) for picture in levels]
    photons = x.new_tensor(counts).view(-1, 1, 1, 1)
    clean = levels / 255
    return torch.poisson(clean * photons, generator=generator) / photons - clean


def _power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()


def correlated_noise(x: Tensor, covariance: Tensor, generator: torch.Generator) -> Tensor:
    """Adds Gaussian noise whose channels depend on each other (BSRGAN, section 3.3).

    Args:
        x: Pictures of three channels.
        covariance: (3, 3), of samples in [0, 1], positive semidefinite.
        generator: Of the device of `x`.
    """
    values, vectors = torch.linalg.eigh(covariance.double())
    root = (vectors * values.clamp_min(0).sqrt()).to(x)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return x + torch.einsum("nchw,kc->nkhw", noise, root)


def _per_picture(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.device).reshape(-1, 1, 1, 1).to(x.dtype)
