"""VDSR: twenty layers that learn only what the enlargement lacks.

Kim, Lee, Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016,
arXiv:1511.04587. What was new: depth (20 layers where SRCNN had three), a residual over the whole
network, and one set of weights for all scales. It works on luma that was enlarged before.

    x               (N, C, H, W)
    upscale         (N, C, s·H, s·W)        MATLAB's bicubic, no weights
    input           (N, F, s·H, s·W)        3×3, ReLU
    residual_layer  (N, F, s·H, s·W)        3×3, ReLU, `convs` times
    output          (N, C, s·H, s·W)        3×3, + the enlarged picture

Layouts that are read: twtygqyy's (the names above) and Lornatang's (`conv1.0`, `trunk.N.conv`,
`conv2`).

Deviations: by default the layers have no biases, as in all public PyTorch versions and in the
figure of 665 k parameters that papers quote; with `bias=True` they have the paper's. One network
serves all scales, so no checkpoint tells the scale: a header or the user does, otherwise it is 4.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, LumaRange, StateDict
from vsr.models._blocks_luma import LARGEST_SCALE, Bicubic, radius_before_bicubic

_KEY = re.compile(r"(?:input|output|residual_layer\.\d{1,3}\.conv)\.(?:weight|bias)")


@dataclass(frozen=True, slots=True, kw_only=True)
class VDSRConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 1 for luma and 3 for RGB.
        features: Channels between the convolutions.
        convs: Convolutions between the first and the last.
        bias: Whether the convolutions have biases.
        scale: Factor of the enlargement in front, 1 to 8.
        luma: Range of luma that the weights were trained on, see `InputSpec`; the field's own code,
            MATLAB's, has `studio`.
    """

    channels: Literal[1, 3] = 1
    features: int = 64
    convs: int = 18
    bias: bool = False
    scale: int = 4
    luma: LumaRange = "studio"


def _layer(config: VDSRConfig) -> nn.Module:
    """A 3×3 convolution and ReLU; (N, F, H, W) to the same."""
    conv = nn.Conv2d(config.features, config.features, 3, padding=1, bias=config.bias)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))


class VDSR(nn.Module):
    """The network; keys equal those of twtygqyy's `pytorch-vdsr`."""

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: VDSRConfig) -> None:
        super().__init__()
        channels, features, bias = config.channels, config.features, config.bias
        self.upscale = Bicubic(config.scale)
        self.input = nn.Conv2d(channels, features, 3, padding=1, bias=bias)
        self.residual_layer = nn.Sequential(*(_layer(config) for _ in range(config.convs)))
        self.output = nn.Conv2d(features, channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        x = self.upscale(x)
        detail: Tensor = self.output(self.residual_layer(self.input(x).relu_()))
        return x + detail


def _spec(config: VDSRConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        luma=config.luma if config.channels == 1 else "full",
        minimum=1 if config.scale == 1 else 2,
        overlap=radius_before_bicubic(config.convs + 2, config.scale),
    )


def _detect(state: StateDict) -> VDSRConfig | None:
    first, last = state.get("input.weight"), state.get("output.weight")
    if first is None or last is None or {first.ndim, last.ndim} != {4}:
        return None
    layers = {key.split(".")[1] for key in state if key.startswith("residual_layer.")}
    channels = last.shape[0]
    if not layers or not all(map(_KEY.fullmatch, state)) or channels not in (1, 3):
        return None
    return VDSRConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        convs=len(layers),
        bias="input.bias" in state,
    )


def _canonicalise(state: StateDict) -> StateDict:
    """Names of Lornatang's `VDSR-PyTorch`."""
    if "conv1.0.weight" not in state or "trunk.0.conv.weight" not in state:
        return state
    homes = {"conv1.0": "input", "conv2": "output"}
    renamed = {}
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        stem = re.sub(r"^trunk\.(\d+)\.conv$", r"residual_layer.\1.conv", stem)
        renamed[f"{homes.get(stem, stem)}.{kind}"] = value
    return renamed


ARCH = Architecture(
    id="vdsr",
    paper="Accurate Image Super-Resolution Using Very Deep Convolutional Networks, "
    "Kim, Lee, Lee 2016, arXiv:1511.04587",
    config=VDSRConfig,
    build=VDSR,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (VDSRConfig(), 664_704),
        (VDSRConfig(bias=True), 665_921),
        (VDSRConfig(convs=6), 222_336),
    ),
    hinted=("scale", "luma"),
    scales=lambda _: range(1, LARGEST_SCALE + 1),
)
