"""SRVGGNetCompact: a plain VGG-style stack at low resolution.

Wang, Xie, Dong, Shan, "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic
Data", 2021, arXiv:2107.10833; the compact network came with its release 0.2.3, for video. What is
new is what it lacks: no skip connections but one, no upsampling before the end. All convolutions
are 3×3 at the input's size; the last one makes s² sub-pixels of every channel, and the picture
repeated s times (nearest) is added.

    x           (N, C, H, W)
    body[0]     (N, F, H, W)            3×3, activation
    body[2k]    (N, F, H, W)            3×3, activation, `convs` times
    body[-1]    (N, C·s², H, W)         3×3
    shuffle     (N, C, s·H, s·W)        + nearest(x)

Deviations: none. With one channel it works on luma (the embedded models).
"""

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, StateDict

type Activation = Literal["relu", "prelu", "leakyrelu"]

_LARGEST_SCALE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 3 for RGB and 1 for luma.
        features: Channels between the convolutions.
        convs: Convolutions between the first and the last.
        scale: Upscaling factor, 1 to 8.
        activation: What follows every convolution but the last; `leakyrelu` has a slope of 0.1.
    """

    channels: Literal[1, 3] = 3
    features: int = 64
    convs: int = 16
    scale: int = 4
    activation: Activation = "prelu"


def _activation(config: CompactConfig) -> nn.Module:
    match config.activation:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leakyrelu":
            return nn.LeakyReLU(0.1, inplace=True)
        case "prelu":
            return nn.PReLU(config.features)
        case _:
            msg = f"compact has no activation {config.activation!r}: relu, prelu or leakyrelu"
            raise CheckpointError(msg)


class Compact(nn.Module):
    """The network; keys equal those of BasicSR's `SRVGGNetCompact`.

    In bfloat16 no convolution needs float32: their sum is a detail that is added to the picture
    itself, which stays in the input's type.
    """

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.scale = config.scale
        channels, features = config.channels, config.features
        layers: list[nn.Module] = [nn.Conv2d(channels, features, 3, padding=1), _activation(config)]
        for _ in range(config.convs):
            layers += [nn.Conv2d(features, features, 3, padding=1), _activation(config)]
        layers.append(nn.Conv2d(features, channels * config.scale**2, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        detail = F.pixel_shuffle(self.body(x), self.scale)
        return detail + F.interpolate(x, scale_factor=self.scale, mode="nearest")


def _spec(config: CompactConfig) -> InputSpec:
    return InputSpec(scale=config.scale, channels=config.channels, overlap=config.convs + 2)


def _detect(state: StateDict) -> CompactConfig | None:
    """Even entries of `body` are convolutions, odd ones activations with or without weights."""
    if not all(re.fullmatch(r"body\.\d{1,4}\.(weight|bias)", key) for key in state):
        return None
    weights = {int(k.split(".")[1]): v for k, v in state.items() if k.endswith(".weight")}
    last = max(weights, default=0)
    first, final = weights.get(0), weights.get(last)
    if first is None or final is None or last < 2 or last % 2 or {first.ndim, final.ndim} != {4}:
        return None
    features, channels = first.shape[:2]
    scale = math.isqrt(final.shape[0] // max(1, channels))
    if channels not in (1, 3) or not 1 <= scale <= _LARGEST_SCALE:
        return None
    return CompactConfig(
        channels=cast("Literal[1, 3]", channels),
        features=features,
        convs=last // 2 - 1,
        scale=scale,
        activation="prelu" if 1 in weights else "relu",
    )


ARCH = Architecture(
    id="compact",
    paper="Real-ESRGAN, Wang et al. 2021, arXiv:2107.10833 (SRVGGNetCompact)",
    config=CompactConfig,
    build=Compact,
    spec=_spec,
    detect=_detect,
    parameters=(
        (CompactConfig(), 621_424),
        (CompactConfig(convs=32), 1_213_296),
        (CompactConfig(scale=3), 609_307),
        (CompactConfig(scale=2), 600_652),
        (CompactConfig(scale=1), 595_459),
    ),
    hinted=("activation",),
)
