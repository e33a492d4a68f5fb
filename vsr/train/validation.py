"""Measures a network now and then on pictures that it does not learn from, and finds the best one.

PSNR and SSIM are those of papers: on BT.601 luma of 8-bit results, as many border pixels left out
as the scale is. What low resolution is made by draws alike every time, so that figures compare.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr import metrics
from vsr.errors import UsageError
from vsr.train.data import DataSettings
from vsr.train.data.crops import luma
from vsr.train.data.dataset import partner
from vsr.train.data.pictures import Pictures, Unit, survey
from vsr.train.degrade import open_degradation
from vsr.train.measures import fidelity
from vsr.train.settings import ValidationSettings
from vsr.train.strict import structure
from vsr.train.tasks._base import Batch

_WINDOW: Final = 11
"""Of SSIM; smaller pictures have none."""
_STUDIO: Final = 219 / 255
_LESS_IS_BETTER: Final = frozenset({"features"})

type Samples = Callable[[Batch], Sequence[Tensor]]
"""From a batch to columns, of which the last one is the target, the one before it the output."""


class Validation:
    """The pictures of a stage's validation; they are kept in memory when first measured.

    Args:
        settings: Of the recipe.
        table: The stage's `[data]`, for degradation and channels.
        scale: High-resolution pixels per low-resolution pixel.
        multiple: What sides of the low resolution are multiples of.
        seed: Of the degradation's draws.
        studio: Whether a network on luma works in studio range, as papers measure it.

    Raises:
        UsageError: An unknown degradation, or settings of it that cannot be.
        SourceError: Pictures that are missing, cannot be read, or do not fit.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        table: Mapping[str, Any],
        scale: int,
        multiple: int,
        seed: int,
        *,
        studio: bool = False,
    ) -> None:
        self.settings, self.scale, self.seed = settings, scale, seed
        self._step, self._studio = scale * multiple, studio
        data = structure(DataSettings, table, "data")
        self._luma = data.channels == "luma"
        smallest = -(-max(self._step, _WINDOW + 2 * scale) // self._step) * self._step
        reading = DataSettings(folders=settings.folders, video_frames=data.video_frames)
        self._highs = survey(settings.folders, reading, smallest)
        self._highs.only(self._highs.units[: settings.most])
        self._lows: Pictures | None = None
        if settings.lows is not None:
            self._lows = survey([settings.lows], reading, 1)
            named = {unit.name: unit for unit in self._lows.units}
            self._pairs = {unit: partner(unit, named, scale) for unit in self._highs.units}
        else:
            own = settings.degradation is None
            name = data.degradation if settings.degradation is None else settings.degradation
            given = data.degradation_settings if own else settings.degradation_settings
            if name == "none" or (own and data.lows is not None):
                msg = (
                    "validation has neither lows nor degradation: give one, for the data have none"
                )
                raise UsageError(msg)
            self._degradation = open_degradation(name, given, scale)
        self._batches: list[Batch] = []

    def __len__(self) -> int:
        return len(self._highs)

    def measure(
        self, samples: Samples, device: torch.device, *, damage: bool = False
    ) -> dict[str, float]:
        """Measures a network on every picture.

        Args:
            samples: Runs it; see `vsr.train.tasks`.
            device: Where.
            damage: Whether it makes damage of the clean picture.

        Returns:
            Means by name, each beginning with `valid_`; `…_before` are of the network's input, for
            a restoring one enlarged by bicubic interpolation.
        """
        self._batches = self._batches or self._made()
        rows = [self._row(samples(_on(batch, device)), damage=damage) for batch in self._batches]
        return {f"valid_{name}": float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def better(self, found: Mapping[str, float], best: float | None) -> float | None:
        """What decides, if it is better than the best so far; otherwise None."""
        name = self.settings.best
        value = found[f"valid_{name}"]
        sign = -1 if name in _LESS_IS_BETTER else 1
        return value if best is None or sign * value > sign * best else None

    def _row(self, columns: Sequence[Tensor], *, damage: bool) -> dict[str, float]:
        found = fidelity(columns, damage=damage)
        *given, target = (_codes(column, studio=self._studio) for column in columns)
        for end, picture in zip(("", "_before"), reversed(given), strict=False):
            found[f"psnr{end}"] = metrics.psnr(picture, target, self.scale)
            found[f"ssim{end}"] = metrics.ssim(picture, target, self.scale)
        return {name: min(value, 100.0) for name, value in found.items()}

    @torch.no_grad()
    def _made(self) -> list[Batch]:
        return [self._pair(number, unit) for number, unit in enumerate(self._highs.units)]

    def _pair(self, number: int, unit: Unit) -> Batch:
        picture = self._highs.read(unit)
        sides = [min(side, self.settings.side or side) for side in picture.shape[1:]]
        rows, columns = (side // self._step * self._step for side in sides)
        places = zip(picture.shape[1:], (rows, columns), strict=True)
        top, left = ((whole - side) // 2 // self.scale * self.scale for whole, side in places)
        high = picture[:, top : top + rows, left : left + columns].float() / 255
        if self._lows is None:
            random = np.random.default_rng([self.seed, number])
            low, high = self._degradation(high, random), self._degradation.target(high)
        else:
            small = self._lows.read(self._pairs[unit])
            top, left, rows, columns = (n // self.scale for n in (top, left, rows, columns))
            low = small[:, top : top + rows, left : left + columns].float() / 255
        if self._luma:
            low, high = luma(low), luma(high)
        return Batch(low[None], high[None])


def _on(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.low.to(device), batch.high.to(device))


def _codes(column: Tensor, *, studio: bool) -> NDArray[np.float64]:
    """The luma of an 8-bit picture, (H, W), in studio range, 16 to 235."""
    values = (column[0].cpu().float() * 255).round().clamp(0, 255).permute(1, 2, 0).numpy()
    picture = values.astype(np.float64)
    if picture.shape[2] == 3:
        return metrics.luma(picture)
    return picture[..., 0] if studio else 16 + picture[..., 0] * _STUDIO
