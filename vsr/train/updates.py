"""One update of some networks: backward, gradients checked, a step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vsr.errors import NonFiniteError
from vsr.train.optimisers import optimiser, rate_factor, set_rate
from vsr.train.peers import Peers
from vsr.train.recipe import Precision, Stage
from vsr.train.settings import OptimiserSettings


class Updater:
    """Steps the weights of one player of a stage.

    An update whose gradients are not finite is left out and counted; statistics that batch norms
    took in it are put back. Half precision scales its loss, and lowers the scale when that happens.

    Args:
        networks: Whose weights are stepped.
        settings: Of the optimiser.
        stage: Of schedule, precision and clipping.
        peers: Who share the work.
        most_skipped: Updates in a row that may be left out.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        settings: OptimiserSettings,
        stage: Stage,
        peers: Peers,
        most_skipped: int,
    ) -> None:
        self.stage, self.peers, self.most_skipped = stage, peers, most_skipped
        weights = [weight for network in networks for weight in network.parameters()]
        self.weights = [weight for weight in weights if weight.requires_grad]
        self.optimiser = optimiser(settings, self.weights)
        enabled = stage.precision == "fp16"
        self.scaler = torch.amp.GradScaler(peers.device.type, enabled=enabled)
        self.skipped = self.in_a_row = 0

    def update(self, loss: Tensor, step: int) -> float | None:
        """Takes one step.

        Args:
            loss: A scalar.
            step: Of the stage, from 0.

        Returns:
            The gradient's norm before clipping; None if the step was left out.

        Raises:
            NonFiniteError: Too many steps in a row were left out.
        """
        set_rate(self.optimiser, rate_factor(self.stage.schedule, step, self.stage.steps))
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.peers.average(self.weights)
        self.scaler.unscale_(self.optimiser)
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = bool(torch.isfinite(norm))
        if finite:
            if self.stage.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.weights, self.stage.clip, norm)
            self.scaler.step(self.optimiser)
        self.scaler.update()
        self._count(finite, step)
        return float(norm) if finite else None

    def _count(self, finite: bool, step: int) -> None:
        self.skipped += not finite
        self.in_a_row = 0 if finite else self.in_a_row + 1
        if self.in_a_row > self.most_skipped:
            msg = (
                f"gradients were not finite {self.in_a_row} times in a row at step {step} of stage "
                f"{self.stage.name!r}: lower the rate, set clip, or use precision bf16 or fp32"
            )
            raise NonFiniteError(msg)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]


class Buffers:
    """Copies of the floating-point buffers of networks, to put back what a bad batch did to them.

    Args:
        networks: Whose.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        every = (buffer for network in networks for buffer in network.buffers())
        self._live = list(every)
        self._kept = [buffer.clone() for buffer in self._live]

    @torch.no_grad()
    def keep(self) -> None:
        """Remembers how they are."""
        for kept, live in zip(self._kept, self._live, strict=True):
            kept.copy_(live)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts them back."""
        for kept, live in zip(self._kept, self._live, strict=True):
            live.copy_(kept)


DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def arithmetic(device: torch.device, precision: Precision) -> torch.autocast:
    """The context of forward passes."""
    dtype = torch.bfloat16 if precision == "fp32" else DTYPES[precision]
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")
