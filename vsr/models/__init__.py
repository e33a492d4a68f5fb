"""One readable file per architecture; the directory is the registry.

    architectures()            names, without importing any of them
    architecture("compact")    the `Architecture` of that name
    detect(state)              which architecture a state dict belongs to, and its configuration
    build(state, metadata)     the network of a state dict, and its `InputSpec`

A file dropped in here, whose name does not start with an underscore and which defines `ARCH`, is an
architecture. Other packages add theirs through the entry point group `vsr.models`, each a module
with `ARCH` or an `Architecture` itself. `vsr.models.catalog` knows the published checkpoints.

Importing this package does not import torch.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from fractions import Fraction
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from vsr.errors import UnknownModelError

if TYPE_CHECKING:
    from torch import nn

    from vsr.models._base import Architecture, InputSpec, StateDict

__all__ = ["architecture", "architectures", "build", "detect"]

_GROUP = "vsr.models"
_NOT_NETWORKS = frozenset({"interpolation"})


def architectures() -> tuple[str, ...]:
    """Lists the names of all architectures, sorted, without importing them."""
    return tuple(sorted({*_own(), *_foreign()}))


def architecture(name: str) -> "Architecture[Any]":
    """Imports one architecture.

    Args:
        name: One of `architectures()`; an own one goes before another package's of the same name.

    Raises:
        UnknownModelError: There is none of this name, or what is there is not an architecture.
    """
    from vsr.models._base import Architecture  # noqa: PLC0415 - it needs torch

    if name in _own():
        found: object = importlib.import_module(f"{__name__}.{name}")
    elif name in (foreign := _foreign()):
        found = foreign[name].load()
    else:
        msg = f"no architecture is called {name!r}: known are {', '.join(architectures())}"
        raise UnknownModelError(msg)
    arch = getattr(found, "ARCH", found)
    if not isinstance(arch, Architecture):
        msg = f"the architecture {name!r} defines no ARCH of type vsr.models._base.Architecture"
        raise UnknownModelError(msg)
    return arch


def detect(state: "StateDict") -> "tuple[Architecture[Any], Any, StateDict]":
    """Finds the one architecture that a state dict belongs to.

    Args:
        state: Tensors by name, in any layout that an architecture knows.

    Returns:
        The architecture, the configuration read from names and shapes, and the state dict under the
        architecture's own names.

    Raises:
        CheckpointError: None claims it (the message names the nearest and what differs), or more
            than one does.
    """
    from vsr.models import _detection  # noqa: PLC0415 - it needs torch

    return _detection.detect(state)


def build(
    state: "StateDict",
    metadata: Mapping[str, str] | None = None,
    factor: Fraction | None = None,
) -> "tuple[nn.Module, InputSpec]":
    """Makes the network of a state dict.

    Args:
        state: Tensors by name, in any layout that an architecture knows; not changed or kept.
        metadata: Header of the checkpoint; its `architecture` and `config` (JSON) tell what no
            state dict can, such as an activation without weights.
        factor: Output over input size that is wanted; weights that serve several scales, and no
            header chooses among them, are used at the nearest larger one.

    Returns:
        The network in eval mode and float32 on the CPU, and what it accepts.

    Raises:
        CheckpointError: It fits no architecture, or a tensor is missing, left over or of another
            shape; the message names the first such tensor.
    """
    from vsr.models import _detection  # noqa: PLC0415 - it needs torch

    return _detection.build(state, metadata or {}, factor)


def _own() -> frozenset[str]:
    found = pkgutil.iter_modules(__path__)
    names = {info.name for info in found if not info.ispkg and not info.name.startswith("_")}
    return frozenset(names - _NOT_NETWORKS)


def _foreign() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=_GROUP)}
