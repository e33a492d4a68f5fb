"""TensorRT: NVIDIA's engine, built for one shape, precision, device and version, and kept on disk.

Networks are strongly typed: the types of the exported graph are the types of the arithmetic. This
is the only way in TensorRT 11, and one that 10 offers.
"""

import copy
import threading
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsr.engine.devices import DTYPES, Precision
from vsr.engine.engines._packages import load_package
from vsr.engine.engines._shapes import Prepared
from vsr.engine.engines.cache import EngineCache, EngineKey
from vsr.engine.export import INPUT, OUTPUT, check_result, export_onnx, model_digest, noise
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec

type _Shape = tuple[int, ...]


class TensorRtNetwork:
    """Runs a module by TensorRT, as an `Upscaler` for tensors on a CUDA device.

    Work is queued on PyTorch's current stream and not waited for. The engine for a shape is read
    from the cache or built, which takes minutes, when the shape is first seen.

    Args:
        module: In float32 on any device; it is copied where needed, never changed.
        spec: What the network accepts.
        device: The CUDA device.
        precision: fp32 or fp16.
        folder: Of built engines; `engines` in the cache of `vsr` if None.

    Raises:
        UsageError: TensorRT is not installed, or the network cannot be exported.
        DeviceError: Not a CUDA device, or another precision.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        precision: Precision,
        folder: Path | None = None,
    ) -> None:
        self._tensorrt = load_package("tensorrt", "tensorrt", "tensorrt")
        if device.type != "cuda":
            msg = f"engine tensorrt needs an NVIDIA GPU, not {device}: use --engine auto"
            raise DeviceError(msg)
        if precision == "bf16":
            msg = "engine tensorrt computes fp32 and fp16, not bf16: use --precision fp16 or fp32"
            raise DeviceError(msg)
        self.spec, self.device, self.precision = spec, device, precision
        self._module, self._dtype = module, DTYPES[precision]
        self._digest, self._cache = model_digest(module), EngineCache(folder)
        self._logger = self._tensorrt.Logger(self._tensorrt.Logger.ERROR)
        self._runtime = self._tensorrt.Runtime(self._logger)
        self._engines = Prepared(self._open)
        self._contexts = Prepared(self._context, keep=32)
        self.about: str | None = None
        """Name of the network, to be kept with the engines that are built."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype and device."""
        stream = torch.cuda.current_stream(self.device).cuda_stream
        return self._run(self._contexts((tuple(x.shape), stream, threading.get_ident())), x)

    def _run(self, context: Any, x: Tensor) -> Tensor:
        given = x.detach().to(self._dtype).contiguous()
        batch, channels, height, width = x.shape
        scale = self.spec.scale
        out = given.new_empty(batch, channels, scale * height, scale * width)
        context.set_tensor_address(INPUT, given.data_ptr())
        context.set_tensor_address(OUTPUT, out.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream(self.device).cuda_stream):
            msg = f"TensorRT failed on {self.device} for {tuple(x.shape)}: use --engine torch"
            raise DeviceError(msg)
        return out.to(x.dtype)

    def key(self, shape: _Shape) -> EngineKey:
        """Of the engine for an input of this shape, on this device, by this version."""
        return EngineKey(
            model=self._digest,
            shape=shape,
            precision=self.precision,
            device=torch.cuda.get_device_name(self.device),
            library=f"tensorrt {self._tensorrt.__version__}",
        )

    def _open(self, shape: _Shape) -> Any:
        return self._engine(self._built(shape))

    def _built(self, shape: _Shape) -> bytes:
        build = partial(self._build, shape)
        return self._cache.obtain(self.key(shape), build, self.about or "")

    def _engine(self, plan: bytes) -> Any:
        with torch.cuda.device(self.device):
            engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            msg = f"TensorRT cannot read an engine of {self._cache.folder}: delete it and run again"
            raise DeviceError(msg)
        return engine

    def _build(self, shape: _Shape) -> bytes:
        """Builds an engine, and refuses it if it is not the network that it was built of."""
        graph = export_onnx(self._module, self.spec, self.precision)
        with torch.cuda.device(self.device):
            plan = build_plan(self._tensorrt, self._logger, graph, shape)
        x = noise(self.spec, shape[0], *shape[2:]).to(self.device)
        network = copy.deepcopy(self._module).eval().to(self.device)
        with torch.inference_mode():
            got = self._run(_context(self._engine(plan), shape), x)
            check_result(got, network(x), self.precision)
        return plan

    def _context(self, key: tuple[_Shape, int, int]) -> Any:
        """One for each thread and stream: what is queued on two streams must not share one."""
        with torch.cuda.device(self.device):
            return _context(self._engines(key[0]), key[0])


def _context(engine: Any, shape: _Shape) -> Any:
    context = engine.create_execution_context()
    context.set_input_shape(INPUT, shape)
    return context


def build_plan(library: Any, logger: Any, graph: bytes, shape: _Shape) -> bytes:
    """Builds an engine for one shape.

    Args:
        library: The module tensorrt.
        logger: Of the library.
        graph: ONNX, of the arithmetic's types.
        shape: Of the input.

    Raises:
        UsageError: TensorRT does not know a part of the graph.
        DeviceError: It found no way to compute it on this device.
    """
    builder = library.Builder(logger)
    typed = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(graph):
        reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        msg = f"TensorRT does not take this network ({reason}): use --engine torch"
        raise UsageError(msg)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape(INPUT, shape, shape, shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        msg = f"TensorRT built no engine for {shape} on this device: use a smaller --tile"
        raise DeviceError(msg)
    return bytes(plan)
