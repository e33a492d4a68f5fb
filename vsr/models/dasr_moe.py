"""DASR of 2022: a mixture of convolution experts, mixed by what the picture suffered.

Liang, Zeng, Zhang, "Efficient and Degradation-Adaptive Network for Real-World Image
Super-Resolution", 2022, arXiv:2203.14216, from OPPO. Not the DASR of 2021, which is led by a
contrastive representation and is `dasr`. New here: a small network predicts 33 numbers that
describe the degradation and, from them, one weight per expert. The experts are kernels of one
SRResNet-like network: their weighted sum is taken once a picture, and then a single network runs.

    net_p          (N, experts)         six 5×5 (the fourth with stride 2), mean over the picture,
                                        two linear layers without an activation between
    x              (N, C, H, W)
    conv_first     (N, F, H, W)         3×3, LeakyReLU
    body           (N, F, H, W)         `blocks` of 3×3, ReLU, 3×3, + input
    upconv1, 2     (N, F, s·H, s·W)     3×3, shuffle, LeakyReLU: twice by 2 for s = 4, else once
    conv_hr        (N, F, s·H, s·W)     3×3, LeakyReLU
    conv_last      (N, C, s·H, s·W)     3×3, + the picture enlarged bilinearly

Layout that is read: the authors', who save the two networks in two files, `net_g.pth` and
`net_p.pth`: a checkpoint is the union of both, with or without the prefixes `net_g.` and `net_p.`.
Their kernels have five dimensions, the experts first. Here the experts are stacked along the
outputs, because channels-last is for four dimensions only.

Deviations: none in inference. Training: the authors also ask of the 33 numbers to be the true
parameters of the degradation. The kernels differ by picture, so that an export has a fixed batch.

Tiling is approximate: tiles overlap by the whole radius of the convolutions, but each is judged by
itself, as the prediction is a mean over what is seen.
"""

import functools
import math
import re
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_modern import Linear

_SLOPE = 0.1
_PREDICTOR_SLOPE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class DASRMoEConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 3 for RGB and 1 for luma.
        features: Channels of the trunk.
        blocks: Residual blocks.
        experts: Kernels of every convolution.
        scale: Upscaling factor, 2, 3 or 4.
        predictor: Channels of the predictor.
        degradations: Numbers that describe a degradation.
        squeezed: Channels between the predictor's linear layers.
    """

    channels: Literal[1, 3] = 3
    features: int = 64
    blocks: int = 16
    experts: int = 5
    scale: int = 4
    predictor: int = 64
    degradations: int = 33
    squeezed: int = 15


class Predictor(nn.Module):
    """How much of each expert a picture needs, (N, C, H, W) to (N, experts)."""

    def __init__(self, config: DASRMoEConfig) -> None:
        super().__init__()
        wide, last = config.predictor, config.degradations
        widths = (config.channels, wide, wide, wide, wide, wide, last)
        layers: list[nn.Module] = []
        for k, stride in enumerate((1, 1, 1, 2, 1, 1)):
            layers += [
                nn.Conv2d(widths[k], widths[k + 1], 5, stride, padding=2),
                nn.LeakyReLU(_PREDICTOR_SLOPE),
            ]
        self.ConvNet = nn.Sequential(*layers)
        mixing = Linear(config.squeezed, config.experts)
        # so that a mixture of experts begins with the variance of one, and depth does not fade it
        nn.init.constant_(mixing.bias, config.experts**-0.5)
        self.MappingNet = nn.Sequential(Linear(last, config.squeezed), mixing)

    def forward(self, x: Tensor) -> Tensor:
        """Maps the mean of the features; the weights may be of any sign and sum."""
        return cast("Tensor", self.MappingNet(self.ConvNet(x).mean((2, 3))))


class MixedConv(nn.Module):
    """A 3×3 whose kernel is a mixture of experts' (the paper's equation 3)."""

    def __init__(self, inputs: int, outputs: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts * outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(experts, outputs))
        bound = 1 / math.sqrt(9 * inputs)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        """Maps (N, A, H, W) to (N, B, H, W); `mixture` is (N, experts)."""
        if torch.onnx.is_in_onnx_export():
            return self._all_experts(x, mixture)
        count, inputs, height, width = x.shape
        dtype, (experts, outputs) = self.weight.dtype, self.bias.shape
        kernels = self.weight.reshape(experts, -1).to(mixture.dtype)
        weight = (mixture @ kernels).to(dtype).reshape(count * outputs, inputs, 3, 3)
        bias = (mixture @ self.bias.to(mixture.dtype)).to(dtype).flatten()
        one = x.to(dtype).reshape(1, count * inputs, height, width)
        y = F.conv2d(one, weight, bias, padding=1, groups=count)
        return y.reshape(count, outputs, height, width)

    def _all_experts(self, x: Tensor, mixture: Tensor) -> Tensor:
        """The same, mixed after the convolution, for ONNX: it knows no groups of the batch's size.

        It costs as many convolutions as there are experts.
        """
        experts, outputs = self.bias.shape
        y = F.conv2d(x.to(self.weight.dtype), self.weight, self.bias.flatten(), padding=1)
        parts = (y[:, k * outputs : (k + 1) * outputs] for k in range(experts))
        shares = mixture.to(y.dtype)
        weighted = (part * shares[:, k, None, None, None] for k, part in enumerate(parts))
        return functools.reduce(torch.add, weighted)


class Block(nn.Module):
    """Two mixed convolutions in a residual; (N, F, H, W) to the same."""

    def __init__(self, features: int, experts: int) -> None:
        super().__init__()
        self.conv1 = MixedConv(features, features, experts)
        self.conv2 = MixedConv(features, features, experts)

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        """Adds what the convolutions make."""
        return cast("Tensor", x + self.conv2(F.relu(self.conv1(x, mixture)), mixture))


class Generator(nn.Module):
    """Super-resolution by a given mixture of experts."""

    def __init__(self, config: DASRMoEConfig) -> None:
        super().__init__()
        features, experts = config.features, config.experts
        self.factors = _factors(config.scale)
        self.scale = config.scale
        self.conv_first = MixedConv(config.channels, features, experts)
        self.body = nn.ModuleList(Block(features, experts) for _ in range(config.blocks))
        for k, factor in enumerate(self.factors):
            self.add_module(f"upconv{k + 1}", MixedConv(features, features * factor**2, experts))
        self.conv_hr = MixedConv(features, features, experts)
        self.conv_last = MixedConv(features, config.channels, experts)

    def forward(self, x: Tensor, mixture: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] and (N, experts) to (N, C, s·H, s·W)."""
        y = _leaky(self.conv_first(x, mixture))
        for block in self.body:
            y = block(y, mixture)
        for k, factor in enumerate(self.factors):
            y = self.get_submodule(f"upconv{k + 1}")(y, mixture)
            y = _leaky(F.pixel_shuffle(y, factor))
        y = self.conv_last(_leaky(self.conv_hr(y, mixture)), mixture)
        base = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return cast("Tensor", base + y)


class DASRMoE(nn.Module):
    """The network; keys equal those of the authors' two, under `net_g.` and `net_p.`.

    In bfloat16 the experts are mixed in float32, by weights that are computed in it. The
    convolutions' result is a detail that is added to the picture.
    """

    full_precision: tuple[str, ...] = ("net_p.MappingNet.0", "net_p.MappingNet.1")

    def __init__(self, config: DASRMoEConfig) -> None:
        super().__init__()
        self.net_g = Generator(config)
        self.net_p = Predictor(config)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        return cast("Tensor", self.net_g(x, self.net_p(x)))


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)


def _factors(scale: int) -> tuple[int, ...]:
    return (2, 2) if scale == 4 else (scale,)


def _spec(config: DASRMoEConfig) -> InputSpec:
    reach = 2
    for factor in _factors(config.scale):
        reach = math.ceil(reach / factor) + 1
    overlap = reach + 2 * config.blocks + 1
    return InputSpec(
        scale=config.scale, channels=config.channels, overlap=overlap, tiling="approximate"
    )


def _detect(state: StateDict) -> DASRMoEConfig | None:
    marks = ("net_g.conv_first", "net_g.upconv1", "net_p.ConvNet.0", "net_p.ConvNet.10")
    names = (*(f"{mark}.weight" for mark in marks), "net_p.MappingNet.0.weight")
    tensors = [state[name] for name in (*names, "net_g.conv_first.bias") if name in state]
    ours = all(key.startswith(("net_g.", "net_p.")) for key in state)
    if not ours or [tensor.ndim for tensor in tensors] != [4, 4, 4, 4, 2, 2]:
        return None
    first, up, enter, leave, mapping, bias = tensors
    if any(0 in tensor.shape for tensor in tensors):
        return None
    (experts, features), channels = bias.shape, first.shape[1]
    scale = math.isqrt(up.shape[0] // (experts * features))
    scale = 4 if "net_g.upconv2.weight" in state else scale
    if channels not in (1, 3) or scale not in (2, 3, 4):
        return None
    return DASRMoEConfig(
        channels=cast("Literal[1, 3]", channels),
        features=features,
        blocks=sum(bool(_BLOCK.fullmatch(key)) for key in state),
        experts=experts,
        scale=scale,
        predictor=enter.shape[0],
        degradations=leave.shape[0],
        squeezed=mapping.shape[0],
    )


_BLOCK = re.compile(r"net_g\.body\.\d{1,3}\.conv1\.weight")
_PREDICTOR = ("ConvNet.", "MappingNet.")


def _canonicalise(state: StateDict) -> StateDict:
    """Puts prefixes before the names of the two files, and stacks the experts."""
    first = state.get("conv_first.weight")
    mixed = first is not None and first.ndim == 5
    if mixed or "MappingNet.0.weight" in state:
        homes = ((k, "net_p." if k.startswith(_PREDICTOR) else "net_g.") for k in state)
        state = {home + key: state[key] for key, home in homes}
    if not any(key.startswith("net_g.") for key in state):
        return state
    return {key: v.flatten(0, 1) if v.ndim == 5 else v for key, v in state.items()}


ARCH = Architecture(
    id="dasr_moe",
    paper="DASR (mixture of experts), Liang et al. 2022, arXiv:2203.14216",
    config=DASRMoEConfig,
    build=DASRMoE,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=((DASRMoEConfig(), 8_055_998), (DASRMoEConfig(scale=2), 7_317_438)),
)
