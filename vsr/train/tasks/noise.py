"""Noise: what codecs and sensors add to clean pictures, learned against a discriminator.

The discriminator sees noise, with the strength of the compression as a plane, and beside the clean
picture where the generator sees it too. The strength is measured on the pair: the noise's root mean
square, of which a tenth of white counts as the strongest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vsr.train.criteria import Contest, Criteria
from vsr.train.recipe import Stage
from vsr.train.settings import GanSettings
from vsr.train.tasks._base import Batch, Plain, players_of
from vsr.train.translators.noise import NoiseConfig
from vsr.train.updates import arithmetic

_STRONGEST = 0.1


def strength(clean: Tensor, damaged: Tensor) -> Tensor:
    """How strong the damage of pictures (N, C, H, W) in [0, 1] is: (N,), from 0 to 1."""
    return ((damaged - clean) ** 2).mean((1, 2, 3)).sqrt().div(_STRONGEST).clamp(0, 1)


class Noise(Plain):
    """Learns to make noise.

    Args:
        network: Of `vsr.train.translators.noise`.
        config: Its.
        stage: Losses and gan.
        gan: The stage's.
    """

    def __init__(
        self, network: nn.Module, config: NoiseConfig, stage: Stage, gan: GanSettings
    ) -> None:
        self.network = self.product = network
        self.config, self.stage, self.gan = config, stage, gan
        self.device = next(network.parameters()).device
        self.criteria = Criteria(stage.losses, self.device)
        seen = config.channels * (2 if config.kind == "conditional" else 1) + 1
        self.contest = Contest(gan, seen)
        self.networks: dict[str, nn.Module] = {
            "maker": network,
            "judge": self.contest.judge.to(self.device),
        }
        self.players = players_of(stage, ["maker"], ["judge"])
        self._made: Tensor | None = None

    def losses(self, player: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Of the generator, or of the discriminator."""
        clean, damaged = self._cut(batch.high), self._cut(batch.low)
        level = strength(clean, damaged)
        with arithmetic(self.device, self.stage.precision):
            real = self._shown(damaged - clean, clean, level)
            if player == "judge":
                made = self._made
                if made is None:
                    with torch.no_grad():
                        made = self.network(clean, level).float()
                self._made = None
                return self.contest.referee(self._shown(made, clean, level), real)
            made = self.network(clean, level).float()
            self._made = made.detach()
            losses = self.criteria(clean + made, damaged)
            if step >= self.gan.after:
                losses["gan"] = self.contest.maker(self._shown(made, clean, level), real)
        return losses

    def _cut(self, x: Tensor) -> Tensor:
        """Patches of the size that `dcgan` makes."""
        size = self.config.size
        return x[:, :, :size, :size] if self.config.kind == "dcgan" else x

    def _shown(self, noise: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """What the discriminator sees; noise is shown as strong as pictures are."""
        plane = level.view(-1, 1, 1, 1).expand(-1, 1, *noise.shape[2:])
        beside = [clean] if self.config.kind == "conditional" else []
        return torch.cat([noise / _STRONGEST, *beside, plane], 1)

    @torch.no_grad()
    def samples(self, product: nn.Module, batch: Batch) -> Sequence[Tensor]:
        """The clean picture, it with made noise, the damaged one."""
        clean, damaged = self._cut(batch.high), self._cut(batch.low)
        made = product(clean, strength(clean, damaged)).float()
        return clean, (clean + made).clamp(0, 1), damaged
