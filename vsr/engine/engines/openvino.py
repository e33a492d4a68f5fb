"""OpenVINO: Intel's engine for processors of any maker, and for Intel's GPUs and NPUs.

A model is compiled for each shape of input, which takes a tenth of a second (on GPUs and NPUs more)
and makes it faster than one for all shapes; `vsr engine build` keeps compiled ones on disk. It
reads and writes PyTorch's memory without copies.
"""

import logging
import math
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsr.engine.devices import Precision
from vsr.engine.engines._packages import load_package
from vsr.engine.engines._shapes import Prepared, lanes
from vsr.engine.engines.cache import EngineCache, EngineKey
from vsr.engine.engines.eight_bits import in_eight_bits
from vsr.engine.export import export_onnx, model_digest
from vsr.errors import DeviceError
from vsr.models._base import InputSpec

_log = logging.getLogger(__name__)

type _Key = tuple[tuple[int, ...], int]
"""Shape of the input, and threads of whoever calls."""

_HINTS: dict[str, str] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
_CAPABILITIES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8"}
_CORE: Prepared[Any, Any] = Prepared(lambda package: package.Core())
"""The one core of this process, by the package; it stays until the process ends.

The CPU plugin gives the thread that loads it another stack for signal handlers, and unmaps it with
its core, in whatever thread that ends (`SigAltStackSetup` in intel_cpu): the next signal to the
first thread would end the process without a word.
"""


class OpenVinoNetwork:
    """Runs a module by OpenVINO, as an `Upscaler` for tensors on the CPU.

    Any number of threads may call it at the same time. On the processor each call uses as many
    threads as PyTorch would in its place, and no more calls run at once than PyTorch's threads at
    construction allow; the others wait.

    Args:
        module: In float32 on any device; it is copied, never changed.
        spec: What the network accepts.
        device: Where the tensors are; the CPU.
        precision: Arithmetic inside; both ends are float32.
        target: OpenVINO's own name of a device: CPU, GPU, GPU.1, NPU, AUTO.
        folder: Of built engines; `engines` in the cache of `vsr` if None.

    Raises:
        UsageError: OpenVINO is not installed, or the network cannot be exported.
        DeviceError: The target is missing or cannot compute in this precision.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        precision: Precision,
        target: str = "CPU",
        folder: Path | None = None,
    ) -> None:
        self._openvino = load_package("openvino", "openvino", "openvino")
        if device.type != "cpu":
            msg = f"engine openvino takes tensors on the CPU, not on {device}: use --device cpu"
            raise DeviceError(msg)
        self.spec, self.device, self.precision, self.target = spec, device, precision, target
        self._core = _CORE(self._openvino)
        _require(self._core, target, precision)
        self._threads = torch.get_num_threads()
        self._module, self._model = module, None
        self._digest, self._cache = model_digest(module), EngineCache(folder)
        self._compiled = Prepared(self._compile)
        self.about: str | None = None
        """Name of the network; if set, what is compiled is kept on disk with it."""
        self.checked = self._cache.knows(self.key(()))
        """Whether an engine of this network was compared with it before."""
        if not self.checked:
            self._read()

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype and device."""
        compiled = self._compiled((tuple(x.shape), torch.get_num_threads()))
        given = x.to(torch.float32).contiguous()
        return compiled(given).to(x.dtype)

    def _compile(self, key: _Key) -> "_Compiled":
        shape, share = key
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self.target == "CPU":
            # Pinned threads would sit on the cores of the decoder, the encoder and each other.
            options |= {
                "INFERENCE_NUM_THREADS": self._threads,
                "NUM_STREAMS": lanes(self._threads, share),
                "ENABLE_CPU_PINNING": False,
            }
        return _Compiled(self._built(shape, options), self._openvino.Tensor)

    def key(self, shape: tuple[int, ...]) -> EngineKey:
        """Of the engine for an input of this shape, on this device, by this version."""
        auto = self.target == "AUTO"
        name = "auto" if auto else str(self._core.get_property(self.target, "FULL_DEVICE_NAME"))
        return EngineKey(
            model=self._digest,
            shape=shape,
            precision=self.precision,
            device=name,
            library=f"openvino {self._openvino.__version__}",
        )

    def _built(self, shape: tuple[int, ...], options: dict[str, Any]) -> Any:
        """A compiled model, from the disk where it is there."""
        plan = self._cache.find(self.key(shape)) if self.checked else None
        if plan is not None:
            try:
                return self._core.import_model(plan, self.target, options)
            except RuntimeError as error:
                reason = str(error).strip().partition("\n")[0]
                _log.warning("a built engine cannot be read and is compiled again: %s", reason)
        model = self._read().clone()
        model.reshape(list(shape))
        if self.precision in ("fp16", "bf16"):
            _keep_picture(model)
        compiled = self._core.compile_model(model, self.target, options)
        if self.about is not None:
            self._cache.store(self.key(shape), compiled.export_model().getvalue(), self.about)
        return compiled

    def _read(self) -> Any:
        if self._model is None:
            self._model = self._core.read_model(export_onnx(self._module, self.spec))
            if self.precision == "int8":
                self._model = in_eight_bits(self._core, self._model, self.spec)
        return self._model


class _Compiled:
    """A model of one shape, and the requests that are not in use."""

    def __init__(self, model: Any, wrap: Any) -> None:
        self._model, self._wrap = model, wrap
        self._shape = tuple(model.output(0).shape)
        self._idle: deque[Any] = deque()

    def __call__(self, x: Tensor) -> Tensor:
        try:
            request = self._idle.popleft()
        except IndexError:
            request = self._model.create_infer_request()
        out = torch.empty(self._shape)
        request.set_input_tensor(self._wrap(x.detach().numpy(), shared_memory=True))
        request.set_output_tensor(self._wrap(out.numpy(), shared_memory=True))
        request.infer()
        self._idle.append(request)
        return out


def _require(core: Any, target: str, precision: Precision) -> None:
    here = core.available_devices
    base = target.partition(".")[0]
    if base != "AUTO" and target not in here and base not in here:
        msg = f"OpenVINO has no device {target} here, only {', '.join(here)}: use one of these"
        raise DeviceError(msg)
    if base == "AUTO" or precision == "fp32":
        return
    if _CAPABILITIES[precision] not in core.get_property(target, "OPTIMIZATION_CAPABILITIES"):
        msg = (
            f"OpenVINO computes {precision} slowly or not at all on {target}: use --precision fp32"
        )
        raise DeviceError(msg)


def _keep_picture(model: Any) -> None:
    """Lets the input itself pass in float32 where a network adds it, repeated, to its detail.

    OpenVINO would round it to the eight bits of bfloat16 in an `Interpolate`, but not where the
    same is said by copying channels and shuffling them into place. Worth 3 dB with bf16.

    Args:
        model: Of static shape; changed.
    """
    ops = load_package("openvino", "openvino.opset13", "openvino")
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Interpolate":
            continue
        source = node.input_value(0)
        before, after = (tuple(end.shape) for end in (source, node.output(0)))
        scale = math.gcd(after[2] // before[2], after[3] // before[3])
        whole = (*before[:2], scale * before[2], scale * before[3]) == after
        nearest = node.get_attributes()["mode"] == "nearest"
        if whole and nearest and source.get_node().get_type_name() == "Parameter":
            copies = ops.tile(source, ops.constant([1, scale**2, 1, 1]))
            shuffled = ops.depth_to_space(copies, "blocks_first", scale)
            node.output(0).replace(shuffled.output(0))
