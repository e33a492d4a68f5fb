"""CycleGAN: from clean pictures to damaged ones and back, without pairs.

Zhu et al. 2017, arXiv:1703.10593. That a sample's two pictures may show the same is not used:
whether they do is up to the data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vsr.train.criteria import Contest, Criteria
from vsr.train.losses.pixel import l1
from vsr.train.recipe import Stage
from vsr.train.settings import GanSettings
from vsr.train.tasks._base import Batch, as_picture, as_signed, players_of
from vsr.train.translators.pool import ReplayPool
from vsr.train.updates import arithmetic


class Cycle:
    """Learns to damage and to mend.

    Args:
        network: A translator, the one that damages; (N, C, H, W) in [-1, 1] to the same.
        back: A translator of the same kind with other weights.
        channels: C.
        stage: Its gan, and the settings of the cycle; losses are between a picture and its return.
        gan: The stage's.
    """

    def __init__(
        self, network: nn.Module, back: nn.Module, channels: int, stage: Stage, gan: GanSettings
    ) -> None:
        self.product, self.stage, self.gan = network, stage, gan
        self.forth, self.back = network, back
        self.device = next(network.parameters()).device
        self.damaged, self.clean = Contest(gan, channels), Contest(gan, channels)
        self.criteria = Criteria(stage.losses, self.device)
        self.pools = ReplayPool(stage.cycle.pool), ReplayPool(stage.cycle.pool)
        self.networks: dict[str, nn.Module] = {
            "forth": self.forth,
            "back": self.back,
            "judge_damaged": self.damaged.judge.to(self.device),
            "judge_clean": self.clean.judge.to(self.device),
        }
        judges = ["judge_damaged", "judge_clean"]
        self.players = players_of(stage, ["forth", "back"], judges)
        self._made: tuple[Tensor, Tensor] | None = None

    def losses(self, player: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Of both generators, or of both discriminators."""
        clean, damaged = as_signed(batch.high), as_signed(batch.low)
        with arithmetic(self.device, self.stage.precision):
            return (
                self._judged(clean, damaged)
                if player == "judge"
                else self._made_losses(clean, damaged, step)
            )

    def _made_losses(self, clean: Tensor, damaged: Tensor, step: int) -> dict[str, Tensor]:
        settings = self.stage.cycle
        worse, better = self.forth(clean).float(), self.back(damaged).float()
        returns = (self.back(worse).float(), clean), (self.forth(better).float(), damaged)
        self._made = worse.detach(), better.detach()
        cycle = l1(*returns[0]) + l1(*returns[1])
        losses = {"cycle": settings.weight * cycle}
        if settings.identity:
            same = l1(self.forth(damaged).float(), damaged) + l1(self.back(clean).float(), clean)
            losses["identity"] = settings.weight * settings.identity * same
        for made, true in returns:
            for name, value in self.criteria(as_picture(made), as_picture(true)).items():
                losses[name] = losses[name] + value if name in losses else value
        if step >= self.gan.after:
            losses["gan"] = self.damaged.maker(worse, damaged) + self.clean.maker(better, clean)
        return losses

    def _judged(self, clean: Tensor, damaged: Tensor) -> dict[str, Tensor]:
        if self._made is None:
            with torch.no_grad():
                self._made = self.forth(clean).float(), self.back(damaged).float()
        (worse, better), self._made = self._made, None
        worse, better = (
            pool.exchange(x) for pool, x in zip(self.pools, (worse, better), strict=True)
        )
        losses = {f"{k}_damaged": v for k, v in self.damaged.referee(worse, damaged).items()}
        return losses | {f"{k}_clean": v for k, v in self.clean.referee(better, clean).items()}

    def after(self, step: int) -> None:
        """Nothing happens."""

    @torch.no_grad()
    def samples(self, product: nn.Module, batch: Batch) -> Sequence[Tensor]:
        """The clean picture, what the generator makes of it, a damaged one."""
        made = as_picture(product(as_signed(batch.high)).float()).clamp(0, 1)
        return batch.high, made, batch.low

    def state_dict(self) -> dict[str, Any]:
        """The replay buffers."""
        return {"pools": [pool.state_dict() for pool in self.pools]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up the replay buffers."""
        for pool, kept in zip(self.pools, state["pools"], strict=True):
            pool.load_state_dict(kept, self.device)
