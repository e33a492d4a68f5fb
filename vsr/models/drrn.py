"""DRRN: residual units that share their weights, around one skip connection.

Tai, Yang, Liu, "Image Super-Resolution via Deep Recursive Residual Network", CVPR 2017. It has no
arXiv version (DOI 10.1109/CVPR.2017.298). What was new against DRCN: the recursion is a residual
unit of two convolutions, every one of which starts again from the block's first features, and one
residual over the whole network needs no supervision in between. It works on luma that was enlarged
before.

    x           (N, C, H, W)
    upscale     (N, C, s·H, s·W)        MATLAB's bicubic, no weights
    rbs.B.h0    (N, F, s·H, s·W)        norm, ReLU, 3×3: what every unit of the block adds to
    rbs.B.ru    (N, F, s·H, s·W)        twice norm, ReLU, 3×3; + h0; the same weights `units` times
    rec         (N, C, s·H, s·W)        norm, ReLU, 3×3; + the enlarged picture

B1U9 has one block of nine units (20 layers), B1U25 one of 25 (52 layers). As in the authors' Caffe
files, the units share convolutions but not batch norms: every unit has two of its own, after that
of h0 (`rbs.B.norms`).

Layouts that are read: yjn870's (the names above) and jt827859032's (`input`, `conv1`, `conv2`,
`output`), both without norms and biases (`norm=False`). Their first ReLU works in place, so that
their units add to what h0 is after it; weights trained so need it so.

Deviations: none. Without norms no checkpoint tells the number of units, and none tells the scale: a
header or the user does, otherwise they are the 9 of yjn870's weights, and 4.
"""

import re
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, LumaRange, StateDict
from vsr.models._blocks_luma import LARGEST_SCALE, Bicubic, radius_before_bicubic

_CONV = re.compile(
    r"(?:rbs\.\d{1,2}\.(?:h0|ru\.module\.[01])|rec)\.module\.1\.(?:weight|bias)",
)
_UNITS_WITHOUT_NORMS = 9
_NORM = re.compile(r"(?:rbs\.\d{1,2}\.norms\.\d{1,3}|norm)\.\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DRRNConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 1 for luma and 3 for RGB.
        features: Channels between the convolutions.
        blocks: Recursive blocks (B in the paper).
        units: Residual units of each block (U).
        norm: Whether batch norm precedes every ReLU, and convolutions have biases.
        scale: Factor of the enlargement in front, 1 to 8.
        luma: Range of luma that the weights were trained on, see `InputSpec`; the field's own code,
            MATLAB's, has `studio`.
    """

    channels: Literal[1, 3] = 1
    features: int = 128
    blocks: int = 1
    units: int = 25
    norm: bool = True
    scale: int = 4
    luma: LumaRange = "studio"


def _norm(config: DRRNConfig, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if config.norm else nn.Identity()


class Layer(nn.Module):
    """ReLU before a 3×3 convolution, and before both a norm that is given with the input."""

    def __init__(self, config: DRRNConfig, before: int, after: int) -> None:
        super().__init__()
        conv = nn.Conv2d(before, after, 3, padding=1, bias=config.norm)
        self.module = nn.Sequential(nn.ReLU(), conv)

    def forward(self, x: Tensor, norm: nn.Module) -> Tensor:
        """Maps (N, before, H, W) to (N, after, H, W)."""
        return cast("Tensor", self.module(norm(x)))


class ResidualUnit(nn.Module):
    """Two layers; (N, F, H, W) to the same."""

    def __init__(self, config: DRRNConfig) -> None:
        super().__init__()
        layers = (Layer(config, config.features, config.features) for _ in range(2))
        self.module = nn.ModuleList(layers)

    def forward(self, x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
        """Applies the layers with this application's own norms."""
        return cast("Tensor", self.module[1](self.module[0](x, first), second))


class RecursiveBlock(nn.Module):
    """One unit applied again and again, always from its start; (N, C, H, W) to (N, F, H, W)."""

    def __init__(self, config: DRRNConfig, before: int) -> None:
        super().__init__()
        features, self.units = config.features, config.units
        self.rectified = not config.norm
        self.h0 = Layer(config, before, features)
        self.ru = ResidualUnit(config)
        norms = (_norm(config, features) for _ in range(2 * config.units))
        self.norms = nn.ModuleList([_norm(config, before), *norms])

    def forward(self, x: Tensor) -> Tensor:
        """Makes h0 and applies the unit `units` times."""
        start = self.h0(x, self.norms[0])
        x = start = start.relu() if self.rectified else start
        for k in range(1, 2 * self.units, 2):
            x = start + self.ru(x, self.norms[k], self.norms[k + 1])
        return x


class DRRN(nn.Module):
    """The network; keys equal those of yjn870's `DRRN-pytorch`, norms added.

    In bfloat16 the norms keep float32.
    """

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: DRRNConfig) -> None:
        super().__init__()
        widths = [config.channels] + [config.features] * (config.blocks - 1)
        self.upscale = Bicubic(config.scale)
        self.rbs = nn.Sequential(*(RecursiveBlock(config, width) for width in widths))
        self.norm = _norm(config, config.features)
        self.rec = Layer(config, config.features, config.channels)
        self.full_precision = tuple(
            name for name, layer in self.named_modules() if isinstance(layer, nn.BatchNorm2d)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        x = self.upscale(x)
        return x + cast("Tensor", self.rec(self.rbs(x), self.norm))


def _spec(config: DRRNConfig) -> InputSpec:
    layers = config.blocks * (1 + 2 * config.units) + 1
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        luma=config.luma if config.channels == 1 else "full",
        minimum=1 if config.scale == 1 else 2,
        overlap=radius_before_bicubic(layers, config.scale),
    )


def _detect(state: StateDict) -> DRRNConfig | None:
    first, last = (state.get(f"{name}.module.1.weight") for name in ("rbs.0.h0", "rec"))
    if first is None or last is None or {first.ndim, last.ndim} != {4}:
        return None
    channels = last.shape[0]
    known = all(_CONV.fullmatch(key) or _NORM.fullmatch(key) for key in state)
    if not known or channels not in (1, 3) or first.shape[1] != channels:
        return None
    norms = {key.split(".")[3] for key in state if key.startswith("rbs.0.norms.")}
    return DRRNConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        blocks=len({key.split(".")[1] for key in state if key.startswith("rbs.")}),
        units=len(norms) // 2 if norms else _UNITS_WITHOUT_NORMS,
        norm=bool(norms),
    )


_JT827859032 = {
    "input.weight": "rbs.0.h0.module.1.weight",
    "conv1.weight": "rbs.0.ru.module.0.module.1.weight",
    "conv2.weight": "rbs.0.ru.module.1.module.1.weight",
    "output.weight": "rec.module.1.weight",
}


def _canonicalise(state: StateDict) -> StateDict:
    if state.keys() != _JT827859032.keys():
        return state
    return {_JT827859032[key]: value for key, value in state.items()}


ARCH = Architecture(
    id="drrn",
    paper="Image Super-Resolution via Deep Recursive Residual Network, Tai, Yang, Liu 2017, "
    "no arXiv version, DOI 10.1109/CVPR.2017.298",
    config=DRRNConfig,
    build=DRRN,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    # the paper's count of 297 k is that of the 3×3 kernels alone, for any number of units
    parameters=(
        (DRRNConfig(), 310_659),
        (DRRNConfig(units=9), 302_467),
        (DRRNConfig(units=9, norm=False), 297_216),
        (DRRNConfig(units=9, norm=False, features=24), 10_800),
    ),
    hinted=("units", "scale", "luma"),
    scales=lambda _: range(1, LARGEST_SCALE + 1),
)
