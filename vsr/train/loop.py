"""A training run from its recipe to its checkpoints.

What it leaves in its folder:

    STAGE.safetensors     the network of each stage, replaced as it goes on
    STAGE-best.safetensors     the one that did best on the pictures of `[validation]`
    interpolated.safetensors   the mixture of the first and last one, where the recipe wants it
    state.pt              from which the run goes on when it is started again
    log.jsonl             losses, rates, norms; PSNR and more of the samples and in validation
    samples/STAGE-STEP.png
"""

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vsr.checkpoints import blend, read_checkpoint
from vsr.errors import CancelledError, SinkError, UsageError
from vsr.train import feed, networks, records, state
from vsr.train.criteria import check_criteria
from vsr.train.measures import fidelity
from vsr.train.onboard import open_onboard
from vsr.train.peers import Peers
from vsr.train.recipe import Recipe
from vsr.train.stages import StageRun, seed_drawing
from vsr.train.tasks._base import Batch
from vsr.train.tasks.making import make_task
from vsr.train.validation import Validation

_HARMLESS = frozenset(
    {"workers", "log_every", "sample_every", "save_every", "samples", "tensorboard", "most_skipped"}
)
"""Keys of a recipe that may differ when a run goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """How far a run is.

    Attributes:
        stage: Name of the stage.
        number: Of the stage, from 0.
        stages: How many there are.
        step: Steps done in it.
        steps: Of it.
        per_second: Steps per second since the run was started.
        facts: The last line of the log.
        skipped: Updates that were left out in this stage.
    """

    stage: str
    number: int
    stages: int
    step: int
    steps: int
    per_second: float
    facts: Mapping[str, float] = field(default_factory=dict)
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run made.

    Attributes:
        checkpoint: The network to use.
        steps: Done by this process.
        seconds: Taken by it.
        skipped: Updates that were left out in the last stage.
        best: The network of the last stage that did best in validation; None without validation.
    """

    checkpoint: Path
    steps: int
    seconds: float
    skipped: int
    best: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """A recipe and where its run lies.

    Attributes:
        recipe: What to do.
        table: What it was read from, for the checkpoints' headers and to know it again.
        folder: Of the run; made if need be.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        restart: Whether an older run in the folder is begun anew instead of gone on with.
    """

    recipe: Recipe
    table: Mapping[str, Any]
    folder: Path
    device: str = "auto"
    restart: bool = False


type Report = Callable[[TrainProgress], None]


def train(
    job: TrainJob,
    report: Report = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Trains, or goes on with a run that was stopped or killed.

    Args:
        job: What to do.
        report: Told after every step.
        stopping: Asked after every step; if so, the state is written and the run ends.

    Raises:
        UsageError: The recipe does not fit its network, data or the run in the folder.
        SourceError: Data that cannot be read.
        SinkError: The folder cannot be written to; the older state stays.
        ModelError: Weights to begin with, or of a loss, that cannot be used.
        DeviceError: The device is missing, or gradients stayed non-finite.
        CancelledError: `stopping` said so.
    """
    peers = Peers(job.device)
    try:
        return _Run(job, peers, report, stopping).run()
    finally:
        peers.close()


class _Run:
    def __init__(
        self, job: TrainJob, peers: Peers, report: Report, stopping: Callable[[], bool]
    ) -> None:
        self.job, self.recipe, self.peers = job, job.recipe, peers
        self.report, self.stopping = report, stopping
        self.plan = networks.plan(job.recipe)
        self.tables = [{**job.recipe.data, **stage.data} for stage in job.recipe.stages]
        scale, seed = job.recipe.scale, job.recipe.seed
        self.sets = _for_each(self.tables, lambda table: feed.open_dataset(table, scale, seed))
        for stage in job.recipe.stages:
            check_criteria(stage)
        self.onboard = [open_onboard(table, scale) for table in self.tables]
        self.validations = self._validations()
        self.kept = self._kept()
        self.began, self.stepping, self.taken = time.monotonic(), 0.0, 0
        self.facts: dict[str, float] = {}
        self.best: float | None = None

    def _validations(self) -> list[Validation | None]:
        """The pictures to validate every stage on, where this process does it."""
        settings = self.recipe.validation
        if settings is None or not self.peers.first:
            return [None for _ in self.tables]
        multiple, spec = networks.multiple_of(self.plan), self.plan.spec
        scale, seed = self.recipe.scale, self.recipe.seed
        studio = spec is not None and spec.luma == "studio"
        make = partial(Validation, settings, scale=scale, multiple=multiple, seed=seed)
        return _for_each(self.tables, partial(make, studio=studio))

    def _kept(self) -> dict[str, Any] | None:
        """The state of an older run in the folder, if it is of this recipe."""
        try:
            self.job.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"the folder {self.job.folder} cannot be made: {error.strerror or error}"
            raise SinkError(msg) from error
        if self.job.restart:
            return None
        kept = state.read_state(self.job.folder)
        if kept is not None:
            changed = difference(json.loads(kept["recipe"]), self.job.table)
            if changed:
                msg = (
                    f"{self.job.folder} holds a run of another recipe ({changed} differs): give "
                    "another folder, or pass --restart"
                )
                raise UsageError(msg)
        return kept

    def run(self) -> TrainResult:
        kept = self.kept
        first = kept["stage"] if kept else 0
        until = (first, kept["step"]) if kept else (-1, 0)
        self.log = None
        if self.peers.first:
            self.log = records.Log(self.job.folder, until, tensorboard=self.recipe.tensorboard)
        try:
            network = self._network(first)
            for number in range(first, len(self.recipe.stages)):
                if number > first and self.recipe.stages[number].begin == "anew":
                    network = self._network(number)
                stage = self._stage(number, network, kept if number == first else None)
                network = self._trained(stage)
        finally:
            if self.log is not None:
                self.log.close()
        seconds = time.monotonic() - self.began
        return TrainResult(
            checkpoint=self._last(),
            steps=self.taken,
            seconds=seconds,
            skipped=stage.skipped,
            best=self._best(stage) if self.recipe.validation is not None else None,
        )

    def _network(self, number: int) -> nn.Module:
        seed_drawing(self.recipe, number)
        network = self.plan.build().to(self.peers.device)
        return network.to(memory_format=torch.channels_last)

    def _stage(self, number: int, network: nn.Module, kept: dict[str, Any] | None) -> StageRun:
        seed_drawing(self.recipe, number)
        task = make_task(self.recipe.stages[number], self.plan, network)
        stage = StageRun(self.recipe, number, task, self.peers, self.onboard[number])
        self.best = None
        if kept is not None:
            stage.load_state_dict(kept)
            self.best = kept["best"]
        return stage

    def _trained(self, stage: StageRun) -> nn.Module:
        """Takes the steps of a stage that are left; its product, to go on with."""
        recipe, settings = self.recipe, stage.stage
        if not stage.done:
            shown = self._shown(stage)
            if stage.step == 0:
                self._look(stage, shown)
            for batch in self._batches(stage):
                self.stepping = self.stepping or time.monotonic()
                stage.advance(batch)
                self.taken += 1
                if stage.step % recipe.log_every == 0 or stage.done:
                    self._write_line(stage)
                self._look(stage, shown)
                if stage.step % recipe.save_every == 0 or stage.done:
                    self._save(stage)
                self._tell(stage)
                if stage.done:
                    break
                if self.peers.any(self.stopping()):
                    self._save(stage)
                    msg = (
                        f"stopped at step {stage.step} of {settings.name}; the same command goes on"
                    )
                    raise CancelledError(msg)
        network = copy.deepcopy(stage.average.module)
        return network.requires_grad_(requires_grad=True)

    def _shown(self, stage: StageRun) -> Batch:
        """The same few samples every time."""
        shown = feed.first_samples(self.sets[stage.number], self.recipe.samples, self.peers.device)
        if stage.onboard is None:
            return shown
        return stage.onboard.shown(shown, np.random.default_rng(self.recipe.seed))

    def _look(self, stage: StageRun, shown: Batch) -> None:
        """Writes samples and validates, where it is time."""
        every, settings = self.recipe.sample_every, self.recipe.validation
        if every and (stage.step % every == 0 or stage.done):
            self._write_samples(stage, shown)
        if settings is not None and (stage.step % settings.every == 0 or stage.done):
            self._validate(stage)

    def _batches(self, stage: StageRun) -> Iterator[Batch]:
        return feed.feed(
            self.sets[stage.number],
            stage.stage.batch,
            self.recipe.seed + stage.number,
            stage.step,
            self.peers,
            self.recipe.workers,
        )

    def _per_second(self) -> float:
        return self.taken / max(1e-9, time.monotonic() - self.stepping)

    def _write_line(self, stage: StageRun) -> None:
        self.facts = {**stage.means(), **stage.rates(), "per_second": self._per_second()}
        if self.log is not None:
            facts = {"name": stage.stage.name, **self.facts, "skipped": stage.skipped}
            self.log.write(stage.number, stage.step, facts)

    def _write_samples(self, stage: StageRun, shown: Batch) -> None:
        if self.log is None:
            return
        columns = stage.samples(shown)
        if not self.tables[stage.number].get("unpaired"):  # columns of two pictures do not compare
            found = fidelity(columns, damage=self._damages)
            self.facts |= found
            self.log.write(stage.number, stage.step, {"name": stage.stage.name, **found})
        name = f"{stage.stage.name}-{stage.step:07}.png"
        records.write_samples(self.job.folder / "samples" / name, columns)

    def _validate(self, stage: StageRun) -> None:
        """Measures the average of the weights, and keeps it if it is the best so far."""
        validation = self.validations[stage.number]
        if self.log is None or validation is None:
            return
        found = validation.measure(stage.samples, self.peers.device, damage=self._damages)
        self.facts |= found
        self.log.write(stage.number, stage.step, {"name": stage.stage.name, **found})
        value = validation.better(found, self.best)
        if value is not None:
            self.best = value
            facts = self._header(stage) | {name: f"{value:.6g}" for name, value in found.items()}
            networks.save(self._best(stage), stage.product(), self.plan, facts)

    @property
    def _damages(self) -> bool:
        """Whether samples show what clean pictures become, and what they should have become."""
        return self.plan.spec is None

    def _best(self, stage: StageRun) -> Path:
        return self.job.folder / f"{stage.stage.name}-best.safetensors"

    def _header(self, stage: StageRun) -> dict[str, str]:
        facts = networks.header(self.recipe, self.job.table, self.sets[-1].fingerprint())
        return facts | {"stage": stage.stage.name, "step": str(stage.step)}

    def _save(self, stage: StageRun) -> None:
        """Writes the checkpoint, then the state: what is killed between them loses nothing."""
        whole = stage.state_dict()
        if whole is not None:
            facts = self._header(stage)
            path = self.job.folder / f"{stage.stage.name}.safetensors"
            networks.save(path, stage.product(), self.plan, facts)
            if stage.done and stage.number == len(self.recipe.stages) - 1:
                self._interpolate(facts)
            state.write_state(
                self.job.folder,
                {
                    **whole,
                    "best": self.best,
                    "recipe": json.dumps(self.job.table, default=str),
                },
            )
        self.peers.wait()

    def _interpolate(self, facts: dict[str, str]) -> None:
        share = self.recipe.interpolate
        if share is None:
            return
        ends = self.recipe.stages[0].name, self.recipe.stages[-1].name
        states = [read_checkpoint(self.job.folder / f"{name}.safetensors").state for name in ends]
        mixed = blend(states[0], states[1], share)
        networks.save(self._last(), mixed, self.plan, {**facts, "interpolated": str(share)})

    def _last(self) -> Path:
        mixed = self.recipe.interpolate is not None
        name = "interpolated" if mixed else self.recipe.stages[-1].name
        return self.job.folder / f"{name}.safetensors"

    def _tell(self, stage: StageRun) -> None:
        if self.peers.first:
            progress = TrainProgress(
                stage=stage.stage.name,
                number=stage.number,
                stages=len(self.recipe.stages),
                step=stage.step,
                steps=stage.stage.steps,
                per_second=self._per_second(),
                facts=self.facts,
                skipped=stage.skipped,
            )
            self.report(progress)


def _for_each[T](
    tables: Sequence[Mapping[str, Any]], make: Callable[[Mapping[str, Any]], T]
) -> list[T]:
    """What is made of every table; equal tables share it, for the reading behind it takes long."""
    keys = [json.dumps(table, sort_keys=True, default=str) for table in tables]
    made = {key: make(table) for key, table in dict(zip(keys, tables, strict=True)).items()}
    return [made[key] for key in keys]


def difference(old: Any, new: Any, where: str = "") -> str | None:
    """Path of the first value in which two tables differ, harmless keys aside; None if in none."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new} - (_HARMLESS if not where else set())):
            path = f"{where}.{key}" if where else key
            if (key in old) != (key in new):
                return path
            found = difference(old[key], new[key], path)
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return next((f for k, (a, b) in pairs if (f := difference(a, b, f"{where}[{k}]"))), None)
    return None if old == new or str(old) == str(new) else where
