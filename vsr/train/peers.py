"""Several processes that train one network, each on its own share of every batch.

Processes are started by `torchrun`, which tells each its place in the environment. After every
backward pass the gradients are averaged, so that all take the same step; buffers are the first
one's. That is what DistributedDataParallel does, less its wrapping of modules, which several
networks that play against each other and penalties on gradients do not go together with.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vsr.engine.devices import resolve_device
from vsr.errors import DeviceError


class Peers:
    """This process among its peers; alone where `torchrun` did not start it.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`; several processes on GPUs take one each.

    Attributes:
        rank: From 0; the first writes files.
        count: Of processes.
        device: Where this one computes.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = resolve_device(device)
        if self.count == 1:
            return
        if self.device.type == "cuda":
            self.device = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
            torch.cuda.set_device(self.device)
        if not dist.is_available():
            msg = "this build of torch has no torch.distributed: train with one process"
            raise DeviceError(msg)
        dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, weights: Iterable[nn.Parameter]) -> None:
        """Averages the gradients of all processes."""
        if self.count == 1:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        place = 0
        for gradient in gradients:
            part = flat[place : place + gradient.numel()]
            gradient.copy_(part.view(gradient.shape))
            place += gradient.numel()

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives all processes the first one's values."""
        if self.count > 1:
            for tensor in tensors:
                whole = tensor.contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)

    def any(self, wish: bool) -> bool:
        """Whether any process wishes; all must ask."""
        if self.count == 1:
            return wish
        flag = torch.tensor([float(wish)], device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def gather(self, mine: Any) -> Sequence[Any]:
        """What every process has, by rank, in the first process; nothing in the others."""
        if self.count == 1:
            return [mine]
        found: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(mine, found)
        return found or []

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            dist.barrier()

    def close(self) -> None:
        """Leaves the group."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
