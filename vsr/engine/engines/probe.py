"""How fast each engine computes a network here, so that `auto` need not guess."""

import logging
import time
from collections.abc import Mapping

import torch
from torch import nn

from vsr.engine.base import Upscaler
from vsr.engine.devices import Precision
from vsr.engine.engines.registry import available_engines, engine_precision, open_network
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec

_log = logging.getLogger(__name__)

NEVER_PROBED = ("tensorrt", "compile")
"""They take up to minutes to build what they would be judged by."""


def comparable_engines(
    module: nn.Module, spec: InputSpec, device: torch.device, precision: str = "auto"
) -> dict[str, Upscaler]:
    """Opens the engines that compute in the precision that PyTorch would, PyTorch first.

    An engine that lacks the precision is left out: a faster result of another quality, or a slower
    one of a needless quality, is for people to ask for.

    Args:
        module: In float32 on any device.
        spec: What it accepts.
        device: Where the tensors are.
        precision: `auto`, `fp32`, `fp16` or `bf16`.

    Raises:
        UsageError: Not a precision, or unsafe for this network.
        DeviceError: PyTorch itself cannot compute in it on this device.
    """
    wanted: Precision = engine_precision("torch", precision, device, spec)
    opened: dict[str, Upscaler] = {}
    for name in available_engines(device):
        if name in NEVER_PROBED:
            continue
        try:
            chosen = engine_precision(name, wanted, device, spec)
            opened[name] = open_network(name, module, spec, device, chosen)
        except (UsageError, DeviceError) as error:
            if name == "torch":
                raise
            _log.info("engine %s is not considered: %s", name, error)
    return opened


def engine_seconds(
    engines: Mapping[str, Upscaler], size: tuple[int, int], device: torch.device, budget: float
) -> dict[str, float]:
    """Times engines in turns, so that a machine that slows down slows all of them.

    Args:
        engines: From `comparable_engines`, all of the same network.
        size: Width and height of the pictures.
        device: Where the tensors are.
        budget: Seconds in which no new round begins; each engine is timed once at least.

    Returns:
        Seconds for one picture by engine, the best of all rounds, the fastest engine first.
    """
    best = dict.fromkeys(engines, float("inf"))
    began = time.perf_counter()
    spec = next(iter(engines.values())).spec
    width, height = map(spec.fitting, size)
    x = torch.rand(1, spec.channels or 1, height, width, device=device)
    with torch.inference_mode():
        for engine in engines.values():
            engine(x)  # compiles and allocates
        while float("inf") in best.values() or time.perf_counter() - began < budget:
            for name, engine in engines.items():
                best[name] = min(best[name], _once(engine, x))
    return dict(sorted(best.items(), key=lambda pair: pair[1]))


def _once(engine: Upscaler, x: torch.Tensor) -> float:
    _finish(x)
    began = time.perf_counter()
    engine(x)
    _finish(x)
    return time.perf_counter() - began


def _finish(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
