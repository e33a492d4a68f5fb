"""A network in eight bits, for OpenVINO: integers go through the convolutions, floats between them.

What comes into a convolution is rounded to 256 steps of one range, its weights to 255 steps of one
range for each output channel (Jacob et al. 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference"). The ranges are those that rounding and clipping
together harm least, over pictures that are drawn: no file is needed, and every machine finds the
same. OpenVINO's low precision transformations do the rest.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vsr.engine.engines._packages import load_package
from vsr.engine.leaves import leaves
from vsr.models._base import InputSpec

_PICTURES: Final = 8
_SIDE: Final = 96
_TOGETHER: Final = 24
"""Convolutions that are looked at in one pass: what comes into all of a large network is much."""
_NARROWER: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Ranges that are tried, as a share of all values."""
_SPARSE: Final = 7
"""Of so many values one is judged by."""
_STEPS: Final = 255

type Range = tuple[float, float]


def in_eight_bits(core: Any, model: Any, spec: InputSpec) -> Any:
    """Rewrites a model so that its convolutions are computed in integers.

    Args:
        core: OpenVINO's.
        model: Of any shape of input; it is not changed.
        spec: What the network accepts.

    Returns:
        Another model, of the same ends.
    """
    ops = load_package("openvino", "openvino.opset13", "openvino")
    ranges = _ranges(core, model, spec)
    made = model.clone()
    for convolution, (low, high) in zip(_convolutions(made), ranges, strict=True):
        values, weights = (convolution.input_value(number) for number in (0, 1))
        ends = (np.float32(low), np.float32(high)) * 2
        rounded = ops.fake_quantize(values, *ends, _STEPS + 1)
        convolution.input(0).replace_source_output(rounded.output(0))
        largest = np.abs(weights.get_node().data).max(axis=(1, 2, 3), keepdims=True)
        most = np.maximum(largest, np.finfo(np.float32).tiny).astype(np.float32)
        rounded = ops.fake_quantize(weights, -most, most, -most, most, _STEPS)
        convolution.input(1).replace_source_output(rounded.output(0))
    return made


def _convolutions(model: Any) -> list[Any]:
    """Those whose weights are known, in the order in which they are computed."""
    return [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Convolution"
        and node.input_value(1).get_node().get_type_name() == "Constant"
    ]


def _ranges(core: Any, model: Any, spec: InputSpec) -> list[Range]:
    """For each convolution, the range in which what comes into it is rounded."""
    side = spec.fitting(_SIDE)
    pictures = leaves(_PICTURES, spec.channels or 1, side, side).numpy()
    found: list[Range] = []
    count = len(_convolutions(model))
    for begin in range(0, count, _TOGETHER):
        seen = _inputs(core, model, range(begin, min(begin + _TOGETHER, count)), pictures)
        found += map(_least_harm, seen)
    return found


def _inputs(
    core: Any, model: Any, numbers: Sequence[int], pictures: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """What comes into some of the convolutions; of the middle ones, a part."""
    openvino = load_package("openvino", "openvino", "openvino")
    copy = model.clone()
    convolutions = _convolutions(copy)
    ends = [convolutions[number].input_value(0) for number in numbers]
    watched = openvino.Model(ends, copy.get_parameters(), "watched")
    request = core.compile_model(
        watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    ).create_infer_request()
    seen: list[list[NDArray[np.float32]]] = [[] for _ in numbers]
    for picture in pictures:
        results = request.infer([picture[None]])
        for number, values in enumerate(seen):
            whole = results[number].ravel()
            extremes = np.array([whole.min(), whole.max()], np.float32)
            values.append(np.concatenate([extremes, whole[::_SPARSE]]))
    return [np.concatenate(values) for values in seen]


def _least_harm(values: NDArray[np.float32]) -> Range:
    """The range that rounding and clipping harm least; zero is one of its steps."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-6)
    candidates = [_with_zero(low * share, high * share) for share in _NARROWER]
    return min(candidates, key=lambda ends: _harm(values, *ends))


def _with_zero(low: float, high: float) -> Range:
    """A range of about these ends; the last bits, in which machines differ, do not count."""
    step = float(f"{(high - low) / _STEPS:.2e}")
    zero = min(round(-low / step), _STEPS)
    return -zero * step, (_STEPS - zero) * step


def _harm(values: NDArray[np.float32], low: float, high: float) -> float:
    step = (high - low) / _STEPS
    rounded = np.rint((values.clip(low, high) - low) / step) * step + low
    return float(np.square(rounded - values, dtype=np.float64).mean())
