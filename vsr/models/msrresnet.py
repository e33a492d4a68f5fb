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

Layouts that are read: BasicSR's, that of MMSR and KAIR (`recon_trunk`, `HRconv`), and KAIR's
`MSRResNet0`, one sequence (`model.1.sub.N.res.0`). That is another network (`sequential=True`): its
trunk has a closing convolution, its first one no activation, there is no bilinear picture, and
features are enlarged in one of three ways. No tensor tells its activation, or with `nearest` a
single x3 from an x2: a header or the user does, otherwise they are ReLU and x2.
Deviations: none.
"""

import re
from dataclasses import dataclass
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import factors, reach, scale_of

type Upsampling = Literal["shuffle", "nearest", "transposed"]

_SEQUENTIAL = re.compile(r"model\.(?:\d{1,2}\.|1\.sub\.\d{1,4}\.(?:res\.[02]\.)?)(?:weight|bias)")
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
        scale: Upscaling factor: 2, 3 or 4; of the sequential network also 8.
        sequential: Whether it is KAIR's `MSRResNet0`.
        upsampling: How that one enlarges features.
        activation: Of that one: `relu`, or `leakyrelu` with 0.2.
    """

    channels: Literal[1, 3] = 3
    features: int = 64
    blocks: int = 16
    scale: int = 4
    sequential: bool = False
    upsampling: Upsampling = "shuffle"
    activation: Literal["relu", "leakyrelu"] = "relu"


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


class _Residual(nn.Module):
    """Adds what a sequence makes of its input; the name of the sequence is part of the keys."""

    def __init__(self, name: str, *layers: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, F, H, W) to the same."""
        return x + cast("Tensor", self.get_submodule(self.name)(x))


class MSRResNet0(nn.Module):
    """The sequential network; keys equal those of KAIR's `MSRResNet0`.

    In bfloat16 the last convolution keeps float32: what it gives is the picture.
    """

    def __init__(self, config: MSRResNetConfig) -> None:
        super().__init__()
        features = config.features
        blocks = (
            _Residual("res", _conv(features), _activation(config), _conv(features))
            for _ in range(config.blocks)
        )
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, features, 3, padding=1),
            _Residual("sub", *blocks, _conv(features)),
        ]
        for factor in factors(config.scale):
            layers += [*_enlarging(config, factor), _activation(config)]
        last = nn.Conv2d(features, config.channels, 3, padding=1, bias=False)
        self.model = nn.Sequential(*layers, _conv(features), _activation(config), last)
        self.full_precision: tuple[str, ...] = (f"model.{len(self.model) - 1}",)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        return cast("Tensor", self.model(x))


def _conv(features: int) -> nn.Conv2d:
    return nn.Conv2d(features, features, 3, padding=1)


def _activation(config: MSRResNetConfig) -> nn.Module:
    leaky = config.activation == "leakyrelu"
    return nn.LeakyReLU(0.2, inplace=True) if leaky else nn.ReLU(inplace=True)


def _enlarging(config: MSRResNetConfig, factor: int) -> list[nn.Module]:
    features = config.features
    if config.upsampling == "nearest":
        return [nn.Upsample(scale_factor=factor), _conv(features)]
    if config.upsampling == "transposed":
        return [nn.ConvTranspose2d(features, features, factor, stride=factor)]
    return [nn.Conv2d(features, features * factor**2, 3, padding=1), nn.PixelShuffle(factor)]


def _build(config: MSRResNetConfig) -> nn.Module:
    return MSRResNet0(config) if config.sequential else MSRResNet(config)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1, inplace=True)


def _spec(config: MSRResNetConfig) -> InputSpec:
    tail = reach(2, config.scale)
    if config.sequential:
        tail = _tail_radius(config) + 1
    radius = 1 + 2 * config.blocks + tail
    return InputSpec(scale=config.scale, channels=config.channels, overlap=radius)


def _tail_radius(config: MSRResNetConfig) -> int:
    """Pixels of the trunk to each side that the enlargement and the last two convolutions see."""
    radius = 2
    for factor in factors(config.scale):
        if config.upsampling == "nearest":
            radius = -(-(radius + 1) // factor)
        else:
            radius = -(-radius // factor) + (config.upsampling == "shuffle")
    return radius


def _detect(state: StateDict) -> MSRResNetConfig | None:
    if "model.1.sub.0.res.0.weight" in state:
        return _detect_sequential(state)
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


def _detect_sequential(state: StateDict) -> MSRResNetConfig | None:
    first = state.get("model.0.weight")
    numbers = {int(key.split(".")[1]) for key in state if _SEQUENTIAL.fullmatch(key)}
    tail = sorted(numbers - {0, 1})
    if first is None or first.ndim != 4 or first.shape[1] not in (1, 3) or len(tail) < 3:
        return None
    enlarging = [state.get(f"model.{n}.weight") for n in tail[:-2]]
    shapes = {tuple(value.shape) for value in enlarging if value is not None}
    if not all(map(_SEQUENTIAL.fullmatch, state)) or len(shapes) != 1:
        return None
    features, (shape,) = first.shape[0], shapes
    after_resampling = tail[0] == 3  # number 2 is a layer without tensors
    ways: dict[tuple[int, ...], tuple[Upsampling, int]] = {
        (features, features, 3, 3): ("nearest", 2) if after_resampling else ("transposed", 3),
        (features, features, 2, 2): ("transposed", 2),
        (4 * features, features, 3, 3): ("shuffle", 2),
        (9 * features, features, 3, 3): ("shuffle", 3),
    }
    if shape not in ways:
        return None
    way, factor = ways[shape]
    return MSRResNetConfig(
        channels=cast("Literal[1, 3]", first.shape[1]),
        features=features,
        blocks=sum(key.endswith(".res.0.weight") for key in state),
        scale=3 if factor == 3 else 2 ** len(enlarging),
        sequential=True,
        upsampling=way,
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
    build=_build,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (MSRResNetConfig(scale=2), 1_369_859),
        (MSRResNetConfig(scale=3), 1_554_499),
        (MSRResNetConfig(scale=4), 1_517_571),
        (MSRResNetConfig(sequential=True, upsampling="nearest"), 1_332_928),
        (MSRResNetConfig(sequential=True), 1_554_496),
    ),
    hinted=("activation", "scale"),
)
