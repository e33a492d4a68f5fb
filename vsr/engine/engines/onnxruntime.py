"""ONNX Runtime: one graph on CUDA, DirectML, CoreML or the processor.

The graph takes any shape, and making it is most of the work of opening: `vsr engine build` keeps it
on disk.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsr.engine.devices import DTYPES, Precision
from vsr.engine.engines._packages import load_package
from vsr.engine.engines._shapes import Prepared, lanes
from vsr.engine.engines.cache import EngineCache, EngineKey
from vsr.engine.export import INPUT, OUTPUT, export_onnx, model_digest
from vsr.errors import DeviceError
from vsr.models._base import InputSpec

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
_WHEELS = {"cuda": "onnxruntime-gpu", "directml": "onnxruntime-directml", "coreml": "onnxruntime"}
_ERRORS_ONLY = 3


class OnnxNetwork:
    """Runs a module by ONNX Runtime, as an `Upscaler`.

    Any number of threads may call it at the same time. It reads and writes PyTorch's memory without
    copies, on the processor as on a CUDA device.

    Args:
        module: In float32 on any device; it is copied, never changed.
        spec: What the network accepts.
        device: Where the tensors are.
        precision: Arithmetic inside: fp32, or fp16 except on the processor.
        target: `cpu`, `cuda`, `directml` or `coreml`; by the device if empty.
        folder: Of kept graphs; `engines` in the cache of `vsr` if None.

    Raises:
        UsageError: ONNX Runtime is not installed, or the network cannot be exported.
        DeviceError: The target is missing or cannot compute in this precision.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        precision: Precision,
        target: str = "",
        folder: Path | None = None,
    ) -> None:
        self._runtime = load_package("onnx", "onnxruntime", "onnx")
        self.spec, self.device, self.precision = spec, device, precision
        self.target = target or device.type
        _require(self._runtime, self.target, device, precision)
        self._dtype = DTYPES[precision]
        self._threads = torch.get_num_threads()
        self._digest, self._cache = model_digest(module), EngineCache(folder)
        kept = self._cache.find(self.key())
        self.checked = kept is not None
        """Whether the graph was compared with the network before."""
        self._graph = kept or export_onnx(module, spec, precision)
        self._sessions = Prepared(self._open)

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype and device."""
        given = x.detach().to(self._dtype).contiguous()
        batch, channels, height, width = x.shape
        scale = self.spec.scale
        out = given.new_empty(batch, channels, scale * height, scale * width)
        session = self._sessions(torch.get_num_threads())
        binding = session.io_binding()
        binding.bind_input(INPUT, *self._place(given))
        binding.bind_output(OUTPUT, *self._place(out))
        if x.is_cuda:
            torch.cuda.current_stream(x.device).synchronize()  # the session has its own stream
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return out.to(x.dtype)

    def key(self) -> EngineKey:
        """Of the graph, which is for any shape and device."""
        return EngineKey(
            model=self._digest,
            shape=(),
            precision=self.precision,
            device="any",
            library=f"onnxruntime {self._runtime.__version__}",
        )

    def keep(self, about: str) -> None:
        """Puts the graph on disk with the name of the network."""
        if not self.checked:
            self._cache.store(self.key(), self._graph, about)

    def _place(self, x: Tensor) -> tuple[str, int, str, list[int], int]:
        kind = "float16" if self.precision == "fp16" else "float32"
        return x.device.type, x.device.index or 0, kind, list(x.shape), x.data_ptr()

    def _open(self, share: int) -> Any:
        """A session for callers that have this many threads each.

        Its threads help whoever calls; with all callers at once there are as many as cores.
        """
        options = self._runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = self._threads - lanes(self._threads, share) + 1
        options.inter_op_num_threads = 1
        # Spinning threads take the cores from the decoder and the encoder, and gain nothing here.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        provider: Any = PROVIDERS[self.target]
        if self.target == "cuda":
            provider = (provider, {"device_id": str(self.device.index or 0)})
        if self.target == "directml":
            options.enable_mem_pattern = False  # DirectML asks for it
        return self._runtime.InferenceSession(self._graph, options, providers=[provider])


def _require(runtime: Any, target: str, device: torch.device, precision: Precision) -> None:
    if target not in PROVIDERS:
        msg = f"ONNX Runtime has no target {target!r}: use one of {', '.join(PROVIDERS)}"
        raise DeviceError(msg)
    if (target == "cuda") != (device.type == "cuda"):
        msg = f"engine onnx on {target} cannot take tensors on {device}: choose one device"
        raise DeviceError(msg)
    if PROVIDERS[target] not in runtime.get_available_providers():
        msg = f"this ONNX Runtime has no {target}: pip install {_WHEELS.get(target, 'onnxruntime')}"
        raise DeviceError(msg)
    if precision == "bf16" or (precision == "fp16" and target == "cpu"):
        msg = f"ONNX Runtime does not compute {precision} on {target}: use --precision fp32"
        raise DeviceError(msg)
