"""A network as an ONNX graph for other engines, and the proof that nothing changed on the way.

The graph takes any batch, height and width. It is written by PyTorch's exporter of traced graphs:
the newer one needs two more packages and ten times as long, and gains nothing for networks without
branches. A trace freezes what the network computes from its input's size outside of tensors, so an
engine that got the graph is compared with the network at another size (see `check_engine`).
"""

import contextlib
import copy
import hashlib
import io
import warnings

import torch
from torch import Tensor, nn

from vsr.engine.base import Upscaler
from vsr.engine.devices import DTYPES, Precision
from vsr.engine.engines._packages import load_package
from vsr.engine.leaves import leaves
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec

INPUT, OUTPUT = "x", "y"
"""Names of the graph's ends."""

OPSET = 20
"""The newest that the exporter of traced graphs writes."""

TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 4e-2, "int8": 0.00398}
"""Largest root mean square of the difference from float32, of values about [0, 1]; int8's is 48 dB.

Noise is the hardest input: of it bf16 leaves 42 dB with Real-ESRGAN's trained compact network, of
pictures with the spectrum of photographs 57 dB. What a trace froze is off by far more, or fails.
"""

_JUDGED = 72
"""Side of the pictures by which eight bits are judged."""
_SETTING = (bool, int, float, str)
"""Types of a layer's attributes that may change what it computes, such as a residual's scale."""


def export_onnx(module: nn.Module, spec: InputSpec, precision: Precision = "fp32") -> bytes:
    """Writes a network as an ONNX graph from `x` to `y`, of any batch, height and width.

    Args:
        module: In float32 on any device; it is copied, never changed.
        spec: What the network accepts.
        precision: Type of the graph's weights and of both its ends.

    Returns:
        The ONNX file, with the weights inside.

    Raises:
        UsageError: The package onnx is missing, or the network does something that ONNX has no
            word for.
    """
    load_package("onnx", "onnx", "onnx")
    dtype = DTYPES[precision]
    network = copy.deepcopy(module).eval().requires_grad_(requires_grad=False).to("cpu", dtype)
    axes = {0: "batch", 2: "height", 3: "width"}
    graph = io.BytesIO()
    try:
        # The exporter prints the whole graph when it fails, and warns of its successor.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (noise(spec, 1, 16, 24).to(dtype),),
                graph,  # type: ignore[arg-type]  # the traced exporter takes a stream
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: axes, OUTPUT: axes},
                opset_version=OPSET,
            )
    except Exception as error:  # the exporter raises whatever its translation stumbles over
        reason = str(error).strip().partition("\n")[0].partition("  [Caused by")[0]
        reason = reason or type(error).__name__
        msg = f"this network cannot be exported to ONNX ({reason}): use --engine torch"
        raise UsageError(msg) from error
    return graph.getvalue()


def noise(spec: InputSpec, batch: int, height: int, width: int) -> Tensor:
    """A picture of about the size asked for that a network accepts, the same every time."""
    sides = map(spec.fitting, (height, width))
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, spec.channels or 1, *sides, generator=generator)


def _pictures(spec: InputSpec) -> Tensor:
    """What eight bits are judged by; others than those that their ranges come from."""
    side = spec.fitting(_JUDGED)
    return leaves(3, spec.channels or 1, side, side + spec.multiple_of, seed=1)


def check_engine(
    engine: Upscaler, module: nn.Module, precision: Precision, device: torch.device
) -> float:
    """Compares an engine with the network it came from, at another size than that of the trace.

    Args:
        engine: To be trusted or not.
        module: The network in float32.
        precision: Arithmetic of the engine; `TOLERANCES` says what it may cost.
        device: Where the engine takes its tensors.

    Returns:
        Root mean square of the difference from the network in float32 on the CPU.

    Raises:
        DeviceError: They differ by more than rounding, or the engine cannot compute this size.
    """
    x = _pictures(engine.spec) if precision == "int8" else noise(engine.spec, 2, 27, 13)
    network = copy.deepcopy(module).eval().to("cpu")
    with torch.inference_mode():
        expected = network(x)
        try:
            got = engine(x.to(device))
        except MemoryError:
            raise
        except Exception as error:  # each engine raises what it likes
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            msg = f"the engine cannot compute this network ({reason}): use --engine torch"
            raise DeviceError(msg) from error
    return check_result(got, expected, precision)


def check_result(got: Tensor, expected: Tensor, precision: Precision) -> float:
    """Compares an engine's result with the network's in float32.

    Args:
        got: The engine's.
        expected: The network's.
        precision: Of the engine; `TOLERANCES` says what it may cost.

    Returns:
        Root mean square of the difference.

    Raises:
        DeviceError: The shapes or the values differ by more than rounding.
    """
    difference = float("inf")
    if got.shape == expected.shape:
        difference = float((got.to(expected) - expected).square().mean().sqrt())
    bound = TOLERANCES[precision] * max(1.0, float(expected.abs().max()))
    if not difference <= bound and precision == "int8":
        msg = (
            f"int8 brings this network's result off its own by {difference:.3g}, at most "
            f"{bound:.3g} (48 dB) was expected: use --precision bf16 or fp32"
        )
        raise DeviceError(msg)
    if not difference <= bound:  # NaN is not less either
        msg = (
            f"the engine's result is off the network's by {difference:.3g} in {precision}, at most "
            f"{bound:.3g} was expected: use --engine torch"
        )
        raise DeviceError(msg)
    return difference


def model_digest(module: nn.Module) -> str:
    """SHA-256 of a network's structure, weights and buffers, as hexadecimal digits.

    Args:
        module: On any device.
    """
    digest = hashlib.sha256(f"{module!r}\n".encode())
    for name, layer in module.named_modules():
        settings = {k: v for k, v in vars(layer).items() if isinstance(v, _SETTING)}
        settings.pop("training", None)
        kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
        digest.update(f"{name} {kind} {sorted(settings.items())}\n".encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
