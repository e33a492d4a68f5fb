"""The one file from which a run goes on: written whole or not at all.

It holds all networks, averages, optimisers and scalers, what the task remembers, and where in the
stages the run is. Samples and chance need no entry, for both follow from the seed and the step: the
order of samples from `feed.Places`, and all that a step draws from generators that are seeded by
`seed_step` before it.
"""

import io
from pathlib import Path
from typing import Any

import torch

from vsr.errors import CheckpointError
from vsr.io.atomic import PartialFile, sink_error

NAME = "state.pt"
_VERSION = 2


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state of a run; the older one stays until this one is complete.

    Args:
        folder: Of the run.
        state: Tensors, numbers, texts, and lists and dicts of these.

    Raises:
        SinkError: The disk is full, or the folder cannot be written to.
    """
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, **state}, buffer)
    with PartialFile(folder / NAME, overwrite=True) as file:
        try:
            file.write(buffer.getvalue())
        except OSError as error:
            raise sink_error(folder / NAME, error) from error
        file.commit()


def read_state(folder: Path) -> dict[str, Any] | None:
    """Reads the state of a run; no code in it is run.

    Returns:
        What `write_state` was given; None if there is none yet.

    Raises:
        CheckpointError: It is damaged, or of another version.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        msg = f"{path} is damaged: pass --restart to begin anew"
        raise CheckpointError(msg) from error
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        msg = f"{path} was written by another version: pass --restart to begin anew"
        raise CheckpointError(msg)
    return state


def seed_step(seed: int, stage: int, step: int, rank: int) -> None:
    """Seeds torch's generators for one step of one process."""
    torch.manual_seed((((seed * 64 + stage) * 1024 + rank) * (1 << 31) + step) % (1 << 63))
