"""`torch.compile`: PyTorch's own compiler, for one shape at a time.

Compiling takes from seconds to a minute for each shape and needs a C++ compiler on processors, and
Triton on GPUs. Where it fails, or gives something else, the eager network goes on, and one line
says so.
"""

import logging
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from vsr.engine.devices import Precision
from vsr.engine.export import TOLERANCES
from vsr.engine.network import Network
from vsr.engine.trusted import Trusted
from vsr.models._base import InputSpec

_log = logging.getLogger(__name__)


class CompiledNetwork:
    """Runs a module by `torch.compile`, as an `Upscaler`.

    Any number of threads may call it; while one compiles, the others wait.

    Args:
        module: In float32 on any device; it is copied, never changed.
        spec: What the network accepts.
        device: Where to run.
        precision: Arithmetic.
        backend: Of `torch.compile`.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        precision: Precision,
        backend: str = "inductor",
    ) -> None:
        self.spec, self.device, self.precision = spec, device, precision
        self._lock, self._known = Lock(), set[tuple[torch.Size, torch.dtype, int]]()
        eager = Network(module, spec, device, precision)
        plain = Network(module, spec, device, precision, fused=False)
        self._ways = Trusted[Tensor](
            eager,
            {"torch.compile": _Compiled(plain, backend)},
            difference=self._difference,
            samples=lambda inputs: iter([inputs]),
            clock=None,
        )

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype and device."""
        key = (x.shape, x.dtype, torch.get_num_threads())
        if key in self._known:
            return self._ways(x)
        with self._lock:
            y = self._ways(x)
            self._known.add(key)
        return y

    def _difference(self, ours: Tensor, theirs: Tensor) -> str:
        if bool(torch.isfinite(theirs).all()):
            off = float((ours.float() - theirs.float()).square().mean().sqrt())
            bound = TOLERANCES[self.precision] * max(1.0, float(theirs.abs().max()))
            if not off <= bound:  # NaN is not less either
                return f"it is off by {off:.3g}, at most {bound:.3g} was expected"
        return ""


class _Compiled:
    """The compiled function; made at its first call, which imports the compiler for seconds."""

    def __init__(self, network: Network, backend: str) -> None:
        self._network, self._backend = network, backend
        self._function: Any = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self._function is None:
            _log.info("compiling the network: this takes up to a minute for each shape")
            # Static shapes: the compiler lays memory out for them, which dynamic ones forbid.
            self._function = torch.compile(self._network, dynamic=False, backend=self._backend)
        y: Tensor = self._function(*inputs)
        return y

    def clear(self) -> None:
        """Forgets what was compiled."""
        self._function = None
