"""Which engines there are, which of them work here, and how to open one."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from vsr.engine.base import Upscaler
from vsr.engine.devices import DTYPES, Precision, resolve_precision
from vsr.engine.engines._packages import is_installed, load_package
from vsr.engine.engines.compiled import CompiledNetwork
from vsr.engine.engines.onnxruntime import OnnxNetwork
from vsr.engine.engines.openvino import OpenVinoNetwork
from vsr.engine.engines.tensorrt import TensorRtNetwork
from vsr.engine.engines.triton import TritonNetwork
from vsr.engine.export import check_engine
from vsr.engine.network import Network
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One way to compute a network.

    Attributes:
        name: What `--engine` takes.
        packages: Modules that it needs beside PyTorch.
        devices: Kinds of PyTorch's devices that its tensors may be on.
        targets: Whether it has devices of its own, named after a colon.
        static: Whether each shape takes so long to prepare that all batches shall have one size.
        extra: Whether an extra of `vsr` of the same name installs its packages; the others come
            with PyTorch.
    """

    name: str
    packages: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")
    targets: bool = False
    static: bool = False
    extra: bool = True

    @property
    def installed(self) -> bool:
        """Whether its packages are there."""
        return all(map(is_installed, self.packages))


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(name="torch"),
        Engine(name="openvino", packages=("openvino", "onnx"), devices=("cpu",), targets=True),
        Engine(name="onnx", packages=("onnxruntime", "onnx"), targets=True),
        Engine(name="tensorrt", packages=("tensorrt", "onnx"), devices=("cuda",), static=True),
        Engine(name="triton", packages=("triton",), devices=("cuda",), extra=False),
        Engine(name="compile", static=True, extra=False),
    )
}
"""By name, PyTorch first."""

_EIGHT_BITS: Final = "openvino"
"""The engine that computes int8."""


def available_engines(device: torch.device) -> tuple[str, ...]:
    """Names of the engines that are installed and take tensors on a device, PyTorch first."""
    return tuple(
        engine.name
        for engine in ENGINES.values()
        if engine.installed and device.type in engine.devices
    )


def find_engine(name: str) -> tuple[Engine, str]:
    """Splits what `--engine` was given into an engine and its own name of a device, or nothing.

    Raises:
        UsageError: There is no such engine, or it is not installed.
        DeviceError: It is installed and does not start.
    """
    stem, colon, target = name.partition(":")
    engine = ENGINES.get(stem)
    if engine is None or bool(colon) != bool(target) or (target and not engine.targets):
        msg = f"unknown engine {name!r}: use auto, {', '.join(ENGINES)}"
        raise UsageError(msg)
    for package in engine.packages if engine.extra else ():
        load_package(engine.name, package, engine.name)
    return engine, target


def resolve_engine(name: str, precision: str = "auto") -> str:
    """Checks what `--engine` was given.

    Args:
        name: `auto` is PyTorch, which everybody has, and for int8 what computes that.
        precision: What `--precision` was given.

    Raises:
        UsageError: There is no such engine, or it is not installed.
        DeviceError: It is installed and does not start.
    """
    if name == "auto":
        name = _EIGHT_BITS if precision == "int8" else "torch"
    find_engine(name)
    return name


def engine_precision(name: str, precision: str, device: torch.device, spec: InputSpec) -> Precision:
    """Chooses the fastest safe precision of an engine, or checks a requested one.

    Args:
        name: What `--engine` was given.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`.
        device: Where the tensors are.
        spec: Of the network.

    Raises:
        UsageError: No such engine, or not a precision, or unsafe for this network.
        DeviceError: The engine cannot compute in it on this device.
    """
    engine, target = find_engine(name)
    if precision == "int8":
        _refuse_eight_bits(engine, target)
    if engine.name in ("torch", "compile") or (engine.name == "openvino" and target in ("", "CPU")):
        return resolve_precision(precision, device, spec)
    if precision != "auto" and precision not in DTYPES:
        return resolve_precision(precision, device, spec)  # says what there is
    on_processor = engine.name == "onnx" and (target or device.type) == "cpu"
    choices: tuple[Precision, ...] = ("fp32",) if on_processor else ("fp16", "fp32")
    if engine.name == "triton":
        choices = ("fp16",) if spec.half else ("fp32",)
    if precision == "fp16" and not spec.half:
        msg = "this network overflows in fp16: use --precision fp32"
        raise UsageError(msg)
    for choice in choices:
        if precision == choice or (precision == "auto" and (choice != "fp16" or spec.half)):
            return choice
    msg = f"engine {name} does not compute {precision} here: use --precision {choices[-1]}"
    raise DeviceError(msg)


def _refuse_eight_bits(engine: Engine, target: str) -> None:
    if engine.name != _EIGHT_BITS or target not in ("", "CPU"):
        name = f"{engine.name}:{target}" if target else engine.name
        msg = f"engine {name} does not compute int8: use --engine {_EIGHT_BITS}"
        raise DeviceError(msg)


def open_network(
    name: str, module: nn.Module, spec: InputSpec, device: torch.device, precision: Precision
) -> Upscaler:
    """Puts a network on a device by an engine, and makes sure that it is still the same network.

    Args:
        name: One of `ENGINES`; `openvino` and `onnx` with a device of their own after a colon if
            wanted, such as `openvino:GPU` or `onnx:directml`.
        module: In float32 on any device; it is copied where needed, never changed.
        spec: What the network accepts.
        device: Where the tensors are.
        precision: Arithmetic.

    Raises:
        UsageError: No such engine, it is not installed, or cannot express the network.
        DeviceError: The engine cannot use the device or the precision, or its result is wrong.
    """
    engine, target = find_engine(name)
    if device.type not in engine.devices:
        need = {"cpu": "--device cpu", "cuda": "--device cuda"}[engine.devices[0]]
        msg = f"engine {engine.name} does not run on {device}: use {need} or --engine torch"
        raise DeviceError(msg)
    if precision == "int8":
        _refuse_eight_bits(engine, target)
    network: OpenVinoNetwork | OnnxNetwork
    match engine.name:
        case "openvino":
            network = OpenVinoNetwork(module, spec, device, precision, target or "CPU")
        case "onnx":
            network = OnnxNetwork(module, spec, device, precision, target)
        case "tensorrt":
            return TensorRtNetwork(module, spec, device, precision)  # checks what it builds
        case "triton":
            return TritonNetwork(module, spec, device, precision)  # likewise
        case "compile":
            return CompiledNetwork(module, spec, device, precision)  # likewise
        case _:
            return Network(module, spec, device, precision)
    if not network.checked:  # what was built ahead was compared then
        check_engine(network, module, precision, device)
    return network
