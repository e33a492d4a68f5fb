"""Real-ESRGAN's degradation on the device, a batch at a time, mixed by a queue.

All pictures of a batch share sizes and kinds of noise. So that a network does not see such batches,
pictures wait in a pool, and a batch leaves it drawn from all that came lately (section 4.1 of
the paper: 180 of them).
"""

import numpy as np
import torch
from torch import Tensor

from vsr.errors import UsageError
from vsr.train.degrade.realesrgan import RealEsrganSettings, degraded
from vsr.train.degrade.sharpen import sharpened


class RealEsrganBatch:
    """Degrades batches on their device.

    Args:
        settings: What is drawn from, and how many pictures wait.
        scale: Clean pixels per degraded pixel along each axis.
        crop: Side of what leaves, in clean pixels, a multiple of the scale; None keeps the size.
            A crop within the clean picture has no borders in its low-resolution one.
    """

    def __init__(self, settings: RealEsrganSettings, scale: int, crop: int | None = None) -> None:
        if crop is not None and (crop < scale or crop % scale):
            msg = f"the crop is {crop} pixels; a multiple of the scale {scale} was expected"
            raise UsageError(msg)
        self.settings, self.scale, self.crop = settings, scale, crop
        self._lows: Tensor | None = None
        self._highs: Tensor | None = None

    @torch.no_grad()
    def __call__(self, clean: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Degrades a batch, and exchanges it for another from the pool once that is full.

        Args:
            clean: (N, 3, s·h, s·w) in [0, 1] on any device.
            random: Where all draws come from.

        Returns:
            `(low, high)`: (N, 3, h, w) and (N, 3, s·h, s·w) in [0, 1], of the crop's size if there
            is one.
        """
        high = sharpened(clean) if self.settings.sharpen else clean
        low = degraded(high, self.settings, self.scale, random)
        if self.crop is not None:
            low, high = self._cropped(low, high, self.crop, random)
        return self._exchanged(low, high, random)

    def state_dict(self) -> dict[str, Tensor]:
        """The pictures that wait, for a checkpoint; empty when there are none."""
        if self._lows is None or self._highs is None:
            return {}
        return {"lows": self._lows.cpu(), "highs": self._highs.cpu()}

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Takes the waiting pictures back, so that a resumed run gives the same batches."""
        self._lows = state["lows"].to(device) if state else None
        self._highs = state["highs"].to(device) if state else None

    def _cropped(
        self, low: Tensor, high: Tensor, crop: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        side = crop // self.scale
        if min(low.shape[-2:]) < side:
            msg = f"crops of {crop} pixels do not fit into pictures of {tuple(high.shape[-2:])}"
            raise UsageError(msg)
        top, left = (int(random.integers(extent - side + 1)) for extent in low.shape[-2:])
        low = low[..., top : top + side, left : left + side]
        top, left = top * self.scale, left * self.scale
        return low, high[..., top : top + crop, left : left + crop]

    def _exchanged(
        self, low: Tensor, high: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        count, size = len(low), self.settings.pool
        if size < count:
            return low, high
        lows = low if self._lows is None else torch.cat([self._lows, low])
        highs = high if self._highs is None else torch.cat([self._highs, high])
        if len(lows) <= size:
            self._lows, self._highs = lows, highs
            return low, high
        order = torch.from_numpy(random.permutation(len(lows))).to(low.device)
        leaving, staying = order[:count], order[count:]
        self._lows, self._highs = lows[staying], highs[staying]
        return lows[leaving], highs[leaving]
