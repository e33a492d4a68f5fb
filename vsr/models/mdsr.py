"""MDSR: one EDSR trunk for several scales.

Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", 2017,
arXiv:1707.02921, section 3.4. New there: what scales have in common is learned once; each has only
its own two 5×5 residual blocks at the start, which even out the input's scale, and its upsampling.

    x                  (N, 3, H, W)        in [0, 1]; times the value of white, minus DIV2K's mean
    head               (N, F, H, W)        3×3
    pre_process[i]     (N, F, H, W)        two residual blocks of 5×5, of the wanted scale
    body[k]            (N, F, H, W)        `blocks` of 3×3, ReLU, 3×3, + input
    body[-1]           (N, F, H, W)        3×3, + pre_process'
    upsample[i]        (N, F, s·H, s·W)    3×3 and shuffle, of the wanted scale
    tail               (N, 3, s·H, s·W)    3×3; plus the mean, through the value of white

A checkpoint holds all its scales; which one to run is no part of it: the largest, unless a header
or the caller says otherwise. The published ones have x2, x3 and x4 in 16 blocks (baseline) or 80.
Deviations: none.
"""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import (
    MeanShift,
    ResidualBlock,
    reach,
    scale_of,
    upsampler,
    white_of,
)

_KEY = re.compile(
    r"(?:(?:sub|add)_mean|head\.0|pre_process\.\d\.[01]\.body\.[02]|"
    r"body\.\d{1,4}(?:\.body\.[02])?|upsample\.\d\.[024]|tail\.0)\.(?:weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MDSRConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the trunk.
        blocks: Residual blocks that all scales share.
        scales: The scales that the network was made for, in its order, as in "2,3,4".
        scale: The one to run.
        white: Value of white that the network was trained with, 255 or 1.
    """

    features: int = 64
    blocks: int = 16
    scales: str = "2,3,4"
    scale: int = 4
    white: float = 255.0


class MDSR(nn.Module):
    """The network; keys equal those of the authors' EDSR-PyTorch.

    Raises:
        CheckpointError: The network was not made for the wanted scale.
    """

    full_precision: tuple[str, ...] = ("sub_mean", "add_mean", "head.0", "tail.0")

    def __init__(self, config: MDSRConfig) -> None:
        super().__init__()
        features = config.features
        scales = [int(scale) for scale in config.scales.split(",")]
        if config.scale not in scales:
            msg = f"this mdsr network has no scale {config.scale}: take one of {config.scales}"
            raise CheckpointError(msg)
        self.white, self.index = config.white, scales.index(config.scale)
        self.sub_mean = MeanShift(config.white, -1)
        self.add_mean = MeanShift(config.white, 1)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.pre_process = nn.ModuleList(
            nn.Sequential(ResidualBlock(features, 5), ResidualBlock(features, 5)) for _ in scales
        )
        blocks = (ResidualBlock(features) for _ in range(config.blocks))
        self.body = nn.Sequential(*blocks, nn.Conv2d(features, features, 3, padding=1))
        self.upsample = nn.ModuleList(upsampler(features, scale) for scale in scales)
        self.tail = nn.Sequential(nn.Conv2d(features, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        x = self.pre_process[self.index](self.head(self.sub_mean(x * self.white)))
        x = self.upsample[self.index](x + self.body(x))
        y: Tensor = self.add_mean(self.tail(x))
        return y / self.white


def _spec(config: MDSRConfig) -> InputSpec:
    radius = 1 + 2 * 4 + 2 * config.blocks + 1 + reach(1, config.scale)
    return InputSpec(scale=config.scale, overlap=radius)


def _detect(state: StateDict) -> MDSRConfig | None:
    first, white = state.get("head.0.weight"), white_of(state)
    if first is None or first.ndim != 4 or white is None or not all(map(_KEY.fullmatch, state)):
        return None
    count = len({key.split(".")[1] for key in state if key.startswith("upsample.")})
    scales = [
        scale_of(state, rf"upsample\.{index}\.\d\.weight", first.shape[0]) for index in range(count)
    ]
    known = [scale for scale in scales if scale is not None]
    if not known or len(known) < len(scales):
        return None
    return MDSRConfig(
        features=first.shape[0],
        blocks=sum(bool(re.fullmatch(r"body\.\d+\.body\.0\.weight", key)) for key in state),
        scales=",".join(map(str, known)),
        scale=max(known),
        white=white,
    )


ARCH = Architecture(
    id="mdsr",
    paper="EDSR, Lim et al. 2017, arXiv:1707.02921 (MDSR)",
    config=MDSRConfig,
    build=MDSR,
    spec=_spec,
    detect=_detect,
    parameters=(
        (MDSRConfig(), 3_227_203),
        (MDSRConfig(blocks=80), 7_953_987),
        # as the authors' code counts it for one scale; the contract tests want no idle parameters
        (MDSRConfig(scales="4"), 1_927_427),
    ),
    hinted=("scale",),
    scales=lambda config: sorted(map(int, config.scales.split(","))),
)
