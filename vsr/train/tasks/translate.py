"""pix2pix: from clean pictures to damaged ones, learned from pairs.

Isola et al. 2016, arXiv:1611.07004. The discriminator sees the clean picture beside the damaged
one. Losses are taken in [0, 1], where an L1 is half of the paper's in [-1, 1].
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vsr.train.criteria import Contest, Criteria
from vsr.train.recipe import Stage
from vsr.train.tasks._base import Batch, Plain, as_picture, as_signed, players_of
from vsr.train.updates import arithmetic


class Translate(Plain):
    """Learns to damage.

    Args:
        network: A translator, (N, C, H, W) in [-1, 1] to the same.
        channels: C.
        stage: Losses and gan.
    """

    def __init__(self, network: nn.Module, channels: int, stage: Stage) -> None:
        self.network = self.product = network
        self.stage = stage
        self.device = next(network.parameters()).device
        self.criteria = Criteria(stage.losses, self.device)
        self.networks: dict[str, nn.Module] = {"maker": network}
        self.contest: Contest | None = None
        if stage.gan is not None:
            self.contest = Contest(stage.gan, 2 * channels)
            self.networks["judge"] = self.contest.judge.to(self.device)
        self.players = players_of(stage, ["maker"], ["judge"])
        self._made: Tensor | None = None

    def losses(self, player: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Of the generator, or of the discriminator."""
        clean, damaged = as_signed(batch.high), as_signed(batch.low)
        if player == "judge":
            return self._judged(clean, damaged)
        with arithmetic(self.device, self.stage.precision):
            made = self.network(clean).float()
            self._made = made.detach()
            losses = self.criteria(as_picture(made), batch.low)
            gan = self.stage.gan
            if self.contest is not None and gan is not None and step >= gan.after:
                pair = torch.cat([clean, made], 1)
                losses["gan"] = self.contest.maker(pair, torch.cat([clean, damaged], 1))
        return losses

    def _judged(self, clean: Tensor, damaged: Tensor) -> dict[str, Tensor]:
        if self.contest is None:
            msg = "a stage without a gan has no judge"
            raise ValueError(msg)
        with arithmetic(self.device, self.stage.precision):
            with torch.no_grad():
                made = self.network(clean).float() if self._made is None else self._made
            self._made = None
            pair = torch.cat([clean, made], 1)
            return self.contest.referee(pair, torch.cat([clean, damaged], 1))

    @torch.no_grad()
    def samples(self, product: nn.Module, batch: Batch) -> Sequence[Tensor]:
        """The clean picture, what the generator makes of it, the damaged one."""
        made = as_picture(product(as_signed(batch.high)).float()).clamp(0, 1)
        return batch.high, made, batch.low
