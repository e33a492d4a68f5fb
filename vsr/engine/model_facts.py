"""What is known of a network before it runs: size, arithmetic, memory, tiling, licence."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vsr.engine.blends import join_checkpoints
from vsr.engine.devices import devices, resolve_device
from vsr.engine.engines.registry import resolve_engine
from vsr.engine.loading import Model, factory, settings_for
from vsr.engine.memory import activation_bytes
from vsr.engine.speeds import Speed
from vsr.errors import CheckpointError
from vsr.models import architecture
from vsr.models._base import Architecture, InputSpec
from vsr.models._counting import Cost, cost
from vsr.models.catalog import Published


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A network, described.

    Attributes:
        architecture: Its name.
        paper: Where it comes from.
        config: Its hyperparameters by name.
        spec: What it accepts.
        cost: Parameters, layers and arithmetic.
        bytes_per_pixel: Estimated memory of activations in float32 per input pixel; half of it in
            half precision.
        licence: SPDX identifier, None if unknown.
        header: What the file's header says beside architecture and configuration.
        weights: Whether the weights are here, or only their layout is known.
    """

    architecture: str
    paper: str
    config: Mapping[str, Any]
    spec: InputSpec
    cost: Cost
    bytes_per_pixel: float
    licence: str | None
    header: Mapping[str, str]
    weights: bool

    def memory(self, width: int, height: int) -> int:
        """Estimated bytes in float32 for a picture in one piece, weights included."""
        return round(self.bytes_per_pixel * width * height) + 4 * self.cost.parameters


def facts_of_file(path: Path, licence: str | None = None) -> ModelFacts:
    """Describes the network in a file.

    Args:
        path: A checkpoint of any kind.
        licence: From the catalogue; a header's is taken if None.

    Raises:
        CheckpointError: It is unreadable or fits no architecture.
    """
    loaded = join_checkpoints([path])
    module, _ = loaded.network()
    shown = {"architecture", "config", "licence"}
    header = {k: v for k, v in loaded.metadata.items() if k not in shown}
    return _facts(
        loaded.arch,
        loaded.config,
        module,
        licence=licence or loaded.metadata.get("licence"),
        header=header,
        weights=True,
    )


def facts_of_entry(entry: Published) -> ModelFacts:
    """Describes a published network whose file is not here, by the catalogue alone.

    Raises:
        CheckpointError: The catalogue does not know its hyperparameters.
    """
    if entry.parameters is None:
        msg = f"the catalogue does not know how {entry.name} is built: download it first"
        raise CheckpointError(msg)
    arch = architecture(entry.architecture)
    config = config_of_entry(arch, entry)
    return _facts(
        arch, config, arch.build(config).eval(), licence=entry.licence, header={}, weights=False
    )


def speed_of_entry(
    entry: Published,
    size: tuple[int, int],
    device: str = "auto",
    precision: str = "auto",
    seconds: float = 3.0,
) -> Speed:
    """Measures a published network alone, one frame at a time, with weights of no meaning.

    Args:
        entry: Its file need not be here.
        size: Width and height of the frames.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`.
        seconds: How long, after a first frame that does not count; one frame at least.

    Raises:
        CheckpointError: The catalogue does not know its hyperparameters.
        DeviceError: The device is not there, or lacks the precision.
    """
    arch, where = architecture(entry.architecture), resolve_device(device)
    config = config_of_entry(arch, entry)
    torch.manual_seed(0)
    model = Model(entry.name, arch.spec(config), arch.build(config).eval())
    settings = settings_for(model, where, size, precision=precision)
    engine = resolve_engine("auto", settings.precision)
    upscaler = factory(model, where, engine=engine)(settings)
    x = torch.rand(1, model.spec.channels or 3, size[1], size[0], device=where)

    def computed() -> None:
        with torch.inference_mode():
            upscaler(x)
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    computed()
    frames, began = 0, time.perf_counter()
    while frames == 0 or time.perf_counter() - began < seconds:
        computed()
        frames += 1
    fps = frames / (time.perf_counter() - began)
    names = {fact.name: fact.description for fact in devices()}
    how = f"network alone, {settings.precision}"
    how += f", tiles of {settings.tile}" if settings.tile else ""
    threads = torch.get_num_threads()
    how += f", {threads} thread{'s' * (threads > 1)}" if where.type == "cpu" else ""
    return Speed(
        fps=fps,
        width=size[0],
        height=size[1],
        device=names.get(str(where), str(where)),
        how=how,
        day=date.today().isoformat(),  # noqa: DTZ011 - the user's own day
    )


def config_of_entry(arch: Architecture[Any], entry: Published) -> Any:
    """The configuration that the catalogue knows of a checkpoint."""
    return arch.config(**{**entry.network, **entry.config})


def _facts(
    arch: Architecture[Any],
    config: Any,
    module: nn.Module,
    *,
    licence: str | None,
    header: Mapping[str, str],
    weights: bool,
) -> ModelFacts:
    spec = arch.spec(config)
    return ModelFacts(
        architecture=arch.id,
        paper=arch.paper,
        config=asdict(config),
        spec=spec,
        cost=cost(module, spec),
        bytes_per_pixel=activation_bytes(module, spec, "fp32"),
        licence=licence,
        header=header,
        weights=weights,
    )
