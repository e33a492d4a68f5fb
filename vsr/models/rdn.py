"""RDN: dense blocks whose features are fused within each block and over all blocks.

Zhang, Tian, Kong, Zhong, Fu, "Residual Dense Network for Image Super-Resolution", 2018,
arXiv:1802.08797. New there: every convolution of a block sees all earlier ones, the block before
hands on to each of them (contiguous memory), a 1×1 fuses them, and the results of all blocks are
fused once more at the end.

    x          (N, 3, H, W)         in [0, 1], times the value of white
    SFENet1    (N, G0, H, W)        3×3
    SFENet2    (N, G0, H, W)        3×3
    RDBs[d]    (N, G0, H, W)        `convs` of 3×3, ReLU, each adding G; 1×1 to G0; + input
    GFF        (N, G0, H, W)        1×1 of all blocks' results, 3×3; + SFENet1's
    UPNet      (N, 3, s·H, s·W)     3×3 and shuffle: ×2 once or twice, or ×3; 3×3

Layouts that are read: EDSR-PyTorch's, where the paper's configurations are A (20 blocks of 6
convolutions, G = 32) and B (16 of 8, G = 64), and yjn870's RDN-pytorch (`sfe1`, `rdbs.0.layers`).
Both lack the mean that the original Lua code subtracts; yjn870 works in [0, 1], EDSR-PyTorch by
default in [0, 255], which no state dict tells: `white` is 1 unless a header says otherwise.

Deviations: none. Tiles overlap by the whole field of 133 pixels (B; A has 125) and are exact.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import factors, reach

_KEY = re.compile(
    r"(?:SFENet[12]|RDBs\.\d{1,4}\.(?:convs\.\d{1,3}\.conv\.0|LFF)|GFF\.[01]|UPNet\.[024])"
    r"\.(?:weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RDNConfig:
    """Hyperparameters.

    Attributes:
        features: Channels between blocks, the paper's G0.
        growth: Channels that each convolution adds, the paper's G.
        blocks: Dense blocks, the paper's D.
        convs: Convolutions of a block, the paper's C.
        scale: Upscaling factor: 2, 3 or 4.
        white: Value of white that the network was trained with, 255 or 1.
    """

    features: int = 64
    growth: int = 64
    blocks: int = 16
    convs: int = 8
    scale: int = 4
    white: float = 1.0


class DenseLayer(nn.Module):
    """Appends G channels: (N, K, H, W) to (N, K + G, H, W)."""

    def __init__(self, seen: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(seen, growth, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Concatenates what it saw and what it makes."""
        return torch.cat([x, self.conv(x)], 1)


class DenseBlock(nn.Module):
    """Dense layers, fused around a skip (equations 2 to 5); (N, G0, H, W) to the same."""

    def __init__(self, config: RDNConfig) -> None:
        super().__init__()
        widths = (config.features + k * config.growth for k in range(config.convs))
        self.convs = nn.Sequential(*(DenseLayer(width, config.growth) for width in widths))
        seen = config.features + config.convs * config.growth
        self.LFF = nn.Conv2d(seen, config.features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the fused features."""
        return x + cast("Tensor", self.LFF(self.convs(x)))


class RDN(nn.Module):
    """The network; keys equal those of EDSR-PyTorch's `RDN`."""

    full_precision: tuple[str, ...] = ("SFENet1",)

    def __init__(self, config: RDNConfig) -> None:
        super().__init__()
        features, growth = config.features, config.growth
        self.white = config.white
        self.SFENet1 = nn.Conv2d(3, features, 3, padding=1)
        self.SFENet2 = nn.Conv2d(features, features, 3, padding=1)
        self.RDBs = nn.ModuleList(DenseBlock(config) for _ in range(config.blocks))
        self.GFF = nn.Sequential(
            nn.Conv2d(config.blocks * features, features, 1),
            nn.Conv2d(features, features, 3, padding=1),
        )
        layers: list[nn.Module] = []
        for factor in factors(config.scale):
            into = growth if layers else features
            layers.append(nn.Conv2d(into, growth * factor**2, 3, padding=1))
            layers.append(nn.PixelShuffle(factor))
        self.UPNet = nn.Sequential(*layers, nn.Conv2d(growth, 3, 3, padding=1))
        self.full_precision += (f"UPNet.{len(layers)}",)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        first = self.SFENet1(x * self.white)
        y, made = self.SFENet2(first), []
        for block in self.RDBs:
            y = block(y)
            made.append(y)
        y = self.UPNet(first + self.GFF(torch.cat(made, 1)))
        return cast("Tensor", y / self.white)


def _spec(config: RDNConfig) -> InputSpec:
    radius = 2 + config.blocks * config.convs + 1 + reach(1, config.scale)
    return InputSpec(scale=config.scale, overlap=radius)


def _detect(state: StateDict) -> RDNConfig | None:
    marks = ("SFENet1", "RDBs.0.convs.0.conv.0", "UPNet.0")
    first, grow, widen = (state.get(f"{mark}.weight") for mark in marks)
    if first is None or grow is None or widen is None or not all(map(_KEY.fullmatch, state)):
        return None
    if {first.ndim, grow.ndim, widen.ndim} != {4} or widen.shape[0] not in (
        4 * grow.shape[0],
        9 * grow.shape[0],
    ):
        return None
    once = 3 if widen.shape[0] == 9 * grow.shape[0] else 2
    return RDNConfig(
        features=first.shape[0],
        growth=grow.shape[0],
        blocks=sum(key.endswith(".LFF.weight") for key in state),
        convs=len([k for k in state if re.fullmatch(r"RDBs\.0\.convs\.\d+\.conv\.0\.weight", k)]),
        scale=4 if "UPNet.4.weight" in state else once,
    )


def _canonicalise(state: StateDict) -> StateDict:
    marks = ("sfe1.weight", "rdbs.0.layers.0.conv.weight", "output.weight")
    return dict(_from_yjn870(state)) if all(mark in state for mark in marks) else state


def _from_yjn870(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """Steps of the upsampling are one sequence, or sequences of two in a sequence."""
    steps = sorted({key.rpartition(".")[0] for key in state if key.startswith("upscale.")})
    homes = {"sfe1": "SFENet1", "sfe2": "SFENet2", "output": f"UPNet.{2 * len(steps)}"}
    homes |= {step: f"UPNet.{2 * number}" for number, step in enumerate(steps)}
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        stem = re.sub(r"^rdbs\.(\d+)\.layers\.(\d+)\.conv$", r"RDBs.\1.convs.\2.conv.0", stem)
        stem = re.sub(r"^rdbs\.(\d+)\.lff$", r"RDBs.\1.LFF", stem)
        stem = re.sub(r"^gff\.", "GFF.", stem)
        yield f"{homes.get(stem, stem)}.{kind}", value


def _a(scale: int) -> RDNConfig:
    return RDNConfig(growth=32, blocks=20, convs=6, scale=scale)


ARCH = Architecture(
    id="rdn",
    paper="RDN, Zhang et al. 2018, arXiv:1802.08797",
    config=RDNConfig,
    build=RDN,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (_a(2), 5_541_795),
        (_a(3), 5_634_115),
        (_a(4), 5_578_787),
        (RDNConfig(scale=2), 22_123_395),
        (RDNConfig(scale=3), 22_308_035),
        (RDNConfig(scale=4), 22_271_107),
    ),
    hinted=("white",),
)
