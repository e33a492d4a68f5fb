"""What is known of a network before it runs: size, arithmetic, memory, tiling, licence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vsr.engine.blends import join_checkpoints
from vsr.engine.memory import activation_bytes
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
