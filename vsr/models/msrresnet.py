"""MSRResNet: SRResNet without normalisation, on top of a bilinear picture.

Wang, Yu, Wu, Gu, Liu, Dong, Qiao, Loy, "ESRGAN: Enhanced Super-Resolution Generative Adversarial
Networks", 2018, arXiv:1809.00219, compare with it (section 4); the network is BasicSR's, after
Ledig et al. 2016 (SRResNet), arXiv:1609.04802. New against SRResNet: no batch norm, 3×3 kernels
throughout, and only what bilinear interpolation misses is learned.

    x            (N, C, H, W)        in [0, 1]
    conv_first   (N, F, H, W)        3×3, LeakyReLU(0.1)
    body         (N, F, H, W)        `blocks` of 3×3, ReLU, 3×3, + input
    upconv1 …    (N, F, s·H, s·W)    3×3, shuffle, LeakyReLU: ×2 once or twice, or ×3
    conv_hr      (N, F, s·H, s·W)    3×3, LeakyReLU
    conv_last    (N, C, s·H, s·W)    3×3, + bilinear(x)

Layouts that are read: BasicSR's, and that of MMSR and KAIR (`recon_trunk`, `HRconv`).
Deviations: none.
"""

import re
from dataclasses import dataclass
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import factors, reach, scale_of

_KEY = re.compile(
    r"(?:conv_first|conv_hr|conv_last|upconv[12]|body\.\d{1,4}\.conv[12])\.(?:weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MSRResNetConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 3 for RGB and 1 for luma.
        features: Channels of the trunk.
        blocks: Residual blocks.
        scale: Upscaling factor: 2, 3 or 4.
    """

    channels: Literal[1, 3] = 3
    features: int = 64
    blocks: int = 16
    scale: int = 4


class Block(nn.Module):
    """Convolution, ReLU, convolution around a skip; (N, F, H, W) to the same."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        y: Tensor = self.conv2(F.relu(self.conv1(x), inplace=True))
        return x + y


class MSRResNet(nn.Module):
    """The network; keys equal those of BasicSR's `MSRResNet`.

    In bfloat16 no convolution needs float32: their sum is a detail that is added to the picture
    itself, which stays in the input's type.
    """

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: MSRResNetConfig) -> None:
        super().__init__()
        features = config.features
        self.scale, self.factors = config.scale, factors(config.scale)
        self.conv_first = nn.Conv2d(config.channels, features, 3, padding=1)
        self.body = nn.Sequential(*(Block(features) for _ in range(config.blocks)))
        for number, factor in enumerate(self.factors, 1):
            conv = nn.Conv2d(features, features * factor**2, 3, padding=1)
            self.add_module(f"upconv{number}", conv)
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, config.channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        y = self.body(_leaky(self.conv_first(x)))
        for number, factor in enumerate(self.factors, 1):
            conv = self.get_submodule(f"upconv{number}")
            y = _leaky(F.pixel_shuffle(conv(y), factor))
        y = self.conv_last(_leaky(self.conv_hr(y)))
        base = F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return base + cast("Tensor", y)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1, inplace=True)


def _spec(config: MSRResNetConfig) -> InputSpec:
    radius = 1 + 2 * config.blocks + reach(2, config.scale)
    return InputSpec(scale=config.scale, channels=config.channels, overlap=radius)


def _detect(state: StateDict) -> MSRResNetConfig | None:
    marks = ("conv_first", "conv_hr", "conv_last", "upconv1", "body.0.conv1")
    if not all(f"{mark}.weight" in state for mark in marks) or not all(map(_KEY.fullmatch, state)):
        return None
    first = state["conv_first.weight"]
    if first.ndim != 4 or first.shape[1] not in (1, 3):
        return None
    scale = scale_of(state, r"upconv\d\.weight", first.shape[0])
    if scale is None:
        return None
    return MSRResNetConfig(
        channels=cast("Literal[1, 3]", first.shape[1]),
        features=first.shape[0],
        blocks=sum(key.endswith(".conv1.weight") for key in state),
        scale=scale,
    )


def _canonicalise(state: StateDict) -> StateDict:
    """Renames the keys of MMSR and of KAIR's `MSRResNet1`."""
    if "recon_trunk.0.conv1.weight" not in state or "HRconv.weight" not in state:
        return state
    return {
        re.sub(r"^recon_trunk\.", "body.", re.sub(r"^HRconv\.", "conv_hr.", key)): value
        for key, value in state.items()
    }


ARCH = Architecture(
    id="msrresnet",
    paper="ESRGAN, Wang et al. 2018, arXiv:1809.00219 (MSRResNet of BasicSR)",
    config=MSRResNetConfig,
    build=MSRResNet,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (MSRResNetConfig(scale=2), 1_369_859),
        (MSRResNetConfig(scale=3), 1_554_499),
        (MSRResNetConfig(scale=4), 1_517_571),
    ),
)
