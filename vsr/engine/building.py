"""Engines built before they are needed: what `vsr engine build` does."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from vsr.engine.base import Upscaler
from vsr.engine.devices import resolve_device
from vsr.engine.engines.cache import EngineCache, Entry
from vsr.engine.engines.onnxruntime import OnnxNetwork
from vsr.engine.engines.openvino import OpenVinoNetwork
from vsr.engine.engines.registry import (
    available_engines,
    engine_precision,
    find_engine,
    open_network,
)
from vsr.engine.engines.tensorrt import TensorRtNetwork
from vsr.engine.export import model_digest
from vsr.engine.loading import find_model, settings_for
from vsr.engine.tiled import Padded, Tiled
from vsr.errors import UsageError

_KEEPING = ("tensorrt", "openvino", "onnx")
"""Engines that have something to keep on disk, the fastest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to build.

    Attributes:
        model: A name of the catalogue.
        path: A checkpoint file instead.
        size: Width and height of the films to come.
        scale: Which of the model's scales; its own if None.
        engine: Name of an engine that keeps what it builds, or `auto` for the best one installed.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`.
        tile: Side of a tile in input pixels, None for what fits.
        batch: Frames computed together, None for what the device likes.
    """

    model: str = "auto"
    path: Path | None = None
    size: tuple[int, int]
    scale: int | None = None
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    batch: int | None = None


def build_engine(order: Order) -> tuple[Entry, ...]:
    """Builds the engines that a film of a size needs, and keeps them.

    They are compared with the network before they are kept, and tried on one picture.

    Args:
        order: What to build. The tile and batch are those that a job would choose.

    Returns:
        What is on disk for it now.

    Raises:
        ModelError: The model or its checkpoint cannot be used.
        UsageError: An engine that is not installed or keeps nothing.
        DeviceError: The device or the engine cannot do it, or its result is wrong.
    """
    model = find_model(order.model, path=order.path, factor=Fraction(order.scale or 1))
    if model.module is None:
        msg = f"{model.name} is an interpolation and needs no engine: name a network"
        raise UsageError(msg)
    device = resolve_device(order.device)
    engine = _chosen(order.engine, device)
    precision = engine_precision(engine, order.precision, device, model.spec)
    settings = settings_for(
        model,
        device,
        order.size,
        precision=precision,
        tile=order.tile,
        batch=order.batch,
        stream=True,
    )
    network = open_network(engine, model.module, model.spec, device, precision)
    _keep(network, f"{model.name} x{model.spec.scale}")
    upscaler: Upscaler = Padded(Tiled(network, settings.tile) if settings.tile else network)
    width, height = order.size
    x = torch.zeros(settings.batch, model.spec.channels or 1, height, width, device=device)
    with torch.inference_mode():
        for _ in range(model.passes):
            x = upscaler(x).clamp_(0, 1)
    digest = model_digest(model.module)
    return tuple(
        entry
        for entry in EngineCache().entries()
        if entry.key is not None
        and (entry.key.model, entry.key.precision) == (digest, precision)
        and entry.key.library.partition(" ")[0].startswith(engine.partition(":")[0])
    )


def _keep(network: Upscaler, about: str) -> None:
    match network:
        case OnnxNetwork():
            network.keep(about)
        case OpenVinoNetwork() | TensorRtNetwork():
            network.about = about
        case _:
            pass  # `_chosen` let nothing else pass


def _chosen(name: str, device: torch.device) -> str:
    """Checks the engine asked for, or takes the best one installed."""
    if name != "auto":
        engine, _ = find_engine(name)
        if engine.name in _KEEPING:
            return name
        msg = f"engine {name} keeps nothing on disk: use one of {', '.join(_KEEPING)}"
        raise UsageError(msg)
    usable = [n for n in available_engines(device) if n in _KEEPING]
    if usable:
        return min(usable, key=_KEEPING.index)
    extras = "tensorrt" if device.type == "cuda" else "openvino"
    msg = f"no engine that is built ahead is installed: pip install 'vsr[{extras}]'"
    raise UsageError(msg)
