"""One stage of a run: a task, who updates what, and the average of the weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vsr.errors import UsageError
from vsr.train.average import Average
from vsr.train.onboard import Onboard
from vsr.train.peers import Peers
from vsr.train.recipe import Recipe
from vsr.train.state import seed_step
from vsr.train.tasks._base import Batch, Task
from vsr.train.updates import Buffers, Updater

_BEFORE = (1 << 31) - 1
"""Number of the step in which a stage's networks are drawn."""
_SHOWING = _BEFORE - 1
"""Number of the step of samples, which are drawn alike every time."""


def seed_drawing(recipe: Recipe, stage: int) -> None:
    """Seeds what is drawn before the first step of a stage, alike in all processes."""
    seed_step(recipe.seed, stage, _BEFORE, 0)


class StageRun:
    """Trains one stage step by step.

    Args:
        recipe: The whole one.
        number: Of the stage, from 0.
        task: Of the stage, with all networks on their device and alike in all processes.
        peers: Who share the work.
        onboard: Degrades on the device; None if workers do.

    Attributes:
        step: Steps that are done.
    """

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        task: Task,
        peers: Peers,
        onboard: Onboard | None = None,
    ) -> None:
        self.recipe, self.number, self.task, self.peers = recipe, number, task, peers
        self.onboard = onboard
        self.stage = recipe.stages[number]
        self.step = 0
        for network in task.networks.values():
            network.train()
            peers.share([*network.parameters(), *network.buffers()])
        self.average = Average(task.product, self.stage.ema)
        self.updaters = {
            player.name: Updater(
                [task.networks[name] for name in player.networks],
                player.settings,
                self.stage,
                peers,
                recipe.most_skipped,
            )
            for player in task.players
        }
        self._buffers = Buffers(list(task.networks.values()))
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.stage.steps

    @property
    def skipped(self) -> int:
        """Updates that were left out so far."""
        return sum(updater.skipped for updater in self.updaters.values())

    def advance(self, batch: Batch) -> None:
        """Takes one step with a batch.

        Raises:
            NonFiniteError: Too many updates in a row had gradients that were not finite.
        """
        if self.onboard is not None:
            place = [self.recipe.seed, self.number, self.peers.rank, self.step]
            batch = self.onboard(batch, np.random.default_rng(place))
        seed_step(self.recipe.seed, self.number, self.step, self.peers.rank)
        for player in self.task.players:
            if (self.step + 1) % player.every:
                continue
            self._buffers.keep()
            losses = self.task.losses(player.name, batch, self.step)
            total = torch.stack(list(losses.values())).sum()
            norm = self.updaters[player.name].update(total, self.step)
            if norm is None:
                self._buffers.restore()
                continue
            self._note({f"loss_{name}": value.detach() for name, value in losses.items()})
            self._note({f"norm_{player.name}": torch.tensor(norm)})
        self.task.after(self.step)
        self.average.follow(self.step)
        if self.peers.count > 1:
            self.peers.share(b for n in self.task.networks.values() for b in n.buffers())
        self.step += 1

    def _note(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Losses and norms, averaged since the last call."""
        found = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return found

    def rates(self) -> dict[str, float]:
        """The learning rate of every player's first weights."""
        return {
            f"rate_{name}": float(updater.optimiser.param_groups[0]["lr"])
            for name, updater in self.updaters.items()
        }

    def product(self) -> dict[str, Tensor]:
        """What is saved: the average of the weights."""
        return self.average.module.state_dict()

    @torch.no_grad()
    def samples(self, batch: Batch) -> list[Tensor]:
        """Columns of a picture of samples, without a trace in the networks; chance is the same."""
        seed_step(self.recipe.seed, self.number, _SHOWING, self.peers.rank)
        module: nn.Module = self.average.module
        training = module.training
        module.eval()
        columns = list(self.task.samples(module, batch))
        module.train(training)
        return columns

    def state_dict(self) -> dict[str, Any] | None:
        """All that the next step depends on; None in all processes but the first."""
        queue = self.onboard.state_dict() if self.onboard is not None else {}
        tasks = self.peers.gather({"task": self.task.state_dict(), "queue": queue})
        if not self.peers.first:
            return None
        return {
            "stage": self.number,
            "step": self.step,
            "networks": {name: net.state_dict() for name, net in self.task.networks.items()},
            "average": self.average.module.state_dict(),
            "updaters": {name: one.state_dict() for name, one in self.updaters.items()},
            "tasks": list(tasks),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` gave in the first process.

        Raises:
            UsageError: The state is of another number of processes.
        """
        tasks = state["tasks"]
        if len(tasks) != self.peers.count:
            msg = (
                f"the run was begun by {len(tasks)} processes, now there are {self.peers.count}: "
                "start as many, or pass --restart"
            )
            raise UsageError(msg)
        for name, network in self.task.networks.items():
            network.load_state_dict(state["networks"][name])
        self.average.module.load_state_dict(state["average"])
        for name, updater in self.updaters.items():
            updater.load_state_dict(state["updaters"][name])
        mine = tasks[self.peers.rank]
        self.task.load_state_dict(mine["task"])
        if self.onboard is not None:
            self.onboard.load_state_dict(mine["queue"], self.peers.device)
        self.step = state["step"]
