"""Reads weights that were not made by PyTorch into state dicts.

    .npz    NumPy archives: any state dict, and DRCN's weights from a TensorFlow checkpoint
    .pb     frozen TensorFlow graphs of OpenCV's `dnn_superres`: ESPCN, FSRCNN and LapSRN
    .mat    MATLAB 5 files: SRCNN's own, with `weights_conv1` and so on
    .param  networks of ncnn, with their `.bin` beside: Real-ESRGAN's compact one and RRDB

The content decides, not the suffix. Readers of the containers are in `foreign_numpy`,
`foreign_tensorflow`, `foreign_matlab` and `foreign_ncnn`; none of them runs anything. Here the
arrays get the names and shapes of `vsr.models`, and what names cannot say goes into a header, as in
a safetensors file.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.checkpoints.containers import shortened
from vsr.checkpoints.foreign_matlab import read_matlab
from vsr.checkpoints.foreign_ncnn import PARAM_START, WEIGHT_STARTS, read_ncnn, weights_beside
from vsr.checkpoints.foreign_numpy import is_numpy, read_numpy
from vsr.checkpoints.foreign_tensorflow import Graph, is_graph, read_graph
from vsr.errors import CheckpointError

type Array = NDArray[np.floating[Any]]
type Arrays = Mapping[str, Array]
_MOST_LEVELS = 4

type Kind = Literal["numpy", "tensorflow", "matlab", "ncnn"]


def foreign_kind(file: BinaryIO) -> Kind | None:
    """Tells whether a file is one of these, by its content.

    Args:
        file: At any position; is left at its start.

    Raises:
        CheckpointError: It is half of an ncnn network, the one without names.
    """
    file.seek(0)
    start = file.read(64)
    found: Kind | None = None
    if start.startswith(b"MATLAB "):
        found = "matlab"
    elif start.startswith(PARAM_START):
        found = "ncnn"
    elif start.startswith(WEIGHT_STARTS) and start[8:9] != b"{":
        msg = "holds the weights of an ncnn network: name the .param file beside it"
        raise CheckpointError(msg)
    elif start.startswith(b"PK\x03\x04"):
        found = "numpy" if is_numpy(file) else None
    elif start[8:9] != b"{" and is_graph(start):
        found = "tensorflow"
    file.seek(0)
    return found


def read_foreign(
    file: BinaryIO, kind: Kind, path: Path
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a file of another program.

    Args:
        file: At its start; is left anywhere.
        kind: From `foreign_kind`.
        path: Of the file; weights of an ncnn network lie beside it.

    Returns:
        Tensors under the names of the architecture in `vsr.models`, float32 and contiguous, and the
        header: `architecture` and `config` (JSON) where the layout tells them.

    Raises:
        CheckpointError: The file is damaged, or holds no network that is known here.
    """
    if kind == "tensorflow":
        state, name, config = _from_graph(read_graph(file))
    elif kind == "matlab":
        state, name, config = _srcnn(read_matlab(file))
    elif kind == "ncnn":
        with weights_beside(path).open("rb") as weights:
            state, name, config = read_ncnn(file, weights)
    else:
        arrays = read_numpy(file)
        if "W-1_conv/conv_W_1" not in arrays:
            return {key: _tensor(value) for key, value in arrays.items()}, {}
        state, name, config = _drcn(arrays)
    header = {"architecture": name, "config": json.dumps(config)} if name else {}
    return {key: _tensor(value) for key, value in state.items()}, header


def _tensor(value: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32).copy())


def _take(arrays: Arrays, key: str, *dimensions: int) -> Array:
    """The array of a name, if it is there and has one of the numbers of dimensions."""
    found = arrays.get(key)
    if found is None:
        msg = f"lacks the array {shortened(key)} of the layout that its others belong to"
        raise CheckpointError(msg)
    if found.ndim not in dimensions:
        wanted = " or ".join(map(str, dimensions))
        msg = f"has {shortened(key)} with {found.ndim} dimensions, expected {wanted}"
        raise CheckpointError(msg)
    return found


def _kernel(arrays: Arrays, key: str) -> Array:
    """TensorFlow's (height, width, in, out) as PyTorch's (out, in, height, width)."""
    return _take(arrays, key, 4).transpose(3, 2, 0, 1)


_DRCN = {
    "embed.0": ("W-1_conv/conv_W_1", "W-1_conv/conv_B"),
    "embed.2": ("W0_conv/conv_W_1", "W0_conv/conv_B"),
    "recurse": ("W_conv", "B"),
    "reconstruct.0": ("WD1_conv_1", "BD1"),
    "reconstruct.1": ("WD2_conv_1", "BD2"),
}
_DRCN_WHITE = 255.0
_DRCN_SCALE = 2


def _drcn(arrays: Arrays) -> tuple[dict[str, Array], str, dict[str, Any]]:
    """Variables of jiny2001's `deeply-recursive-cnn-tf`, trained for x2 by default.

    That network computes in 0 to 255. Everything in it is homogeneous but the biases, so it becomes
    one in [0, 1] when they are divided by 255. It divides the sum by that of its weights.
    """
    state: dict[str, Array] = {}
    for stem, (kernel, bias) in _DRCN.items():
        state[f"{stem}.weight"] = _kernel(arrays, kernel)
        state[f"{stem}.bias"] = _take(arrays, bias, 1) / _DRCN_WHITE
    weights = _take(arrays, "LayerWeights", 1).astype(np.float64)
    state["weights"] = weights / weights.sum()
    return state, "drcn", {"scale": _DRCN_SCALE}


def _srcnn(arrays: Arrays) -> tuple[dict[str, Array], str, dict[str, Any]]:
    """The authors' `SRCNN.m`: kernels column by column, as MATLAB's `reshape` reads them.

    `weights_conv1` (f₁², n₁), `weights_conv2` (n₁, f₂², n₂), `weights_conv3` (n₂, f₃²), and
    `biases_conv1` to `biases_conv3`. MATLAB drops a last dimension of one.
    """
    if "weights_conv1" not in arrays:
        known = ", ".join(map(shortened, list(arrays)[:4])) or "nothing numeric"
        msg = f"holds {known}, expected SRCNN's weights_conv1, biases_conv1 and so on"
        raise CheckpointError(msg)
    first = _take(arrays, "weights_conv1", 2)
    second = _take(arrays, "weights_conv2", 2, 3)
    third = _take(arrays, "weights_conv3", 2)
    biases = [_take(arrays, f"biases_conv{k}", 1, 2).reshape(-1) for k in (1, 2, 3)]
    mapped = len(biases[1])
    if second.ndim == 2:  # f₂ = 1 in older files: (n₁, n₂)
        second = second.reshape(first.shape[1], -1, mapped)
    kernels = [first.T[:, None], second.transpose(2, 0, 1), third[None]]
    state: dict[str, Array] = {}
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True), 1):
        side = round(kernel.shape[2] ** 0.5)
        if side * side != kernel.shape[2]:
            msg = f"has weights_conv{number} with kernels of {kernel.shape[2]} values: not a square"
            raise CheckpointError(msg)
        columns = kernel.reshape(*kernel.shape[:2], side, side)
        state[f"conv{number}.weight"] = columns.transpose(0, 1, 3, 2)
        state[f"conv{number}.bias"] = bias
    return state, "srcnn", {}


def _from_graph(graph: Graph) -> tuple[dict[str, Array], str, dict[str, Any]]:
    """Graphs of Saafke's and fannymonori's code, with constants f1, b1, alpha1 and so on."""
    convs = graph.operations.count("Conv2D")
    if "alpha1" in graph.constants and convs >= 5:
        return _fsrcnn(graph.constants, convs), "fsrcnn", {"luma": "full"}
    if convs == 3 and "f3" in graph.constants and "DepthToSpace" in graph.operations:
        return _espcn(graph)
    if "0_0f" in graph.constants and "reconstruction_2_deconv_f_1" in graph.constants:
        return _lapsrn(graph.constants), "lapsrn", {"luma": "full"}
    msg = (
        f"is a TensorFlow graph of {convs} convolutions that is no ESPCN, FSRCNN or LapSRN of "
        "OpenCV's dnn_superres: only these are read"
    )
    raise CheckpointError(msg)


def _espcn(graph: Graph) -> tuple[dict[str, Array], str, dict[str, Any]]:
    stems = {1: "first_part.0", 2: "first_part.2", 3: "last_part.0"}
    state: dict[str, Array] = {}
    for number, stem in stems.items():
        state[f"{stem}.weight"] = _kernel(graph.constants, f"f{number}")
        state[f"{stem}.bias"] = _take(graph.constants, f"b{number}", 1)
    _check_luma(state["first_part.0.weight"])
    rectified = "Relu" in graph.operations
    tanhs = graph.operations.count("Tanh")
    config = {
        "activation": "relu" if rectified else "tanh",
        "bounded": tanhs == (1 if rectified else 3),
        "luma": "full",
    }
    return state, "espcn", config


def _lapsrn(arrays: Arrays) -> dict[str, Array]:
    """Ten convolutions a level, of which the first has one bias for all; two doublings a level."""
    state: dict[str, Array] = {}
    names = _numbered("Variable")  # kernels but the first of a level are numbered through
    doublings = _numbered("reconstruction_2_deconv_f")
    levels = [level for level in range(_MOST_LEVELS) if f"0_{level}f" in arrays]
    for level in levels:
        first = _kernel(arrays, f"0_{level}f")
        for k in range(sum(key.endswith(f"_{level}bias") for key in arrays)):
            kernel = _kernel(arrays, next(names)) if k else first
            bias = _take(arrays, f"{k}_{level}bias", 1)
            if len(bias) not in {1, len(kernel)}:
                msg = f"has {len(bias)} biases for a kernel of shape {kernel.shape}"
                raise CheckpointError(msg)
            state[f"levels.{level}.convs.{k}.weight"] = kernel
            state[f"levels.{level}.convs.{k}.bias"] = np.broadcast_to(bias, kernel.shape[:1])
        for part in ("detail", "enlarge"):
            state[f"levels.{level}.{part}.weight"] = _kernel(arrays, next(doublings))
    _check_luma(state["levels.0.convs.0.weight"])
    return state


def _numbered(name: str) -> Iterator[str]:
    """TensorFlow's names of equal names: `x`, `x_1`, `x_2` and so on."""
    yield name
    yield from (f"{name}_{number}" for number in count(1))


def _fsrcnn(arrays: Arrays, convs: int) -> dict[str, Array]:
    """The last convolution, 1×1, and the shuffle after it are a transposed one of kernel s×s."""
    stems = {1: "first_part.0"} | {k: f"mid_part.{2 * k - 4}" for k in range(2, convs)}
    slopes = {1: "first_part.1"} | {k: f"mid_part.{2 * k - 3}" for k in range(2, convs)}
    state: dict[str, Array] = {}
    for number, stem in stems.items():
        state[f"{stem}.weight"] = _kernel(arrays, f"f{number}")
        state[f"{stem}.bias"] = _take(arrays, f"b{number}", 1)
        state[f"{slopes[number]}.weight"] = _take(arrays, f"alpha{number}", 1)
    _check_luma(state["first_part.0.weight"])
    last = _take(arrays, f"f{convs}", 4)
    scale = round(last.shape[3] ** 0.5)
    if last.shape[:2] != (1, 1) or scale * scale != last.shape[3]:
        msg = f"has a last convolution of shape {last.shape}, expected 1×1 with scale² outputs"
        raise CheckpointError(msg)
    state["last_part.weight"] = last[0, 0].reshape(-1, 1, scale, scale)
    state["last_part.bias"] = _take(arrays, f"b{convs}", 1)
    return state


def _check_luma(kernel: Array) -> None:
    if kernel.shape[1] != 1:  # TensorFlow shuffles the pixels of several channels in another order
        msg = f"is a TensorFlow graph for {kernel.shape[1]} channels, expected one for luma"
        raise CheckpointError(msg)
