"""The data sets themselves: crops whose draws depend on seed, epoch and item alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vsr.errors import SourceError, UsageError
from vsr.train.data.crops import Window, drawn_window, luma, turned
from vsr.train.data.files import fingerprint
from vsr.train.data.pictures import Pictures, Unit, survey
from vsr.train.data.sample import Sample
from vsr.train.data.settings import DataSettings
from vsr.train.degrade import open_degradation
from vsr.train.degrade._base import Degradation

_TRIES: Final = 8
"""Crops drawn until one has contrast."""


def open_data(settings: DataSettings, scale: int, seed: int) -> "Crops":
    """Opens a data set; everything is read once, and what is unusable left out with a warning.

    Args:
        settings: Where samples come from.
        scale: High-resolution pixels per low-resolution pixel.
        seed: Of all draws.

    Raises:
        UsageError: Settings that cannot be.
        SourceError: A folder cannot be read, nothing is left, or a pair does not fit.
    """
    for name in ("patch", "spare"):
        if getattr(settings, name) % scale:
            msg = (
                f"{name} is {getattr(settings, name)}: a multiple of the scale {scale} is expected"
            )
            raise UsageError(msg)
    if settings.degraded_on == "device":
        settings = before_device(settings)
    highs = survey(settings.folders, settings, settings.patch)
    if settings.lows is None:
        return DegradedCrops(highs, settings, scale, seed)
    lows = survey([settings.lows], settings, settings.patch // scale)
    if settings.unpaired:
        return UnpairedCrops(highs, lows, settings, scale, seed)
    return PairedCrops(highs, lows, settings, scale, seed)


def before_device(settings: DataSettings) -> DataSettings:
    """The settings of what is read when the rest happens on the device: larger, clean crops."""
    return replace(
        settings,
        patch=settings.patch + settings.spare,
        spare=0,
        degradation="none",
        degradation_settings={},
        degraded_on="workers",
    )


class Crops(Dataset[Sample]):
    """What all data sets share: draws that follow from the seed, the epoch and the item alone."""

    def __init__(self, highs: Pictures, settings: DataSettings, scale: int, seed: int) -> None:
        self.settings, self.scale, self.seed = settings, scale, seed
        self._highs = highs
        self._epoch = 0
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        """Items of an epoch."""
        return len(self._highs) * self.settings.crops

    def set_epoch(self, epoch: int) -> None:
        """Tells which epoch the items asked for from now on belong to, from 0 on."""
        self._epoch = epoch

    def fingerprint(self) -> str:
        """sha256 of the names and contents of all files; computed when first asked for."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.settings)
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        """Makes an item of the epoch.

        Raises:
            IndexError: No such item.
            SourceError: A file can no longer be read.
        """
        if not 0 <= index < len(self):
            msg = f"items are numbered from 0 to {len(self) - 1}, got {index}"
            raise IndexError(msg)
        unit = self._highs.units[index // self.settings.crops]
        with torch.no_grad():
            random = np.random.default_rng([self.seed, self._epoch, index])
            return self._finished(self._made(unit, random), random)

    def _made(self, unit: Unit, random: np.random.Generator) -> Sample:
        raise NotImplementedError

    def _finished(self, sample: Sample, random: np.random.Generator) -> Sample:
        """What is the same for all: channels change places, or become one."""
        low, high = sample.low, sample.high
        if self.settings.shuffle and random.random() < self.settings.shuffle:
            order = torch.from_numpy(random.permutation(3))
            low, high = low[order], high[order]
        if self.settings.channels == "luma":
            low, high = luma(low), luma(high)
        return Sample(low=low.contiguous(), high=high.contiguous())

    def _window(self, unit: Unit, margin: int, random: np.random.Generator) -> Window:
        """Draws a crop of high resolution with what lies around it, turned and flipped."""
        settings, picture = self.settings, self._highs.read(unit)
        shorter = min(unit.height, unit.width)
        sizes = [size for size in settings.sizes if int(shorter / size) >= settings.patch] or [1.0]
        for _ in range(_TRIES):
            factor = sizes[int(random.integers(len(sizes)))]
            window = drawn_window(picture, settings.patch, self.scale, margin, factor, random)
            if self._worthwhile(window.out_of(window.picture)):
                break
        return window.turned(*self._drawn_turn(random))

    def _cropped(self, unit: Unit, random: np.random.Generator) -> Tensor:
        window = self._window(unit, 0, random)
        return window.out_of(window.picture)

    def _worthwhile(self, high: Tensor) -> bool:
        least = self.settings.contrast
        return least == 0 or float(luma(high).std()) >= least

    def _drawn_turn(self, random: np.random.Generator) -> tuple[int, bool]:
        """Right angles to turn by, and whether to flip then."""
        if not self.settings.augment:
            return 0, False
        return int(random.integers(4)), bool(random.integers(2))


class DegradedCrops(Crops):
    """The low resolution is made of the high one, or of another's where data are unpaired."""

    def __init__(self, highs: Pictures, settings: DataSettings, scale: int, seed: int) -> None:
        super().__init__(highs, settings, scale, seed)
        self._degradation: Degradation | None = None
        if settings.degradation != "none":
            name, values = settings.degradation, settings.degradation_settings
            self._degradation = open_degradation(name, values, scale)

    def _made(self, unit: Unit, random: np.random.Generator) -> Sample:
        if self._degradation is None:
            high = self._cropped(unit, random)
            return Sample(low=high[:, :0, :0], high=high)
        window = self._window(unit, self._degradation.margin, random)
        high = window.out_of(self._degradation.target(window.picture))
        if self.settings.unpaired:
            other = self._highs.units[int(random.integers(len(self._highs)))]
            window = self._window(other, self._degradation.margin, random)
        low = self._degradation(window.picture, random)
        return Sample(low=window.out_of(low, self.scale), high=high)


class PairedCrops(Crops):
    """The low resolution lies in a folder of its own."""

    def __init__(
        self, highs: Pictures, lows: Pictures, settings: DataSettings, scale: int, seed: int
    ) -> None:
        named = {unit.name: unit for unit in lows.units}
        self._pairs = {unit: partner(unit, named, scale) for unit in highs.units}
        self._lows = lows
        super().__init__(highs, settings, scale, seed)

    def _made(self, unit: Unit, random: np.random.Generator) -> Sample:
        patch, side = self.settings.patch, self.settings.patch // self.scale
        low, high = self._lows.read(self._pairs[unit]), self._highs.read(unit)
        for _ in range(_TRIES):
            top, left = (int(random.integers(n - side + 1)) for n in low.shape[1:])
            y, x = top * self.scale, left * self.scale
            large = high[:, y : y + patch, x : x + patch].float() / 255
            if self._worthwhile(large):
                break
        small = low[:, top : top + side, left : left + side].float() / 255
        turn = self._drawn_turn(random)
        return Sample(low=turned(small, *turn), high=turned(large, *turn))


class UnpairedCrops(Crops):
    """Low and high resolution have nothing to do with each other."""

    def __init__(
        self, highs: Pictures, lows: Pictures, settings: DataSettings, scale: int, seed: int
    ) -> None:
        super().__init__(highs, settings, scale, seed)
        self._lows = lows

    def _made(self, unit: Unit, random: np.random.Generator) -> Sample:
        high = self._cropped(unit, random)
        other = self._lows.units[int(random.integers(len(self._lows)))]
        side = self.settings.patch // self.scale
        window = drawn_window(self._lows.read(other), side, 1, 0, 1.0, random)
        return Sample(low=turned(window.picture, *self._drawn_turn(random)), high=high)


def partner(unit: Unit, named: Mapping[str, Unit], scale: int) -> Unit:
    """The low-resolution picture of a high-resolution one.

    Args:
        unit: Of high resolution.
        named: Those of low resolution by name.
        scale: High-resolution pixels per low-resolution pixel.

    Raises:
        SourceError: There is none, or one of another size.
    """
    stem, mark, number = unit.name.partition("#")
    for name in (unit.name, f"{stem}x{scale}{mark}{number}"):
        if name in named:
            low = named[name]
            break
    else:
        msg = f"{unit.path} has no counterpart of that name in the folder of low resolution"
        raise SourceError(msg)
    if (low.height, low.width) != (unit.height // scale, unit.width // scale):
        sizes = f"{low.width}x{low.height} for {unit.width}x{unit.height}"
        msg = f"{low.path} is {sizes}: {unit.width // scale}x{unit.height // scale} is expected"
        raise SourceError(msg)
    return low
