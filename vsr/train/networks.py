"""The network that a recipe trains, how it begins, and how it is saved."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint, save_checkpoint
from vsr.errors import CheckpointError, UsageError
from vsr.models import architecture, architectures
from vsr.models._base import InputSpec
from vsr.train.recipe import NetworkSettings, Recipe
from vsr.train.strict import structure
from vsr.train.translators.translator import FAMILIES, HEADER

_RESTORING = ("restore", "contrast")
_TRANSLATED = 64
"""Translators halve pictures up to six times, and noise may come in patches that large."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A network that can be built.

    Attributes:
        settings: Of the recipe.
        name: What a checkpoint's header calls the architecture.
        config: Its hyperparameters, a dataclass.
        spec: What it accepts; None for translators.
    """

    settings: NetworkSettings
    name: str
    config: Any
    spec: InputSpec | None

    def build(self) -> nn.Module:
        """Makes the network, drawn by torch's generator, or as its `start` says.

        Raises:
            CheckpointError: The start does not fit.
        """
        if self.spec is None:
            module: nn.Module = FAMILIES[self.settings.architecture][1](self.config)
        else:
            module = architecture(self.settings.architecture).build(self.config)
        _INITS[self.settings.init](module)
        if self.settings.start is not None:
            adopt(module, self.settings.start)
        return module


def plan(recipe: Recipe) -> Plan:
    """Finds out which network a recipe means.

    Raises:
        UsageError: No such architecture, a config that it does not have, or another scale.
    """
    settings = recipe.network
    restoring = {stage.task in _RESTORING for stage in recipe.stages}
    if len(restoring) > 1:
        msg = "stages of one recipe either restore or damage, this one has both: make two recipes"
        raise UsageError(msg)
    known = architectures() if restoring == {True} else tuple(FAMILIES)
    if settings.architecture not in known:
        msg = (
            f"network.architecture is {settings.architecture!r}: for the task "
            f"{recipe.stages[0].task!r} use one of {', '.join(known)}"
        )
        raise UsageError(msg)
    if restoring == {False}:
        kind = FAMILIES[settings.architecture][0]
        config = structure(kind, settings.config, "network.config")
        if recipe.scale != 1:
            msg = f"translators keep the size: scale must be 1, got {recipe.scale}"
            raise UsageError(msg)
        return Plan(settings, HEADER + settings.architecture, config, None)
    arch = architecture(settings.architecture)
    config = structure(arch.config, settings.config, "network.config")
    spec = arch.spec(config)
    if spec.scale != recipe.scale:
        msg = (
            f"the recipe's scale is {recipe.scale}, the network's {spec.scale}: make "
            "network.config agree"
        )
        raise UsageError(msg)
    return Plan(settings, arch.id, config, spec)


def multiple_of(made: Plan) -> int:
    """What sides of pictures to validate on are multiples of, in pixels of low resolution."""
    return made.spec.multiple_of if made.spec is not None else _TRANSLATED


def adopt(module: nn.Module, path: Path) -> None:
    """Gives a network the weights of a file.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape.
    """
    state = read_checkpoint(path).state
    own = module.state_dict()
    for key in (*own, *state):
        shapes = [tuple(s[key].shape) if key in s else None for s in (own, state)]
        if shapes[0] != shapes[1]:
            msg = (
                f"{path.name} is no start for this network: {key!r} should have shape "
                f"{shapes[0]}, found {shapes[1]}"
            )
            raise CheckpointError(msg)
    module.load_state_dict(state)


def save(path: Path, state: Mapping[str, Tensor], made: Plan, facts: Mapping[str, str]) -> None:
    """Writes a checkpoint that `vsr upscale --model-path` takes; the older one stays until then.

    Args:
        path: Where to.
        state: The network's.
        made: Which network it is.
        facts: Further entries of the header.

    Raises:
        CheckpointError: It cannot be written.
    """
    save_checkpoint(path, dict(state), made.name, made.config, facts)


def header(recipe: Recipe, table: Mapping[str, Any], fingerprint: str) -> dict[str, str]:
    """What a checkpoint says about its making; folders of this machine by their last names."""
    return {
        "title": recipe.title,
        "paper": recipe.paper,
        "recipe": json.dumps(_without_places(table), sort_keys=True),
        "data_sha256": fingerprint,
        "seed": str(recipe.seed),
    }


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(item) for item in value]
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        return Path(value).name
    return value


def _default(module: nn.Module) -> None:
    """Leaves PyTorch's initialisation."""


def _small(module: nn.Module) -> None:
    """He et al. 2015, times 0.1: ESRGAN's "smaller initialization" (section 3.1)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data *= 0.1
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _identity(module: nn.Module) -> None:
    """Hidden 3×3 layers begin near the identity, which a ReLU passes on; the last one small."""
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        if conv.in_channels == conv.out_channels and conv.groups == 1:
            middle = [side // 2 for side in conv.kernel_size]
            diagonal = range(conv.in_channels)
            conv.weight.data *= 0.5
            conv.weight.data[diagonal, diagonal, middle[0], middle[1]] += 0.7
    convs[-1].weight.data *= 0.1


def _normal(module: nn.Module) -> None:
    """Radford et al. 2015 (DCGAN): N(0, 0.02), norms around 1."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


_INITS = {"default": _default, "small": _small, "identity": _identity, "normal": _normal}
