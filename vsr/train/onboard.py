"""Degradation of batches on the device, between the workers and the step.

Workers then only decode and cut; blurs, resizes, noise and JPEG of a batch are a few large
operations on the GPU. See `vsr.train.degrade.batch` for the queue that mixes what shares a batch.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vsr.train.data import DataSettings
from vsr.train.degrade import settings_of
from vsr.train.degrade.batch import RealEsrganBatch
from vsr.train.degrade.realesrgan import RealEsrganSettings
from vsr.train.strict import structure
from vsr.train.tasks._base import Batch


class Onboard:
    """Makes the low resolution of a batch where it is computed.

    Args:
        settings: Of the degradation.
        scale: High-resolution pixels per low-resolution pixel.
        patch: Side of the high-resolution pictures that come out; those that go in are as large or
            larger.
    """

    def __init__(self, settings: RealEsrganSettings, scale: int, patch: int) -> None:
        self._queue = RealEsrganBatch(settings, scale, patch)
        self._plain = RealEsrganBatch(replace(settings, pool=0), scale, patch)

    def __call__(self, batch: Batch, random: np.random.Generator) -> Batch:
        """Degrades clean pictures, and exchanges them for such as wait in the queue.

        Args:
            batch: Of which `high` (N, C, H, W) counts; `low` is empty.
            random: Where all draws come from.
        """
        return Batch(*self._queue(batch.high, random))

    def shown(self, batch: Batch, random: np.random.Generator) -> Batch:
        """Degrades clean pictures that the queue does not get to see."""
        return Batch(*self._plain(batch.high, random))

    def state_dict(self) -> dict[str, Tensor]:
        """The queue."""
        return self._queue.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Takes up the queue."""
        self._queue.load_state_dict(dict(state), device)


def open_onboard(table: Mapping[str, Any], scale: int) -> Onboard | None:
    """The degradation of a recipe's data on the device; None where workers degrade.

    Args:
        table: Its `[data]`, with a stage's changes.
        scale: High-resolution pixels per low-resolution pixel.

    Raises:
        UsageError: A key that is unknown, or a value that cannot be.
    """
    if table.get("degraded_on") != "device":
        return None
    data = structure(DataSettings, table, "data")
    settings = settings_of(data.degradation, data.degradation_settings)
    return Onboard(cast("RealEsrganSettings", settings), scale, data.patch)
