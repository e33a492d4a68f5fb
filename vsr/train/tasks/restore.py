"""Super-resolution: losses on the output, and a discriminator where the stage has one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vsr.models._base import InputSpec
from vsr.train.criteria import Contest, Criteria
from vsr.train.recipe import Stage
from vsr.train.tasks._base import Batch, Plain, players_of
from vsr.train.updates import arithmetic

_LUMA = (0.299, 0.587, 0.114)


class Restore(Plain):
    """Learns to make the high picture of the low one.

    Args:
        network: From (N, C, h, w) to (N, C, s·h, s·w), on its device.
        spec: What it accepts.
        stage: Losses and gan.
    """

    def __init__(self, network: nn.Module, spec: InputSpec, stage: Stage) -> None:
        self.network = self.product = network
        self.spec, self.stage = spec, stage
        self.device = next(network.parameters()).device
        self.criteria = Criteria(stage.losses, self.device)
        self.networks: dict[str, nn.Module] = {"maker": network}
        self.contest: Contest | None = None
        if stage.gan is not None:
            self.contest = Contest(stage.gan, spec.channels or 3)
            self.networks["judge"] = self.contest.judge.to(self.device)
        self.players = players_of(stage, ["maker"], ["judge"])
        self._made: Tensor | None = None

    def losses(self, player: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """Of the network, or of the discriminator."""
        low, high = self.as_wanted(batch.low), self.as_wanted(batch.high)
        if player == "judge":
            return self._judged(low, high)
        with arithmetic(self.device, self.stage.precision):
            made = self.network(low).float()
        return self.told(made, high, step)

    def told(self, made: Tensor, high: Tensor, step: int) -> dict[str, Tensor]:
        """Losses of an output, which the discriminator then gets to see."""
        self._made = made.detach()
        with arithmetic(self.device, self.stage.precision):
            losses = self.criteria(made, high)
            gan = self.stage.gan
            if self.contest is not None and gan is not None and step >= gan.after:
                losses["gan"] = self.contest.maker(made, high)
        return losses

    def _judged(self, low: Tensor, high: Tensor) -> dict[str, Tensor]:
        if self.contest is None:
            msg = "a stage without a gan has no judge"
            raise ValueError(msg)
        with arithmetic(self.device, self.stage.precision):
            if self._made is None:
                with torch.no_grad():
                    self._made = self.network(low).float()
            losses = self.contest.referee(self._made, high)
        self._made = None
        return losses

    def as_wanted(self, x: Tensor) -> Tensor:
        """RGB as the network takes it: itself, or luma in the network's range."""
        if self.spec.channels != 1 or x.shape[1] == 1:
            return x
        luma = torch.einsum("nchw,c->nhw", x, x.new_tensor(_LUMA))[:, None]
        return luma * (219 / 255) + 16 / 255 if self.spec.luma == "studio" else luma

    @torch.no_grad()
    def samples(self, product: nn.Module, batch: Batch) -> Sequence[Tensor]:
        """Bicubic interpolation, the network's output, the target."""
        low, high = self.as_wanted(batch.low), self.as_wanted(batch.high)
        guess = F.interpolate(low, size=high.shape[2:], mode="bicubic")
        return guess.clamp(0, 1), product(low).float().clamp(0, 1), high
