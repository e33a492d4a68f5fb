"""DASR: super-resolution led by what contrast has learned about degradations.

Wang et al. 2021, arXiv:2104.00416. Two patches of one low-resolution picture were degraded alike,
patches of others otherwise: an encoder learns to tell them apart by MoCo (He et al. 2019,
arXiv:1911.05722), and its representation leads the network. In a stage without losses only the
encoder learns, as in the paper's first hundred epochs.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vsr.errors import UsageError
from vsr.models._base import InputSpec
from vsr.models.dasr import DASR
from vsr.train.losses.contrast import info_nce
from vsr.train.recipe import Stage
from vsr.train.tasks._base import Batch
from vsr.train.tasks.restore import Restore
from vsr.train.updates import arithmetic


class Contrast(Restore):
    """Learns a DASR network, from two patches of each sample that are half as high and wide.

    Args:
        network: A `vsr.models.dasr.DASR`.
        spec: What it accepts.
        stage: Losses and the settings of the contrast.

    Raises:
        UsageError: Another network.
    """

    def __init__(self, network: nn.Module, spec: InputSpec, stage: Stage) -> None:
        super().__init__(network, spec, stage)
        if not isinstance(network, DASR):
            msg = "the task 'contrast' trains the architecture 'dasr': set network.architecture"
            raise UsageError(msg)
        encoder = network.E["encoder_q"]
        convs = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
        width = convs[-1].out_channels
        head = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.1), nn.Linear(width, width))
        self.dasr, self.encoder, self.head = network, encoder, head.to(self.device)
        slow = nn.ModuleList([copy.deepcopy(encoder), copy.deepcopy(self.head)])
        self.slow = slow.requires_grad_(requires_grad=False)
        queue = F.normalize(torch.randn(stage.contrast.queue, width), dim=1)
        self.queue, self.place = queue.to(self.device), 0
        self.networks |= {"head": self.head, "slow": self.slow}
        maker, *judge = self.players
        self.players = (replace(maker, networks=("maker", "head")), *judge)
        self._keys: Tensor | None = None

    def losses(self, player: str, batch: Batch, step: int) -> dict[str, Tensor]:
        """The contrastive loss, and those of the output where the stage has them."""
        if player == "judge":
            return super().losses(player, batch, step)
        (low, high), (other, _) = self._patch(batch), self._patch(batch)
        settings = self.stage.contrast
        with arithmetic(self.device, self.stage.precision):
            embedding = self.encoder(low * 255)
            query = F.normalize(self.head(embedding).float(), dim=1)
            with torch.no_grad():
                encoder, head = self.slow
                self._keys = F.normalize(head(encoder(other * 255)).float(), dim=1)
            found = info_nce(query, self._keys, self.queue, settings.temperature)
            losses = {"contrast": settings.weight * found}
            if not self.stage.losses and self.stage.gan is None:
                return losses
            made = self.dasr.G(low * 255, embedding).float() / 255
        return losses | self.told(made, high, step)

    def _patch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A random part of the low pictures, half as high and wide, and the same of the high."""
        scale = self.spec.scale
        height, width = (side // 2 for side in batch.low.shape[2:])
        top = int(torch.randint(batch.low.shape[2] - height + 1, ()))
        left = int(torch.randint(batch.low.shape[3] - width + 1, ()))
        low = batch.low[:, :, top : top + height, left : left + width]
        top, left, height, width = (n * scale for n in (top, left, height, width))
        return low, batch.high[:, :, top : top + height, left : left + width]

    @torch.no_grad()
    def after(self, step: int) -> None:  # noqa: ARG002 - a task's
        """The key encoder follows, and the keys enter the queue."""
        fast = [*self.encoder.parameters(), *self.head.parameters()]
        share = 1 - self.stage.contrast.momentum
        for mine, theirs in zip(self.slow.parameters(), fast, strict=True):
            mine.lerp_(theirs, share)
        if self._keys is None:
            return
        keys, self._keys = self._keys[: len(self.queue)], None
        places = (self.place + torch.arange(len(keys), device=self.device)) % len(self.queue)
        self.queue[places] = keys
        self.place = (self.place + len(keys)) % len(self.queue)

    def state_dict(self) -> dict[str, Any]:
        """The queue."""
        return {"queue": self.queue.cpu(), "place": self.place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up the queue."""
        self.queue, self.place = state["queue"].to(self.device), state["place"]
