"""From a network and two pictures to what maps frames to frames, in the fastest way known here."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from vsr.engine.color import Picture
from vsr.engine.devices import devices, kind_of, most_workers, resolve_devices
from vsr.engine.engines.probe import comparable_engines
from vsr.engine.engines.registry import ENGINES, engine_precision, resolve_engine
from vsr.engine.engines.triton import suits
from vsr.engine.faces import finish_for
from vsr.engine.fleet import Fleet
from vsr.engine.kernels.remembered import searching
from vsr.engine.loading import Model, StudioLuma, factory, settings_for
from vsr.engine.memory import activation_bytes, bounded
from vsr.engine.stream import Factory, FrameUpscaler, Settings
from vsr.engine.tiled import FixedBatch
from vsr.engine.tuning import Choice, Trial, Tune, key_for, remember, remembered, try_all
from vsr.errors import UsageError

_log = logging.getLogger(__name__)

_QUICK, _FULL = 1.0, 15.0
"""Seconds for the trials of all choices together."""
_LARGE = 3_000_000
"""Parameters."""
_PAYS = 250
"""Frames from which on a quick trial pays."""
_BATCHES = (1, 2, 4, 8, 16)
_PER_LAYER = 8.0
"""Seconds of a full trial for the blocks of each different convolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a job is to run; None and `auto` leave it to what is fastest.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`; several share the frames, as `cuda:0,cuda:1,cpu`.
        engine: `auto`, or a name of `vsr.engine.engines`.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`.
        tile: Side of a tile in input pixels, 0 for the whole picture.
        tile_pad: Overlap of tiles instead of the receptive field.
        batch: Frames computed together.
        workers: Batches that the CPU computes side by side.
        tta: Whether to average over the eight symmetries.
        frames: How many come, None if unknown. With more than one, the cores are given to several
            at a time.
        max_memory: Bytes that the job may take, see `Settings`.
        tune: `auto` takes what was found before, and tries engines where there are several and the
            film is long enough to pay for it; `full` tries everything again; `off` does neither.
        ways: Wishes that go before these for devices of one kind, from `FrameUpscaler.way`.
    """

    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    tile_pad: int | None = None
    batch: int | None = None
    workers: int | None = None
    tta: bool = False
    frames: int | None = 1
    max_memory: int | None = None
    tune: Tune = "off"
    ways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def frame_upscaler(
    model: Model,
    source: Picture,
    target: Picture,
    wishes: Wishes = Wishes(),
    *,
    rotation: int = 0,
) -> FrameUpscaler:
    """Composes model, engine, tiles and colour into a map from frames to frames.

    Args:
        model: What runs.
        source: What comes in.
        target: What shall come out.
        wishes: How it shall run.
        rotation: Degrees anticlockwise by which a player turns both; faces are found upright.

    Raises:
        UsageError: A tile, engine or precision that the network cannot use.
        DeviceError: A device or engine that is not there, or lacks the precision.
    """
    chosen = resolve_devices(wishes.device)
    upscaler = (
        _member(model, source, target, wishes, chosen[0])
        if len(chosen) == 1
        else (_fleet(model, source, target, wishes, chosen))
    )
    finish = finish_for(model.faces, upscaler.device, source, target, rotation)
    if finish is not None:
        upscaler.finish, upscaler.restart = finish, finish.restart
    return upscaler


def tune(model: Model, source: Picture, target: Picture, wishes: Wishes) -> list[Trial]:
    """Tries every way to run a job and remembers the fastest.

    Returns:
        What was tried, the fastest first.

    Raises:
        UsageError: See `frame_upscaler`.
        DeviceError: See `frame_upscaler`.
    """
    chosen = dict.fromkeys(resolve_devices(wishes.device))
    if len(chosen) > 1:
        msg = f"ways are tried on one device at a time, got {wishes.device!r}: name one"
        raise UsageError(msg)
    return _Job(model, source, target, wishes, next(iter(chosen))).tried(_FULL)


def _member(
    model: Model, source: Picture, target: Picture, wishes: Wishes, device: torch.device
) -> FrameUpscaler:
    wishes = replace(wishes, **wishes.ways.get(kind_of(device), {}), ways={})
    job = _Job(model, source, target, wishes, device)
    return job.made(job.choice())


def _fleet(
    model: Model,
    source: Picture,
    target: Picture,
    wishes: Wishes,
    chosen: tuple[torch.device, ...],
) -> Fleet:
    """One upscaler for each device; those of a kind compute in one way, so that bytes are equal."""
    kinds: dict[str, list[torch.device]] = {}
    for device in chosen:
        kinds.setdefault(kind_of(device), []).append(device)
    if len(kinds) > 1:
        _log.warning(
            "%s differ in the last bits: the bytes depend on which of them computed what",
            " and ".join(kinds),
        )
    found: dict[torch.device, list[FrameUpscaler]] = {}
    for kind, alike in kinds.items():
        own = replace(wishes, **wishes.ways.get(kind, {}), ways={})
        for device, made in zip(alike, _of_a_kind(model, source, target, own, alike), strict=True):
            found.setdefault(device, []).append(made)
    return Fleet([found[device].pop(0) for device in chosen], source, target)


def _of_a_kind(
    model: Model, source: Picture, target: Picture, wishes: Wishes, alike: list[torch.device]
) -> list[FrameUpscaler]:
    """Upscalers of equal settings: what fits all of them; processors share cores and memory."""
    sharing = len(alike) if alike[0].type == "cpu" else 1
    if wishes.max_memory is not None:
        wishes = replace(wishes, max_memory=wishes.max_memory // sharing)
    jobs = [_Job(model, source, target, wishes, device) for device in alike]
    least = min(jobs, key=lambda job: job.room)
    choice = least.choice()
    choice = replace(choice, workers=max(1, choice.workers // sharing))
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // sharing))  # engines may take their number as they open
    try:
        return [job.made(choice, least.tile) for job in jobs]
    finally:
        torch.set_num_threads(cores)


class _Job:
    """One composition: its own way by default, and the others that may be faster."""

    def __init__(
        self,
        model: Model,
        source: Picture,
        target: Picture,
        wishes: Wishes,
        device: torch.device,
    ) -> None:
        self._model, self._source, self._target = model, source, target
        self._wishes = replace(wishes, device=str(device))
        self._device = device
        self._engine = resolve_engine(wishes.engine, wishes.precision)
        precision = wishes.precision
        if model.learned:
            precision = engine_precision(self._engine, precision, self._device, model.spec)
        settings = settings_for(
            model,
            self._device,
            (source.width, source.height),
            precision=precision,
            tile=wishes.tile,
            batch=wishes.batch,
            stream=wishes.frames != 1,
        )
        self._settings = self._bounded(replace(settings, max_memory=wishes.max_memory))
        own_kernels = suits(model.module, model.spec, self._device)
        if wishes.engine == "auto" and settings.precision == "fp16" and own_kernels:
            self._engine = "triton"  # compares itself with PyTorch, and falls back

    def _bounded(self, settings: Settings) -> Settings:
        """Settings within the memory that the job may take."""
        model, size = self._model, (self._source.width, self._source.height)
        if settings.max_memory is None or model.module is None:
            return bounded(settings, model.spec, size)
        return bounded(
            settings,
            model.spec,
            size,
            per_pixel=activation_bytes(model.module, model.spec, settings.precision),
            weights=4 * sum(p.numel() for p in model.module.parameters()),
        )

    @property
    def tile(self) -> int:
        """Side of a tile, 0 for the whole picture."""
        return self._settings.tile

    @property
    def room(self) -> tuple[float, int]:
        """What fits on the device, in an order: its tile, then the frames at a time."""
        return self._settings.tile or float("inf"), self._settings.batch * self._settings.workers

    @property
    def _own(self) -> Choice:
        settings = self._settings
        return Choice(
            engine=self._engine,
            precision=settings.precision,
            batch=settings.batch,
            workers=self._wishes.workers or settings.workers,
        )

    def made(self, choice: Choice, tile: int | None = None) -> FrameUpscaler:
        """Puts the network on the device, with its own tile or another."""
        model, wishes = self._model, self._wishes
        make = factory(
            model, self._device, tile_pad=wishes.tile_pad, tta=wishes.tta, engine=choice.engine
        )
        if model.spec.luma == "studio":
            make = _in_studio_range(make)
        if model.learned and ENGINES[choice.engine.partition(":")[0]].static:
            make = _in_one_batch(make)
        settings = replace(
            self._settings,
            precision=choice.precision,
            batch=choice.batch,
            workers=choice.workers,
            tile=self._settings.tile if tile is None else tile,
        )
        made = FrameUpscaler(make, self._device, self._source, self._target, settings, model.kernel)
        made.engine = choice.engine
        return made

    def choice(self) -> Choice:
        """What to run: as remembered, as found by a quick trial, or its own."""
        wishes = self._wishes
        if wishes.tune == "off" or not self._model.learned or wishes.frames == 1:
            return self._own
        if wishes.tune == "full":
            return self.tried(_FULL)[0].choice
        known = remembered(self._key())
        if known is not None:
            return known
        pays = wishes.frames is not None and wishes.frames >= _PAYS
        if pays and self._device.type == "cpu" and self._other_engines:
            return self.tried(_QUICK)[0].choice
        return self._own

    def tried(self, budget: float) -> list[Trial]:
        """Tries all choices, its own first, and remembers the fastest."""
        with searching(_PER_LAYER if budget == _FULL else 0.0):
            trials = try_all(self._choices(), self.made, self._source, budget)
        if not trials:
            self.made(self._own)  # says why not even that works
            return [Trial(self._own, 0.0)]
        remember(self._key(), trials[0].choice)
        return trials

    def _choices(self) -> list[Choice]:
        own = self._own
        found = dict.fromkeys([own])
        for engine in (own.engine, *self._other_engines):
            for workers, batch in self._shapes():
                found[replace(own, engine=engine, workers=workers, batch=batch)] = None
        return [choice for choice in found if self._fits(choice)]

    def _fits(self, choice: Choice) -> bool:
        """Whether a choice keeps within the memory that the job may take."""
        settings = replace(self._settings, batch=choice.batch, workers=choice.workers)
        return self._bounded(settings) == settings

    def _shapes(self) -> list[tuple[int, int]]:
        """Workers and batches that may be faster than the default ones."""
        own, device = self._own, self._device
        if device.type == "cpu":
            most = min(most_workers(device), own.workers)
            return [(count, own.batch) for count in sorted({1, most})]
        if self._wishes.batch is not None:
            return [(1, own.batch)]
        return [(1, batch) for batch in _BATCHES if batch <= 2 * own.batch]

    @cached_property
    def _other_engines(self) -> list[str]:
        """Those that give as good a result, if the choice is left to us."""
        module, spec = self._model.module, self._model.spec
        if self._wishes.engine != "auto" or module is None or self._own.precision == "int8":
            return []
        large = sum(p.numel() for p in module.parameters()) > _LARGE
        if large and self._wishes.tune != "full":  # opening one takes longer than it may gain
            return []
        found = comparable_engines(module, spec, self._device, self._own.precision)
        others = [*found, "compile"] if self._wishes.tune == "full" else list(found)
        return [name for name in others if name != self._engine]

    def _key(self) -> str:
        model, source, wishes = self._model, self._source, self._wishes
        facts = {fact.name: fact.description for fact in devices()}
        return key_for(
            device=facts.get(str(self._device), str(self._device)),
            threads=torch.get_num_threads(),
            model=model.name,
            spec=model.spec,
            parameters=sum(p.numel() for p in model.module.parameters()) if model.module else 0,
            passes=model.passes,
            size=(source.width, source.height, self._target.width, self._target.height),
            format=source.format,
            wishes=replace(wishes, tune="auto", frames=None),
        )


def _in_studio_range(make: Factory) -> Factory:
    def wrapped(settings: Settings) -> StudioLuma:
        return StudioLuma(make(settings))

    return wrapped


def _in_one_batch(make: Factory) -> Factory:
    def wrapped(settings: Settings) -> FixedBatch:
        return FixedBatch(make(settings), settings.batch)

    return wrapped
