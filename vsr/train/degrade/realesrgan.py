"""Second-order degradation: blur, resize, noise and JPEG, twice, then ringing.

Real-ESRGAN: Wang, Xie, Dong, Shan 2021, "Training Real-World Blind Super-Resolution with Pure
Synthetic Data", arXiv:2107.10833, section 3 and figure 2. Defaults are those of the published
training files for x4. The order of the last sinc filter and the last JPEG is drawn; what the
network learns to give is sharpened.

    clean ─ sharpen ─┬─ blur ─ resize ─ noise ─ JPEG ─ (blur) ─ resize ─ noise ─┬─ back + sinc ─ JPEG ─┬─ low
                     │                                                          └─ JPEG ─ back + sinc ─┘
                     └─ target

Deviations: JPEG quantises as libjpeg does (see `jpeg`). Resizes by a drawn factor lay the corners of
the result over those of the picture; the published code lets a broken rest of a pixel hang over, so
that small patches shift by up to that much.
"""  # noqa: E501 - the drawing

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vsr.train.degrade import kernels
from vsr.train.degrade._base import check_range, check_share
from vsr.train.degrade.jpeg import jpeg
from vsr.train.degrade.kernels import KernelSettings
from vsr.train.degrade.noise import gaussian_noise, generator_for, poisson_noise
from vsr.train.degrade.resizes import drawn_mode, resized, rounded
from vsr.train.degrade.sharpen import sharpened


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """One of the two stages.

    Attributes:
        kernel: How its blur is drawn.
        blur: Probability that it blurs.
        resize: Probabilities of a larger, a smaller and an equal size.
        factors: Of the smallest and the largest size.
        gaussian: Probability of Gaussian noise; otherwise it is Poisson noise.
        sigma: Range of the Gaussian noise's standard deviation in 255ths.
        poisson: Range of the Poisson noise's scale.
        gray: Probability of gray noise.
        jpeg: Range of the quality.

    Raises:
        UsageError: A range or probability that cannot be.
    """

    kernel: KernelSettings = field(default_factory=KernelSettings)
    blur: float = 1.0
    resize: tuple[float, float, float] = (0.2, 0.7, 0.1)
    factors: tuple[float, float] = (0.15, 1.5)
    gaussian: float = 0.5
    sigma: tuple[float, float] = (1.0, 30.0)
    poisson: tuple[float, float] = (0.05, 3.0)
    gray: float = 0.4
    jpeg: tuple[float, float] = (30.0, 95.0)

    def __post_init__(self) -> None:
        for name in ("blur", "gaussian", "gray"):
            check_share(name, getattr(self, name))
        check_share("the sum of resize's first two", self.resize[0] + self.resize[1])
        check_range("factors", self.factors, 0.01, 16)
        check_range("sigma", self.sigma, 0, 255)
        check_range("poisson", self.poisson, 0, 100)
        check_range("jpeg", self.jpeg, 1, 100)


def _second() -> StageSettings:
    return StageSettings(
        kernel=KernelSettings(sigma=(0.2, 1.5)),
        blur=0.8,
        resize=(0.3, 0.4, 0.3),
        factors=(0.3, 1.2),
        sigma=(1.0, 25.0),
        poisson=(0.05, 2.5),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RealEsrganSettings:
    """The whole degradation.

    Attributes:
        first: The first stage.
        second: The second stage.
        final_sinc: Probability of the last sinc filter.
        sinc_first: Probability that it comes before the last JPEG.
        sharpen: Whether degradation and target start from a sharpened picture.
        pool: Pictures that wait in the queue of `RealEsrganBatch`, a multiple of the batch.

    Raises:
        UsageError: A range or probability that cannot be.
    """

    first: StageSettings = field(default_factory=StageSettings)
    second: StageSettings = field(default_factory=_second)
    final_sinc: float = 0.8
    sinc_first: float = 0.5
    sharpen: bool = True
    pool: int = 180

    def __post_init__(self) -> None:
        check_share("final_sinc", self.final_sinc)
        check_share("sinc_first", self.sinc_first)
        check_range("pool", (0, self.pool), 0, 1 << 20)


class RealEsrgan:
    """Degrades one picture at a time; each has its own draw of everything."""

    def __init__(self, settings: RealEsrganSettings, scale: int) -> None:
        self.settings, self.scale = settings, scale
        self.margin = -(-48 // scale)

    def __call__(self, clean: Tensor, random: np.random.Generator) -> Tensor:
        """Degrades (3, s·h, s·w) in [0, 1] to (3, h, w)."""
        return degraded(self.target(clean)[None], self.settings, self.scale, random)[0]

    def target(self, clean: Tensor) -> Tensor:
        """The clean picture, sharpened if the settings say so."""
        return sharpened(clean[None])[0] if self.settings.sharpen else clean


def degraded(
    x: Tensor, settings: RealEsrganSettings, scale: int, random: np.random.Generator
) -> Tensor:
    """Degrades a batch on its device.

    Kernels, strengths and qualities are drawn for each picture, sizes, modes and the kind of noise
    for the batch, as in the published code.

    Args:
        x: (N, C, s·h, s·w) in [0, 1], sharpened already.
        settings: What is drawn from.
        scale: Clean pixels per degraded pixel.
        random: Where all draws come from.

    Returns:
        (N, C, h, w), multiples of 1/255.
    """
    size = (x.shape[-2], x.shape[-1])
    low = (size[0] // scale, size[1] // scale)
    noise = generator_for(random, x.device)
    y = _stage(x, settings.first, size, random, noise)
    y = jpeg(y.clamp(0, 1), _between(settings.first.jpeg, len(x), random))
    y = _stage(y, settings.second, low, random, noise)
    rings = torch.stack([_final_kernel(settings, random) for _ in range(len(x))])
    quality = _between(settings.second.jpeg, len(x), random)
    if random.random() < settings.sinc_first:
        y = kernels.filtered(resized(y, *low, drawn_mode(random)), rings)
        y = jpeg(y.clamp(0, 1), quality)
    else:
        y = jpeg(y.clamp(0, 1), quality)
        y = kernels.filtered(resized(y, *low, drawn_mode(random)), rings)
    return rounded(y)


def _stage(
    x: Tensor,
    stage: StageSettings,
    size: tuple[int, int],
    random: np.random.Generator,
    noise: torch.Generator,
) -> Tensor:
    """Blur, resize to a drawn share of `size`, noise."""
    blurs = torch.stack([kernels.drawn(stage.kernel, random) for _ in range(len(x))])
    y = kernels.filtered(x, blurs) if random.random() < stage.blur else x
    factor = drawn_factor(stage, random)
    height, width = (int(side * factor) for side in size)
    y = resized(y, height, width, drawn_mode(random))
    gray = torch.from_numpy(random.random(len(x)) < stage.gray)
    if random.random() < stage.gaussian:
        y = gaussian_noise(y, _between(stage.sigma, len(x), random), gray, noise)
    else:
        y = poisson_noise(y.clamp(0, 1), _between(stage.poisson, len(x), random), gray, noise)
    return y.clamp(0, 1)


def drawn_factor(stage: StageSettings, random: np.random.Generator) -> float:
    """Draws by how much a stage resizes."""
    share = random.random()
    low, high = stage.factors
    if share < stage.resize[0]:
        return float(random.uniform(1, max(1.0, high)))
    if share < stage.resize[0] + stage.resize[1]:
        return float(random.uniform(min(1.0, low), 1))
    return 1.0


def _between(limits: tuple[float, float], count: int, random: np.random.Generator) -> Tensor:
    return torch.from_numpy(random.uniform(*limits, count)).float()


def _final_kernel(settings: RealEsrganSettings, random: np.random.Generator) -> Tensor:
    sides = settings.second.kernel.sides
    if random.random() >= settings.final_sinc:
        return kernels.pulse(sides[1])
    side = kernels.drawn_side(sides, random)
    cutoff = float(random.uniform(math.pi / 3, math.pi))
    return kernels.padded(kernels.sinc(side, cutoff), sides[1])
