"""What a task tells the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from vsr.train.recipe import Stage
from vsr.train.settings import OptimiserSettings


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one step on the device, float32 in [0, 1].

    Attributes:
        low: (N, C, h, w), degraded.
        high: (N, C, s·h, s·w), clean.
    """

    low: Tensor
    high: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """Who is updated together.

    Attributes:
        name: For logs and states.
        networks: Names of the task's networks whose weights it steps.
        settings: Of its optimiser.
        every: Updated at every so many steps, the last of them.
    """

    name: str
    networks: tuple[str, ...]
    settings: OptimiserSettings
    every: int = 1


class Task(Protocol):
    """What is learned in one stage.

    Attributes:
        networks: All networks by name; what a state holds.
        product: The network that is averaged and saved.
        players: In the order of their updates within a step.
    """

    networks: dict[str, nn.Module]
    product: nn.Module
    players: tuple[Player, ...]

    def losses(self, player: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Weighted losses of a player by name; their sum leads to its networks."""
        ...

    def after(self, step: int) -> None:
        """What happens when all players have been updated."""
        ...

    def samples(self, product: nn.Module, batch: Batch) -> Sequence[Tensor]:
        """Columns of a picture of samples, each (N, C, H, W) of one size; the target is last."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on besides the networks."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        ...


def players_of(stage: Stage, makers: Sequence[str], judges: Sequence[str]) -> tuple[Player, ...]:
    """A maker, and a judge if the stage has a gan."""
    gan = stage.gan
    every = gan.judge_steps if gan else 1
    maker = Player(name="maker", networks=tuple(makers), settings=stage.optimiser, every=every)
    if gan is None:
        return (maker,)
    settings = gan.optimiser or stage.optimiser
    return maker, Player(name="judge", networks=tuple(judges), settings=settings)


class Plain:
    """The parts of a task that have nothing to remember."""

    def after(self, step: int) -> None:
        """Nothing happens."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing was remembered."""


def as_signed(x: Tensor) -> Tensor:
    """[0, 1] to [-1, 1], in which translators work."""
    return x * 2 - 1


def as_picture(x: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return (x + 1) / 2
