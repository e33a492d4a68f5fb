"""Interpolation between networks, and writing checkpoints."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor

from vsr.errors import CheckpointError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def blend(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Interpolates the weights of two networks of one architecture: (1 - alpha)·a + alpha·b.

    Real-ESRGAN's `-dn` is this between `realesr-general-wdn-x4v3` (a) and `realesr-general-x4v3`
    (b); see Wang et al. 2018, "Deep Network Interpolation", arXiv:1811.10515.

    Args:
        a: State dict, all of `alpha = 0`.
        b: State dict with the same names and shapes, all of `alpha = 1`.
        alpha: Share of `b`.

    Returns:
        A new state dict; integer tensors are `a`'s.

    Raises:
        CheckpointError: A tensor is missing in one of them or of another shape.
    """
    for key in (*a, *b):
        shapes = [tuple(s[key].shape) if key in s else None for s in (a, b)]
        if shapes[0] != shapes[1]:
            msg = (
                f"the two checkpoints cannot be blended: {key!r} has shape {shapes[0]} in the "
                f"first and {shapes[1]} in the second"
            )
            raise CheckpointError(msg)
    return {
        key: value.lerp(b[key], alpha) if value.is_floating_point() else value.clone()
        for key, value in a.items()
    }


def save_checkpoint(
    path: str | Path,
    state: Mapping[str, Tensor],
    architecture: str,
    config: "DataclassInstance",
    extra: Mapping[str, str] | None = None,
) -> None:
    """Writes a safetensors file with the header that `vsr.models.build` understands.

    The file appears under its name when it is complete.

    Args:
        path: Where to; an older file is replaced.
        state: Tensors by name.
        architecture: Name of the architecture.
        config: Its configuration, a dataclass of JSON values.
        extra: More header entries, such as `licence` and `recipe`.

    Raises:
        CheckpointError: The file cannot be written.
    """
    path = Path(path)
    metadata: dict[str, Any] = {"architecture": architecture, "config": json.dumps(asdict(config))}
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(safetensors.torch.save(tensors, {**(extra or {}), **metadata}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        msg = f"the checkpoint {path.name!r} cannot be written: {error.strerror or error}"
        raise CheckpointError(msg) from error
