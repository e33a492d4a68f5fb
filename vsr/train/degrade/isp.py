"""Noise of a camera's sensor, seen through the camera's processing.

Brooks, Mildenhall, Xue, Chen, Sharlet, Barron 2019, "Unprocessing Images for Learned Raw
Denoising", arXiv:1811.11127: an sRGB picture is taken back to what the sensor saw, gets shot and
read noise there, and is processed again. BSRGAN's seventh degradation (section 3.3 there). The
noise that arises is correlated between pixels and channels, as that of real cameras is.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vsr.train.degrade.kernels import reflected
from vsr.train.degrade.noise import generator_for

_CAMERAS: Final = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.613, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.838, -0.263, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.097, 0.1581, 0.5181)),
)
"""From XYZ to the colours of four cameras' sensors, as their raw files say."""
_XYZ: Final = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""From linear sRGB to XYZ (IEC 61966-2-1)."""
_CROSS: Final = (
    (0, 0, -1, 0, 0),
    (0, 0, 2, 0, 0),
    (-1, 2, 4, 2, -1),
    (0, 0, 2, 0, 0),
    (0, 0, -1, 0, 0),
)
_ROW: Final = (
    (0, 0, 0.5, 0, 0),
    (0, -1, 0, -1, 0),
    (-1, 4, 5, 4, -1),
    (0, -1, 0, -1, 0),
    (0, 0, 0.5, 0, 0),
)
_DIAGONAL: Final = (
    (0, 0, -1.5, 0, 0),
    (0, 2, 0, 2, 0),
    (-1.5, 0, 6, 0, -1.5),
    (0, 2, 0, 2, 0),
    (0, 0, -1.5, 0, 0),
)


@dataclass(frozen=True, slots=True)
class Camera:
    """A drawn camera.

    Attributes:
        matrix: From linear sRGB to the sensor's colours, (3, 3), rows that sum to one.
        gains: Of red, green and blue, digital gain included.
        shot: Variance of the noise per unit of light.
        read: Variance of the noise without light.
    """

    matrix: Tensor
    gains: Tensor
    shot: float
    read: float


def drawn_camera(random: np.random.Generator) -> Camera:
    """Draws a camera and its noise as the paper does (its sections 3.1 to 3.4)."""
    share = random.uniform(1e-8, 1, len(_CAMERAS))
    mixed = torch.tensor(np.tensordot(share / share.sum(), np.array(_CAMERAS), 1))
    matrix = mixed @ torch.tensor(_XYZ, dtype=torch.float64)
    matrix = matrix / matrix.sum(1, keepdim=True)
    digital = 1 / random.normal(0.8, 0.1)
    gains = torch.tensor([random.uniform(1.9, 2.4), 1.0, random.uniform(1.5, 1.9)]) * digital
    log_shot = float(random.uniform(math.log(1e-4), math.log(0.012)))
    log_read = 2.18 * log_shot + 1.2 + float(random.normal(0, 0.26))
    return Camera(matrix.float(), gains.float(), math.exp(log_shot), math.exp(log_read))


def camera_noise(x: Tensor, camera: Camera, random: np.random.Generator) -> Tensor:
    """Adds a sensor's noise.

    Args:
        x: (3, H, W) sRGB in [0, 1].
        camera: From `drawn_camera`.
        random: Where the noise comes from.

    Returns:
        (3, H, W) in [0, 1].
    """
    height, width = x.shape[-2:]
    even = functional.pad(x[None], (0, width % 2, 0, height % 2), mode="replicate")[0]
    raw = mosaicked(unprocessed(even, camera))
    variance = raw.clamp_min(0) * camera.shot + camera.read
    generator = generator_for(random, x.device)
    raw = raw + torch.randn(raw.shape, generator=generator) * variance.sqrt()
    return processed(demosaicked(raw.clamp(0, 1)), camera)[:, :height, :width]


def unprocessed(x: Tensor, camera: Camera) -> Tensor:
    """From sRGB to the sensor's linear colours: tone, gamma, colour and gains undone."""
    x = 0.5 - torch.sin(torch.asin(1 - 2 * x.clamp(0, 1)) / 3)
    x = x.clamp_min(1e-8) ** 2.2
    x = torch.einsum("chw,kc->khw", x, camera.matrix)
    return _safely_divided(x.clamp(0, 1), camera.gains[:, None, None])


def processed(x: Tensor, camera: Camera) -> Tensor:
    """From the sensor's linear colours to sRGB: gains, colour, gamma and tone."""
    x = (x * camera.gains[:, None, None]).clamp(0, 1)
    inverse = torch.linalg.inv(camera.matrix.double()).float()
    x = torch.einsum("chw,kc->khw", x, inverse).clamp(0, 1)
    x = x.clamp_min(1e-8) ** (1 / 2.2)
    return (3 * x**2 - 2 * x**3).clamp(0, 1)


def _safely_divided(x: Tensor, gains: Tensor) -> Tensor:
    """Divides by gains, but keeps what is nearly white as it is, as the paper's equation 5 does."""
    gray = x.mean(0, keepdim=True)
    mask = ((gray - 0.9).clamp_min(0) / 0.1) ** 2
    inverse = 1 / gains
    return x * torch.maximum(mask + (1 - mask) * inverse, inverse)


def mosaicked(x: Tensor) -> Tensor:
    """Keeps one colour of each pixel, (H, W): red and green in even rows, green and blue in odd."""
    raw = x[1].clone()
    raw[0::2, 0::2] = x[0, 0::2, 0::2]
    raw[1::2, 1::2] = x[2, 1::2, 1::2]
    return raw


def demosaicked(raw: Tensor) -> Tensor:
    """Interpolates (3, H, W) from a mosaic, sides even.

    Malvar, He, Cutler 2004, "High-quality linear interpolation for demosaicing of Bayer-patterned
    color images": bilinear, corrected by the second derivative of the colour that is known.
    """
    row = torch.tensor(_ROW)
    filters = torch.stack([torch.tensor(_CROSS).float(), row, row.T, torch.tensor(_DIAGONAL)]) / 8
    framed = reflected(raw[None, None], 2)
    cross, across, along, diagonal = functional.conv2d(framed, filters[:, None])[0]
    red, green, blue = raw.clone(), raw.clone(), raw.clone()
    green[0::2, 0::2], green[1::2, 1::2] = cross[0::2, 0::2], cross[1::2, 1::2]
    red[0::2, 1::2], red[1::2, 0::2] = across[0::2, 1::2], along[1::2, 0::2]
    red[1::2, 1::2] = diagonal[1::2, 1::2]
    blue[1::2, 0::2], blue[0::2, 1::2] = across[1::2, 0::2], along[0::2, 1::2]
    blue[0::2, 0::2] = diagonal[0::2, 0::2]
    return torch.stack([red, green, blue]).clamp(0, 1)
