"""A network on its device in its precision, as an `Upscaler`."""

import copy

import torch
from torch import Tensor, nn

from vsr.engine.devices import DTYPES, Precision
from vsr.engine.fused import can_fuse, fuse
from vsr.models._base import InputSpec


class Network:
    """Runs a module without gradients on one device.

    In bf16 every convolution computes in bfloat16, but the modules that the network names in
    `full_precision` keep float32, and a final addition to the float32 input stays float32: eight
    bits of mantissa are not enough for a final pixel.

    Args:
        module: In float32 on any device; it is copied, never changed.
        spec: What the network accepts.
        device: Where to run.
        precision: Arithmetic of the convolutions.
        fused: Whether activations join their convolutions on the CPU; a compiler does so itself.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        precision: Precision,
        *,
        fused: bool = True,
    ) -> None:
        self.spec = spec
        self.device, self.precision = device, precision
        self._dtype = torch.float16 if precision == "fp16" else torch.float32
        self._module = _prepared(module, device, precision, fused=fused)

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype and device."""
        y: Tensor = self._module(x.to(self._dtype))
        return y.to(x.dtype)


def _prepared(
    module: nn.Module, device: torch.device, precision: Precision, *, fused: bool
) -> nn.Module:
    network = copy.deepcopy(module).eval().requires_grad_(requires_grad=False).to(device)
    network = network.to(memory_format=torch.channels_last)
    if precision == "fp16":
        network = network.half()
    elif precision == "bf16":
        _to_bfloat16(network)
    if fused and device.type == "cpu" and can_fuse():
        return fuse(network)
    if precision == "bf16":
        _cast_inputs(network)
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()  # lanes compute on streams of their own
    return network


def _to_bfloat16(network: nn.Module) -> None:
    kept: tuple[str, ...] = getattr(network, "full_precision", ())
    for name, layer in network.named_modules():
        exempt = any(name == k or name.startswith(k + ".") for k in kept)
        if not exempt and next(layer.children(), None) is None:
            layer.to(DTYPES["bf16"])


def _cast_inputs(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(_match_weight)


def _match_weight(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight = layer.weight
    return (args[0].to(weight.dtype),) if isinstance(weight, Tensor) else args
