"""ESPCN: the network that invented the sub-pixel convolution.

Shi, Caballero, Huszár, Totz, Aitken, Bishop, Rueckert, Wang, "Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016,
arXiv:1609.05158. All convolutions are at the input's size; the last one makes s² channels of every
channel, which are then laid out as s×s pixels. It works on luma.

    x               (N, C, H, W)
    first_part.0    (N, 64, H, W)           5×5, tanh
    first_part.2    (N, 32, H, W)           3×3, tanh
    last_part.0     (N, C·s², H, W)         3×3
    shuffle         (N, C, s·H, s·W)

Layouts that are read: yjn870's (the names above), Lornatang's (`feature_maps`, `sub_pixel`),
Nhat-Thanh's (`conv_1` …) and the frozen graphs of OpenCV's `dnn_superres`
(`vsr.checkpoints.foreign`), which rectify where the paper has tanh and end in a tanh.

Deviations: none. Some versions clip to [0, 1]; the engine does that. Nhat-Thanh's three channels
are luma and chroma, which no checkpoint tells and a header may (`colour`).
"""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, LumaRange, StateDict
from vsr.models._blocks_luma import Colour, Space, renamed

type Activation = Literal["tanh", "relu"]

_LARGEST_SCALE = 8
_STEMS = ("first_part.0", "first_part.2", "last_part.0")
_KEYS = {f"{stem}.{kind}" for stem in _STEMS for kind in ("weight", "bias")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ESPCNConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 1 for luma and 3 for colour.
        colour: What three channels are within: `rgb`, or `ycc` for luma and chroma (Nhat-Thanh's).
        features: Channels after the first layer.
        mapped: Channels after the second layer.
        scale: Upscaling factor, 2 to 8.
        activation: What follows the first and the second layer.
        bounded: Whether the picture goes through tanh at the end.
        luma: Range of luma that the weights were trained on, see `InputSpec`; the field's own code,
            MATLAB's, has `studio`.
    """

    channels: Literal[1, 3] = 1
    colour: Space = "rgb"
    features: int = 64
    mapped: int = 32
    scale: int = 3
    activation: Activation = "tanh"
    bounded: bool = False
    luma: LumaRange = "studio"


def _activation(config: ESPCNConfig) -> nn.Module:
    match config.activation:
        case "tanh":
            return nn.Tanh()
        case "relu":
            return nn.ReLU(inplace=True)
        case _:
            msg = f"espcn has no activation {config.activation!r}: tanh or relu"
            raise CheckpointError(msg)


class ESPCN(nn.Module):
    """The network; keys equal those of yjn870's `ESPCN-pytorch`."""

    full_precision: tuple[str, ...] = ("last_part.0",)

    def __init__(self, config: ESPCNConfig) -> None:
        super().__init__()
        self.scale, self.bounded = config.scale, config.bounded
        self.colour = Colour(config.colour, config.channels)
        self.first_part = nn.Sequential(
            nn.Conv2d(config.channels, config.features, 5, padding=2),
            _activation(config),
            nn.Conv2d(config.features, config.mapped, 3, padding=1),
            _activation(config),
        )
        pixels = config.channels * config.scale**2
        self.last_part = nn.Sequential(nn.Conv2d(config.mapped, pixels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        x = self.last_part(self.first_part(self.colour.enter(x)))
        x = F.pixel_shuffle(x, self.scale)
        return self.colour.leave(x.tanh() if self.bounded else x)


def _spec(config: ESPCNConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        luma=config.luma if config.channels == 1 else "full",
        overlap=4,
    )


def _detect(state: StateDict) -> ESPCNConfig | None:
    if state.keys() != _KEYS:
        return None
    first, second, last = (state[f"{stem}.weight"] for stem in _STEMS)
    if {first.ndim, second.ndim, last.ndim} != {4}:
        return None
    channels = first.shape[1]
    scale = math.isqrt(last.shape[0] // max(1, channels))
    if channels not in (1, 3) or not 2 <= scale <= _LARGEST_SCALE:
        return None
    return ESPCNConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        mapped=second.shape[0],
        scale=scale,
    )


_LAYOUTS = (
    dict(zip(("conv_1", "conv_2", "conv_3"), _STEMS, strict=True)),
    dict(zip(("feature_maps.0", "feature_maps.2", "sub_pixel.0"), _STEMS, strict=True)),
)


ARCH = Architecture(
    id="espcn",
    paper="Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel "
    "Convolutional Neural Network, Shi et al. 2016, arXiv:1609.05158",
    config=ESPCNConfig,
    build=ESPCN,
    spec=_spec,
    detect=_detect,
    canonicalise=lambda state: renamed(state, _LAYOUTS),
    parameters=(
        (ESPCNConfig(), 22_729),
        (ESPCNConfig(scale=2), 21_284),
        (ESPCNConfig(scale=4), 24_752),
        (ESPCNConfig(channels=3, scale=2), 26_796),
        (ESPCNConfig(channels=3, scale=4), 37_200),
    ),
    hinted=("activation", "bounded", "colour", "luma"),
)
