"""Networks of ncnn (`.param` beside `.bin`), as Real-ESRGAN-ncnn-vulkan and Upscayl ship them.

Tencent/ncnn, `docs/developer-guide/param-and-model-file-structure.md` and `operators.md`: a text of
layers, and their numbers one after the other in a second file. Kernels are stored as float16 or
float32, told by a mark before them; biases and slopes always as float32. Two architectures are
recognised by the order of their layers: the compact network and RRDB. Free of torch.

Real-ESRGAN's x2 and x3 of `realesr-animevideov3` are the x4 network with a reduction of its result
as last layer; that layer is left out, because this program resamples by itself.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vsr.checkpoints.containers import shortened, whole
from vsr.errors import CheckpointError

PARAM_START = b"7767517"
"""How a network's text begins."""

WEIGHT_STARTS = (b"\x47\x6b\x30\x01", b"\x56\xc0\x02\x00", b"\x38\x4b\x0d\x00")
"""How files of weights mostly begin: float16, float32, int8."""

_FLOAT16, _FLOAT32, _INT8 = WEIGHT_STARTS
_PLAIN = bytes(4)
_MOST_TEXT = 4 << 20
_MOST_LAYERS = 1 << 14
_ARRAYS = -23300
_KERNEL = 3

type Array = NDArray[np.float32]
type Arrays = dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A line of the text.

    Attributes:
        kind: Type, such as `Convolution`.
        name: The converter's.
        inputs: How many blobs it takes.
        values: Its parameters by number, as text; arrays have their elements after the count.
    """

    kind: str
    name: str
    inputs: int
    values: Mapping[int, str]

    def whole(self, key: int, default: int = 0) -> int:
        """A parameter that is a whole number."""
        try:
            return int(self.values.get(key, default))
        except ValueError as error:
            raise self.odd(key) from error

    def real(self, key: int, default: float = 0.0) -> float:
        """A parameter that is a number."""
        try:
            return float(self.values.get(key, default))
        except ValueError as error:
            raise self.odd(key) from error

    def reals(self, key: int) -> list[float]:
        """A parameter that is an array."""
        try:
            return [float(x) for x in self.values.get(_ARRAYS - key, "0").split(",")[1:]]
        except ValueError as error:
            raise self.odd(key) from error

    def odd(self, key: int) -> CheckpointError:
        """What to raise about a parameter."""
        value = shortened(self.values.get(key, self.values.get(_ARRAYS - key, "")))
        return CheckpointError(f"has {shortened(self.name)} with parameter {key} = {value}")


def weights_beside(path: Path) -> Path:
    """The `.bin` of a `.param`: of the same stem, or of the stem without `-x2`, `-x3` or `-x4`.

    Raises:
        CheckpointError: Neither is there.
    """
    stems = dict.fromkeys((path.stem, re.sub(r"-x\d$", "", path.stem)))
    for stem in stems:
        found = path.with_name(f"{stem}.bin")
        if found.is_file():
            return found
    wanted = " or ".join(shortened(f"{stem}.bin") for stem in stems)
    msg = f"is an ncnn network without its weights: expected {wanted} beside it"
    raise CheckpointError(msg)


def read_ncnn(param: BinaryIO, weights: BinaryIO) -> tuple[Arrays, str, dict[str, Any]]:
    """Reads a network.

    Args:
        param: The text, at its start.
        weights: The numbers, at their start; all of them must be used.

    Returns:
        float32 arrays under the names of an architecture in `vsr.models`, that architecture, and
        what its configuration cannot be told from them.

    Raises:
        CheckpointError: A file is damaged, or the network is of another kind.
    """
    layers = _layers(param.read(_MOST_TEXT + 1))
    recognised = _recognised(layers)  # before its numbers are touched
    arrays = _Numbers(whole(weights)).of(layers)
    convolutions = [a for layer, a in zip(layers, arrays, strict=True) if _is_conv(layer)]
    slopes = [a for layer, a in zip(layers, arrays, strict=True) if layer.kind == "PReLU"]
    return recognised(convolutions, slopes)


def _layers(data: bytes) -> list[Layer]:
    if len(data) > _MOST_TEXT:
        msg = f"is an ncnn network of more than {_MOST_TEXT} bytes of text: too large to read"
        raise CheckpointError(msg)
    lines = data.decode("utf-8", "replace").split("\n")
    counts = re.fullmatch(r"(\d{1,5}) (\d{1,6})\s*", lines[1] if len(lines) > 1 else "")
    if lines[0].strip() != PARAM_START.decode() or counts is None:
        msg = "is a damaged ncnn network: expected 7767517 and the number of layers"
        raise CheckpointError(msg)
    found = [_layer(line) for line in lines[2:] if line.strip()]
    if len(found) != int(counts[1]) or len(found) > _MOST_LAYERS:
        msg = f"is a cut ncnn network: it claims {counts[1]} layers and has {len(found)}"
        raise CheckpointError(msg)
    return found


def _layer(line: str) -> Layer:
    match line.split():
        case [kind, name, inputs, outputs, *rest] if re.fullmatch(r"\d{1,3}", inputs):
            blobs = int(inputs) + (int(outputs) if re.fullmatch(r"\d{1,3}", outputs) else 1000)
            pairs = [re.fullmatch(r"(-?\d{1,6})=(\S{1,200})", word) for word in rest[blobs:]]
            if blobs <= len(rest) and all(pairs):
                values = {int(pair[1]): pair[2] for pair in pairs if pair}
                return Layer(kind=kind, name=name, inputs=int(inputs), values=values)
    msg = f"is a damaged ncnn network: the line {shortened(line.strip())} is no layer"
    raise CheckpointError(msg)


# numbers


def _is_conv(layer: Layer) -> bool:
    return layer.kind == "Convolution"


class _Numbers:
    """The second file, taken from its start to its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def of(self, layers: list[Layer]) -> list[tuple[Array, ...]]:
        """The arrays of every layer: kernel and bias, slopes, or none."""
        found = [self._layer(layer) for layer in layers]
        if self._position != len(self._data):
            msg = (
                f"uses {self._position} bytes of weights, its .bin has {len(self._data)}: it is of "
                "another network"
            )
            raise CheckpointError(msg)
        return found

    def _layer(self, layer: Layer) -> tuple[Array, ...]:
        if layer.kind == "PReLU":
            return (self._raw(layer, layer.whole(0)),)
        if not _is_conv(layer):
            return ()
        outputs, count = layer.whole(0), layer.whole(6)
        inputs = count // max(1, outputs * _KERNEL**2)
        if outputs < 1 or count < 1 or inputs * outputs * _KERNEL**2 != count:
            msg = f"has {shortened(layer.name)} with {count} weights for {outputs} outputs of 3×3"
            raise CheckpointError(msg)
        kernel = self._marked(layer, count).reshape(outputs, inputs, _KERNEL, _KERNEL)
        return kernel, self._raw(layer, outputs)

    def _marked(self, layer: Layer, count: int) -> Array:
        """Numbers after a mark that tells their type; float16 is padded to four bytes."""
        mark = self._bytes(layer, 4)
        if mark == _FLOAT16:
            data = self._bytes(layer, 2 * count + 2 * (count % 2))
            return np.frombuffer(data, "<f2", count).astype(np.float32)
        if mark in {_PLAIN, _FLOAT32}:
            return self._raw(layer, count)
        what = "int8" if mark == _INT8 else "a palette or unknown"
        msg = f"stores {shortened(layer.name)} as {what}: only float16 and float32 are read"
        raise CheckpointError(msg)

    def _raw(self, layer: Layer, count: int) -> Array:
        return np.frombuffer(self._bytes(layer, 4 * max(0, count)), "<f4")

    def _bytes(self, layer: Layer, count: int) -> bytes:
        begin, self._position = self._position, self._position + count
        if self._position > len(self._data):
            msg = (
                f"needs {count} bytes for {shortened(layer.name)}, its .bin has "
                f"{max(0, len(self._data) - begin)} left: it is cut or of another network"
            )
            raise CheckpointError(msg)
        return self._data[begin : self._position]


# which network

type Named = tuple[Arrays, str, dict[str, Any]]
type Naming = Callable[[list[tuple[Array, ...]], list[tuple[Array, ...]]], Named]

_COMPACT = re.compile(r"(?:C([PZT])(?:C\1)*)CSNAI?")
_RRDB = re.compile(r"C(?:(?:CLKCLKCLKCLKCE){3}E)+CA(?:NCL){1,3}CLC")
_ACTIVATIONS = {"P": "prelu", "Z": "relu", "T": "leakyrelu"}
_SLOPES = {0.0: "Z", 0.1: "T", 0.2: "L"}


def _recognised(layers: list[Layer]) -> Naming:
    """The function that gives a network's arrays their names, by the order of its layers."""
    order = "".join(map(_letter, layers))
    if found := _COMPACT.fullmatch(order):
        activation = _ACTIVATIONS[found[1]]
        scale = _scale(layers)
        return lambda convs, slopes: (
            _compact(convs, slopes),
            "compact",
            {"activation": activation, "scale": scale},
        )
    if _RRDB.fullmatch(order):
        if any(_factor(layer) != 2 for layer in layers if layer.kind == "Interp"):
            msg = "is an RRDB that enlarges by other steps than 2"
            raise CheckpointError(msg)
        doublings = order.count("N")
        return lambda convs, _: (_rrdb(convs, doublings), "rrdb", {})
    msg = (
        f"is an ncnn network of {len(layers)} layers that is neither compact nor RRDB, as of "
        "Real-ESRGAN-ncnn-vulkan: only these are read"
    )
    raise CheckpointError(msg)


def _letter(layer: Layer) -> str:  # noqa: PLR0911 - one return per kind
    """A layer as one letter, or two where an activation is fused; `?` is not understood."""
    match layer.kind:
        case "Input" | "Split":
            return ""
        case "Convolution":
            return _conv_letters(layer)
        case "PReLU":
            return "P"
        case "ReLU":
            return _slope_letter(layer.real(0))
        case "PixelShuffle":
            return "S" if layer.whole(1) == 0 else "?"
        case "Interp":
            return "N" if layer.whole(0) == 1 else "I"
        case "Concat":
            return "K" if layer.whole(0) == 0 else "?"
        case "BinaryOp":
            return "A" if layer.whole(0) == 0 and layer.inputs == 2 else "?"
        case "Eltwise" if layer.whole(0) == 1:
            return _sum_letter(layer.reals(1))
        case _:
            return "?"


def _conv_letters(layer: Layer) -> str:
    """A convolution of 3×3 with zeros around, and its activation."""
    size = {layer.whole(1), layer.whole(11, layer.whole(1))}
    steps = {layer.whole(key, 1) for key in (2, 3, 12, 13)}
    around = {layer.whole(key, 1) for key in (4, 14, 15, 16)}
    if size != {_KERNEL} or {*steps, *around} != {1} or layer.whole(5) != 1:
        return "?"
    match layer.whole(9):
        case 0:
            return "C"
        case 1:
            return "CZ"
        case 2:
            return "C" + _slope_letter(next(iter(layer.reals(10)), 0.0))
        case _:
            return "?"


def _slope_letter(slope: float) -> str:
    return next((c for known, c in _SLOPES.items() if math.isclose(slope, known)), "?")


def _sum_letter(shares: list[float]) -> str:
    """A plain sum, or a fifth of the first and all of the second."""
    if shares in ([], [1.0, 1.0]):
        return "A"
    fifth = len(shares) == 2 and math.isclose(shares[0], 0.2) and shares[1] == 1
    return "E" if fifth else "?"


def _factor(layer: Layer) -> float:
    factors = {layer.real(1, 1.0), layer.real(2, 1.0)}
    return factors.pop() if len(factors) == 1 else math.nan


def _scale(layers: list[Layer]) -> int:
    scale = next(layer.whole(0) for layer in layers if layer.kind == "PixelShuffle")
    base = next(_factor(layer) for layer in layers if layer.kind == "Interp")
    if scale != base:
        msg = f"adds a picture enlarged by {base:g} to one of {scale} times the size"
        raise CheckpointError(msg)
    return scale


def _compact(convs: list[tuple[Array, ...]], slopes: list[tuple[Array, ...]]) -> Arrays:
    state: Arrays = {}
    for number, (kernel, bias) in enumerate(convs):
        state[f"body.{2 * number}.weight"], state[f"body.{2 * number}.bias"] = kernel, bias
    for number, (slope,) in enumerate(slopes):
        state[f"body.{2 * number + 1}.weight"] = slope
    return dict(sorted(state.items(), key=lambda item: int(item[0].split(".")[1])))


def _rrdb(convs: list[tuple[Array, ...]], doublings: int) -> Arrays:
    ends = ["conv_body", *(f"conv_up{k + 1}" for k in range(doublings)), "conv_hr", "conv_last"]
    blocks = (len(convs) - 1 - len(ends)) // 15
    names = ["conv_first"]
    names += [
        f"body.{block}.rdb{dense}.conv{conv}"
        for block in range(blocks)
        for dense in (1, 2, 3)
        for conv in (1, 2, 3, 4, 5)
    ]
    state: Arrays = {}
    for name, (kernel, bias) in zip(names + ends, convs, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = kernel, bias
    return state
