"""LapSRN and MS-LapSRN: a Laplacian pyramid that doubles the picture level by level.

Lai, Huang, Ahuja, Yang, "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution",
CVPR 2017, arXiv:1704.03915; "Fast and Accurate Image Super-Resolution with Deep Laplacian Pyramid
Networks", 2018, arXiv:1710.01992 (MS-LapSRN). What was new: features are computed at the input's
size and doubled by transposed convolutions; every level predicts what its enlargement lacks, and
every level is supervised, with a Charbonnier loss. It works on luma.

    x               (N, C, H, W)
    conv_input      (N, F, H, W)                3×3, LeakyReLU
    level k = 1…:
    convt_Fk        (N, F, 2^k·H, 2^k·W)        3×3, LeakyReLU, `depth` times; transposed, LeakyReLU
    convt_Rk        (N, C, 2^k·H, 2^k·W)        3×3: the residual
    convt_Ik        (N, C, 2^k·H, 2^k·W)        4×4 transposed, bilinear at first; + the residual

MS-LapSRN (`shared=True`) has the same weights at all levels, and instead of ten convolutions a
block of five, LeakyReLU before each, applied `recursions` times, the level's input added each time.

OpenCV's network (`opencv=True`, by fannymonori, read by `vsr.checkpoints.foreign`) differs: each
level begins anew from one channel, and both doublings are 4×4 convolutions and a shuffle.

    convs           (N, F, H, W)                3×3, LeakyReLU, ten times, from the last detail
    detail          (N, 1, 2·H, 2·W)            4×4, shuffle, LeakyReLU
    enlarge         (N, 1, 2·H, 2·W)            4×4, shuffle of the picture; + detail, LeakyReLU

Layouts that are read: twtygqyy's (the names above; no biases, features doubled by 4×4 kernels), and
Lornatang's (`laplacian_pyramid_conv1` …), whose missing biases become zeros and whose enlargements'
biases are added to those of the residuals. The authors' 3×3 kernels leave one row and column too
many at the end, which are cut, as their `crop = [0 1 0 1]` does.

Deviations: none. Scales are powers of two; the papers' figures for x3 are of x4, made smaller. No
checkpoint of MS-LapSRN tells its scale and recursions: a header or the user does, otherwise they
are 4 and 8.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, LumaRange, StateDict

_OWN = re.compile(r"(?:conv_input|convt_[IR]\d|convt_F\d\.0\.cov_block\.\d{1,2})\.(?:weight|bias)")
_OPENCV = re.compile(
    r"levels\.\d\.(?:convs\.\d{1,2}\.(?:weight|bias)|detail\.weight|enlarge\.weight)"
)
_SHARED = re.compile(r"(?:conv_input|convt_[IRF]|convs\.\d{1,2})\.(?:weight|bias)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LapSRNConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 1 for luma and 3 for RGB.
        features: Channels between the convolutions.
        depth: Convolutions of each level, or of the recursive block.
        kernel: Side of the kernel that doubles features: the authors' 3, or 4.
        bias: Whether the convolutions on features have biases.
        shared: Whether all levels have the same weights: MS-LapSRN.
        opencv: Whether levels hand on one channel: the network of OpenCV's `dnn_superres`.
        recursions: How often its block is applied at each level; 1 if not shared.
        scale: Upscaling factor: 2, 4 or 8.
        luma: Range of luma that the weights were trained on, see `InputSpec`; the field's own code,
            MATLAB's, has `studio`.
    """

    channels: Literal[1, 3] = 1
    features: int = 64
    depth: int = 10
    kernel: int = 3
    bias: bool = True
    shared: bool = False
    opencv: bool = False
    recursions: int = 1
    scale: int = 4
    luma: LumaRange = "studio"

    @property
    def levels(self) -> int:
        """Doublings."""
        return self.scale.bit_length() - 1


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution from (N, C, H, W) to (N, C, 2·H, 2·W)."""

    def __init__(self, channels: int, kernel: int, *, bias: bool) -> None:
        margin = 1 if kernel == 4 else 0
        super().__init__(channels, channels, kernel, stride=2, padding=margin, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Doubles, and cuts what a 3×3 kernel makes too much at the end."""
        height, width = x.shape[2:]
        return super().forward(x, output_size)[..., : 2 * height, : 2 * width]


class FeatureBlock(nn.Module):
    """The convolutions of one level and the doubling; (N, F, H, W) to (N, F, 2·H, 2·W)."""

    def __init__(self, config: LapSRNConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers += [_conv(config, config.features), nn.LeakyReLU(0.2, inplace=True)]
        layers.append(Doubling(config.features, config.kernel, bias=config.bias))
        self.cov_block = nn.Sequential(*layers, nn.LeakyReLU(0.2, inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Applies all layers."""
        return cast("Tensor", self.cov_block(x))


class LapSRN(nn.Module):
    """The network; keys equal those of twtygqyy's `pytorch-LapSRN`.

    In bfloat16 the enlargement of the picture itself keeps float32.
    """

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: LapSRNConfig) -> None:
        super().__init__()
        self.levels = range(1, config.levels + 1)
        self.conv_input = _conv(config, config.features, before=config.channels)
        for k in self.levels:
            self.add_module(f"convt_I{k}", _bilinear(config.channels))
            self.add_module(f"convt_R{k}", _conv(config, config.channels))
            self.add_module(f"convt_F{k}", nn.Sequential(FeatureBlock(config)))
        self.full_precision = tuple(f"convt_I{k}" for k in self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        *_, last = self.predictions(x)
        return last

    def predictions(self, x: Tensor) -> Iterator[Tensor]:
        """Yields the picture of every level, (N, C, 2·H, 2·W) and so on, for supervision."""
        features = _leaky(self.conv_input(x))
        for k in self.levels:
            features = self.get_submodule(f"convt_F{k}")(features)
            residual = self.get_submodule(f"convt_R{k}")(features)
            x = self.get_submodule(f"convt_I{k}")(x) + residual
            yield x


class MSLapSRN(nn.Module):
    """The network with weights shared among levels and recursions; its key layout is its own."""

    full_precision: tuple[str, ...] = ("convt_I",)

    def __init__(self, config: LapSRNConfig) -> None:
        super().__init__()
        self.levels, self.recursions = config.levels, config.recursions
        self.conv_input = _conv(config, config.features, before=config.channels)
        convs = (_conv(config, config.features) for _ in range(config.depth))
        self.convs = nn.ModuleList(convs)
        self.convt_F = Doubling(config.features, config.kernel, bias=config.bias)
        self.convt_R = _conv(config, config.channels)
        self.convt_I = _bilinear(config.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        *_, last = self.predictions(x)
        return last

    def predictions(self, x: Tensor) -> Iterator[Tensor]:
        """Yields the picture of every level, (N, C, 2·H, 2·W) and so on, for supervision."""
        features = self.conv_input(x)
        for _ in range(self.levels):
            features = self.convt_F(F.leaky_relu(self._embedded(features), 0.2))
            x = self.convt_I(x) + self.convt_R(features)
            yield x

    def _embedded(self, start: Tensor) -> Tensor:
        features = start
        for _ in range(self.recursions):
            for conv in self.convs:
                features = conv(F.leaky_relu(features, 0.2))
            features = features + start
        return features


class Level(nn.Module):
    """One doubling of OpenCV's network: a detail and a picture, both (N, 1, H, W), get larger."""

    def __init__(self, config: LapSRNConfig) -> None:
        super().__init__()
        widths = [1] + [config.features] * (config.depth - 1)
        self.convs = nn.ModuleList(_conv(config, config.features, before=n) for n in widths)
        self.detail = nn.Conv2d(config.features, 4, 4, bias=False)
        self.enlarge = nn.Conv2d(1, 4, 4, bias=False)

    def forward(self, detail: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives both at twice the size."""
        for conv in self.convs:
            detail = _leaky(conv(detail))
        detail = _leaky(_shuffled(self.detail, detail))
        return detail, _leaky(_shuffled(self.enlarge, x) + detail)


class OpenCVLapSRN(nn.Module):
    """The network of OpenCV's `dnn_superres`; its key layout is our own."""

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: LapSRNConfig) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(config) for _ in range(config.levels))
        self.full_precision = tuple(f"levels.{k}.enlarge" for k in range(config.levels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 1, H, W) in [0, 1] to (N, 1, s·H, s·W)."""
        *_, last = self.predictions(x)
        return last

    def predictions(self, x: Tensor) -> Iterator[Tensor]:
        """Yields the picture of every level, (N, 1, 2·H, 2·W) and so on, for supervision."""
        detail = x
        for level in self.levels:
            detail, x = level(detail, x)
            yield x


def _shuffled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 4×4 convolution with one more pixel of zeros behind than before, as TensorFlow pads."""
    return F.pixel_shuffle(conv(F.pad(x, (1, 2, 1, 2))), 2)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


def _conv(config: LapSRNConfig, after: int, before: int | None = None) -> nn.Conv2d:
    return nn.Conv2d(before or config.features, after, 3, padding=1, bias=config.bias)


def _bilinear(channels: int) -> Doubling:
    layer = Doubling(channels, 4, bias=False)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.copy_(line[:, None] * line * torch.eye(channels)[:, :, None, None])
    return layer


def _build(config: LapSRNConfig) -> nn.Module:
    if config.scale not in {2, 4, 8} or config.recursions < 1:
        msg = (
            f"lapsrn has scales 2, 4 and 8 and at least one recursion, got scale {config.scale} "
            f"and {config.recursions} recursions"
        )
        raise CheckpointError(msg)
    if config.opencv:
        return OpenCVLapSRN(config)
    return MSLapSRN(config) if config.shared else LapSRN(config)


def _spec(config: LapSRNConfig) -> InputSpec:
    radius = 1
    if config.opencv:
        for level in range(config.levels):
            radius = -(-radius // 2) * bool(level) + config.depth + 2
        return InputSpec(scale=config.scale, channels=1, luma=config.luma, overlap=radius)
    for _ in range(config.levels):
        radius = (radius + 2) // 2 + config.depth * config.recursions
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        luma=config.luma if config.channels == 1 else "full",
        overlap=radius + 1,
    )


def _detect(state: StateDict) -> LapSRNConfig | None:
    if "levels.0.enlarge.weight" in state:
        return _detect_opencv(state)
    shared = "convt_F.weight" in state
    first, last = state.get("conv_input.weight"), state.get(f"convt_I{'' if shared else 1}.weight")
    if first is None or last is None or {first.ndim, last.ndim} != {4}:
        return None
    channels = first.shape[1]
    known = all((_SHARED if shared else _OWN).fullmatch(key) for key in state)
    levels = 2 if shared else len([key for key in state if key.startswith("convt_I")])
    if not known or channels not in (1, 3) or not 1 <= levels <= 3:
        return None
    prefix = "convs." if shared else "convt_F1.0.cov_block."
    weights = [v for key, v in state.items() if key.startswith(prefix) and key.endswith("weight")]
    doubling = state.get("convt_F.weight" if shared else f"{prefix}{2 * len(weights) - 2}.weight")
    if doubling is None or doubling.ndim != 4:
        return None
    return LapSRNConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        depth=len(weights) - (not shared),
        kernel=doubling.shape[2],
        bias="conv_input.bias" in state,
        shared=shared,
        recursions=8 if shared else 1,
        scale=2**levels,
    )


def _detect_opencv(state: StateDict) -> LapSRNConfig | None:
    first = state.get("levels.0.convs.0.weight")
    if first is None or first.ndim != 4 or not all(map(_OPENCV.fullmatch, state)):
        return None
    levels = len([key for key in state if key.endswith(".enlarge.weight")])
    convs = [key for key in state if re.fullmatch(r"levels\.0\.convs\.\d+\.weight", key)]
    if not 1 <= levels <= 3:
        return None
    return LapSRNConfig(
        features=first.shape[0],
        depth=len(convs),
        kernel=4,
        opencv=True,
        scale=2**levels,
        luma="full",
    )


def _opencv(scale: int) -> LapSRNConfig:
    return LapSRNConfig(kernel=4, opencv=True, scale=scale, luma="full")


def _canonicalise(state: StateDict) -> StateDict:
    """Names of Lornatang's `LapSRN-PyTorch`, three numbers a level."""
    name = "laplacian_pyramid_conv"
    if "conv1.0.weight" not in state or f"{name}1.0.cl.0.weight" not in state:
        return state
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        part = re.fullmatch(rf"{name}(\d)(?:\.(\d{{1,2}}))?(?:\.cl\.0)?", stem)
        if part is None:
            renamed[key.replace("conv1.0.", "conv_input.")] = value
            continue
        level, place = divmod(int(part[1]) - 1, 3)
        layer = 2 * int(part[2] or 0)
        home = (
            f"convt_F{level + 1}.0.cov_block.{layer}",
            f"convt_I{level + 1}",
            f"convt_R{level + 1}",
        )
        renamed[f"{home[place]}.{kind}"] = value
        if ".cl." in stem:
            renamed[f"{home[place]}.bias"] = value.new_zeros(value.shape[:1])
    for key in [key for key in renamed if re.fullmatch(r"convt_I\d\.bias", key)]:
        residual = key.replace("I", "R")
        if residual in renamed and renamed[residual].shape == renamed[key].shape:
            renamed[residual] = renamed[residual] + renamed.pop(key)
    return renamed


ARCH = Architecture(
    id="lapsrn",
    paper="Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution, "
    "Lai, Huang, Ahuja, Yang 2017, arXiv:1704.03915; MS-LapSRN, 2018, arXiv:1710.01992",
    config=LapSRNConfig,
    build=_build,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    # the papers count 812 k for x4 and 222 k for MS-LapSRN
    parameters=(
        (LapSRNConfig(), 814_242),
        (LapSRNConfig(scale=2), 407_441),
        (LapSRNConfig(scale=8), 1_221_043),
        (LapSRNConfig(kernel=4, bias=False), 870_112),
        (LapSRNConfig(shared=True, depth=5, recursions=8), 222_801),
        (_opencv(2), 337_152),
        (_opencv(4), 674_304),
        (_opencv(8), 1_011_456),
    ),
    hinted=("recursions", "scale", "luma"),
    scales=lambda config: (2, 4, 8) if config.shared else (config.scale,),
)
