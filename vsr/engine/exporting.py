"""The ONNX graph of a checkpoint, compared with its network before anybody gets it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsr.engine.blends import join_checkpoints
from vsr.engine.devices import DTYPES, Precision
from vsr.engine.engines._packages import is_installed, load_package
from vsr.engine.export import INPUT, OPSET, check_engine, export_onnx
from vsr.models._base import InputSpec

_ERRORS_ONLY = 3


class _Graph:
    """A graph on the processor, as an `Upscaler`; slow and plain, for comparing only."""

    def __init__(self, data: bytes, spec: InputSpec, precision: Precision) -> None:
        runtime: Any = load_package("onnx", "onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self.spec = spec
        self._dtype = DTYPES[precision]
        self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype."""
        (result,) = self._session.run(None, {INPUT: x.to(self._dtype).numpy()})
        return torch.from_numpy(result).to(x.dtype)


def export_checkpoint(path: Path, precision: Precision) -> tuple[bytes, str]:
    """Makes the graph of a checkpoint's network.

    Args:
        path: A checkpoint of any kind.
        precision: Type of the graph's weights and of both its ends.

    Returns:
        The ONNX file's bytes, and a line about it for people.

    Raises:
        CheckpointError: The file is unreadable or fits no architecture.
        UsageError: The package onnx is missing, or the network cannot be exported.
        DeviceError: The graph computes something else than the network.
    """
    module, spec = join_checkpoints([path]).network()
    data = export_onnx(module, spec, precision)
    about = f"opset {OPSET}, {_ends(spec)}"
    if not is_installed("onnxruntime"):
        return data, f"{about}; not compared with the network: onnxruntime is missing"
    difference = check_engine(_Graph(data, spec, precision), module, precision, torch.device("cpu"))
    return data, f"{about}; off the network by {difference:.1e} (root mean square)"


def _ends(spec: InputSpec) -> str:
    colour = {1: "luma", 3: "RGB"}.get(spec.channels or 0, "planes")
    if spec.channels == 1 and spec.luma == "studio":
        colour = "luma with black at 16/255 and white at 235/255"
    sides = f", sides multiples of {spec.multiple_of}" if spec.multiple_of > 1 else ""
    return f"{colour} in [0, 1] as (N, {spec.channels or 'C'}, H, W), x{spec.scale}{sides}"
