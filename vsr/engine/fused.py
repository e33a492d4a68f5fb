"""Convolution and activation in one oneDNN primitive, for the CPU.

In eager mode an activation after a convolution is a second pass over memory that has just left the
cache. oneDNN applies it to the accumulator instead. The operators are the ones that PyTorch's own
compiler emits on CPUs; where they are missing, the modules stay as they are.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn

_CHANNELS_LAST = torch.channels_last


class FusedConv2d(nn.Module):
    """A 3×3-like convolution with its activation, weights packed once for oneDNN.

    Args:
        conv: Convolution with zero padding given in numbers.
        activation: The module that follows it, or None.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.padding, self.stride = list(map(int, conv.padding)), list(conv.stride)
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self.dtype = conv.weight.dtype
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(  # noqa: SLF001
            conv.weight.detach(), self.padding, self.stride, self.dilation, self.groups, None
        )
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.name, self.scalars = _attribute(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, K, H', W') in the weight's dtype, channels last."""
        x = x.to(self.dtype).contiguous(memory_format=_CHANNELS_LAST)
        return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]  # noqa: SLF001
            x,
            self.weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            self.name,
            self.scalars,
            "",
        )


def _attribute(activation: nn.Module | None) -> tuple[str, list[float]]:
    match activation:
        case None:
            return "none", []
        case nn.LeakyReLU():
            return "leaky_relu", [activation.negative_slope]
        case _:
            return "relu", []


def can_fuse() -> bool:
    """Whether this build of PyTorch has the operators."""
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    return bool(torch.backends.mkldnn.is_available()) and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.mkldnn, name) for name in names
    )


def fuse(network: nn.Module) -> nn.Module:
    """Replaces every convolution of a network, and a ReLU or LeakyReLU after it.

    Works in place, for inference on the CPU only. A `Sequential` keeps its length; fused
    activations become identities.

    Args:
        network: In eval mode, in its final dtype.

    Returns:
        The same network.
    """
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Sequential):
            _fuse_sequence(child)
        elif _fusable(child):
            setattr(network, name, FusedConv2d(child, None))
        else:
            fuse(child)
    return network


def _fuse_sequence(sequence: nn.Sequential) -> None:
    for index, layer in enumerate(sequence):
        if not _fusable(layer):
            fuse(layer)
            continue
        following = sequence[index + 1] if index + 1 < len(sequence) else None
        if isinstance(following, nn.ReLU | nn.LeakyReLU):
            sequence[index] = FusedConv2d(layer, following)
            sequence[index + 1] = nn.Identity()
        else:
            sequence[index] = FusedConv2d(layer, None)


def _fusable(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and module.padding != "same"
