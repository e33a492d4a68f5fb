"""Reads the tensors of a checkpoint without ever running code from it.

The file's structure is checked first (`containers`, `pickles`), then `.safetensors` is sliced and
`.pth` goes through `torch.load(weights_only=True)`, whose restricted unpickler knows tensors and
containers and nothing else. NumPy archives, TensorFlow graphs, MATLAB files and networks of ncnn
have readers of their own (`foreign`). What comes out must be dense plain tensors. There is no other
way in: no TorchScript, no full pickle.
"""

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vsr.checkpoints.containers import (
    MOST_BYTES,
    check_safetensors,
    check_zip,
    recognise,
    shortened,
)
from vsr.checkpoints.foreign import foreign_kind, read_foreign
from vsr.checkpoints.pickles import check_bare, check_zipped
from vsr.errors import CheckpointError

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "generator")
_PREFIXES = ("module.", "_orig_mod.")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_INTEGERS = (torch.int64, torch.int32)
_INTEGER_NAMES = ("num_batches_tracked", "relative_position_index", "queue_ptr")
_DEEPEST = 4
_MOST_GROWTH = 8
"""Foreign files may be compressed; their readers bound it by themselves."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        state: Tensors by name, on the CPU; float ones in float32 and contiguous.
        metadata: The header of a safetensors file, or what the layout of a foreign file tells;
            empty for `.pth`.
    """

    state: dict[str, Tensor]
    metadata: dict[str, str]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint: safetensors, PyTorch, or one of those that `foreign` knows.

    The content decides, not the suffix.

    Unwraps what training programs put around a state dict (`params_ema` before `params`,
    `state_dict`, `model` …) and the prefixes of DataParallel and torch.compile.

    Args:
        path: The file.

    Raises:
        CheckpointError: The file is missing, too large, damaged, compressed, or holds anything but
            plain tensors of finite numbers. The message is one line.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except CheckpointError as error:
        msg = f"the checkpoint {shortened(path.name)} {error}"
        raise CheckpointError(msg) from error
    except OSError as error:
        msg = f"the checkpoint {shortened(path.name)} cannot be read: {error.strerror or error}"
        raise CheckpointError(msg) from error


def _read(file: BinaryIO, path: Path) -> Checkpoint:
    size = os.fstat(file.fileno()).st_size
    if size > MOST_BYTES:
        msg = f"has {size} bytes, at most {MOST_BYTES} are read"
        raise CheckpointError(msg)
    foreign = foreign_kind(file)
    if foreign is not None:
        state, header = read_foreign(file, foreign, path)
        size = MOST_BYTES if foreign == "ncnn" else size  # its numbers are in a second file
        return Checkpoint(_checked(state, _MOST_GROWTH * size), header)
    kind = recognise(file.read(64))
    file.seek(0)
    if kind == "safetensors":
        metadata = check_safetensors(file, size)
        file.seek(0)
        return Checkpoint(_checked(_sliced(file.read()), size), metadata)
    if kind == "zip":
        check_zip(file, size)
        check_zipped(file)
    else:
        check_bare(file)
    file.seek(0)
    return Checkpoint(_checked(_unwrapped(_unpickled(file)), size), {})


def _sliced(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, TypeError, RuntimeError) as error:
        msg = f"is not valid safetensors: {_first_line(error)}"
        raise CheckpointError(msg) from error


def _unpickled(file: BinaryIO) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about storages of old files; nothing to act on
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" (`{name[1][:60]}`)" if name else ""
        msg = (
            f"is damaged or holds more than tensors{what}: code in a checkpoint is never run; "
            "save its state_dict, best as safetensors"
        )
        raise CheckpointError(msg) from error


def _unwrapped(loaded: Any) -> Mapping[str, Any]:
    for _ in range(_DEEPEST):
        if not isinstance(loaded, Mapping):
            break
        inner = next((k for k in _WRAPPERS if isinstance(loaded.get(k), Mapping)), None)
        if inner is None:
            return loaded
        loaded = loaded[inner]
    msg = f"holds no state dict, but a {type(loaded).__name__}: save the network's state_dict"
    raise CheckpointError(msg)


def _checked(state: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """Refuses whatever is not a dense tensor of numbers, and makes floats float32."""
    for key, value in state.items():
        _check_tensor(key, value, size)
    total = sum(value.numel() * value.element_size() for value in state.values())
    if total > 2 * size:
        msg = f"claims {total} bytes of tensors in a file of {size}: it is damaged or hostile"
        raise CheckpointError(msg)
    prefix = next((p for p in _PREFIXES if state and all(k.startswith(p) for k in state)), "")
    plain = {key.removeprefix(prefix): _plain(value) for key, value in state.items()}
    _check_finite(plain)
    return plain


def _check_finite(state: Mapping[str, Tensor]) -> None:
    """Refuses NaN and infinity, which would spread over every picture.

    One sum a tensor tells, because it is finite only if its terms are; they are counted only if it
    is not, as also many large numbers may overflow together.
    """
    suspects = {key: value for key, value in state.items() if not value.sum().isfinite()}
    counts = {key: int((~value.isfinite()).sum()) for key, value in suspects.items()}
    bad = {key: count for key, count in counts.items() if count}
    if not bad:
        return
    key, count = min(bad.items())  # safetensors gives its tensors in any order
    others = f" and {sum(bad.values()) - count} in {len(bad) - 1} other tensors"
    msg = (
        f"has {count} of {state[key].numel()} values in {shortened(key)}"
        f"{others if len(bad) > 1 else ''} that are NaN or infinite in float32: it is damaged, or "
        "its training diverged; take another"
    )
    raise CheckpointError(msg)


def _check_tensor(key: object, value: object, size: int) -> None:
    if not isinstance(key, str):
        msg = f"has an entry whose name is a {type(key).__name__}, expected text"
        raise CheckpointError(msg)
    if not isinstance(value, Tensor):
        msg = f"has an entry {shortened(key)} that is a {type(value).__name__}, expected a tensor"
        raise CheckpointError(msg)
    dense = value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu"
    if not dense or value.numel() * value.element_size() > min(size, _stored(value)):
        msg = f"has a tensor {shortened(key)} that is not dense: only plain tensors are read"
        raise CheckpointError(msg)
    whole = value.dtype in _INTEGERS and key.endswith(_INTEGER_NAMES)
    if value.dtype not in _FLOATS and not whole:
        msg = f"has a tensor {shortened(key)} of type {value.dtype}, expected floating point"
        raise CheckpointError(msg)


def _stored(value: Tensor) -> int:
    return value.untyped_storage().nbytes()


def _plain(value: Tensor) -> Tensor:
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
