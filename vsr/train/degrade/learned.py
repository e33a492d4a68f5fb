"""A generator network that has learned to degrade, from pairs, from unpaired pictures, or noise.

Implicit degradation models: pix2pix (Isola, Zhu, Zhou, Efros 2017, arXiv:1611.07004) translates
clean pictures into damaged ones that it saw in pairs, CycleGAN (Zhu, Park, Isola, Efros 2017,
arXiv:1703.10593) without pairs, and noise models add what a generator makes of chance, told how
strong the compression is. `vsr train` makes such networks; see `vsr.train.translators`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vsr.errors import UsageError
from vsr.train.degrade._base import check_range, check_share
from vsr.train.degrade.resizes import matlab_reduced, rounded
from vsr.train.translators.translator import Translator, load_translator


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedSettings:
    """Which network, and how strong.

    Attributes:
        checkpoint: File of a translator or noise model.
        level: Range that the strength of the compression is drawn from, 0 to 1, for noise models.
        share: Probability that a picture goes through the network at all; the others are only
            reduced.

    Raises:
        UsageError: A range or probability that cannot be.
    """

    checkpoint: Path
    level: tuple[float, float] = (0.0, 1.0)
    share: float = 1.0

    def __post_init__(self) -> None:
        check_range("level", self.level, 0, 1)
        check_share("share", self.share)


class Learned:
    """Reduces a picture as MATLAB does, and lets a network damage what is left.

    Raises:
        CheckpointError: The file is missing, or is of something else.
    """

    def __init__(self, settings: LearnedSettings, scale: int) -> None:
        self.settings, self.scale = settings, scale
        self.margin = 8
        self._translator: Translator = load_translator(settings.checkpoint)
        channels = int(self._translator.config.channels)
        if channels != 3:
            name = settings.checkpoint.name
            msg = f"{name} makes pictures of {channels} channels; one for 3 is expected"
            raise UsageError(msg)

    def __call__(self, clean: Tensor, random: np.random.Generator) -> Tensor:
        """Degrades (3, s·h, s·w) in [0, 1] to (3, h, w), multiples of 1/255."""
        low = matlab_reduced(clean, self.scale)
        level, seed = float(random.uniform(*self.settings.level)), int(random.integers(1 << 62))
        if random.random() >= self.settings.share:
            return low
        with torch.random.fork_rng(devices=()):  # networks draw chance from the default generator
            torch.manual_seed(seed)
            made = self._translator(low[None], level)[0]
        return rounded(made.clone())

    def target(self, clean: Tensor) -> Tensor:
        """The clean picture."""
        return clean
