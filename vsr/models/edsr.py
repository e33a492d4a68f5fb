"""EDSR: residual blocks without batch norm, wide and deep.

Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution", 2017,
arXiv:1707.02921. New there: SRResNet's batch norms are left out, which halves its memory and lets
the range of the features free; 256 channels, which train only with residuals scaled by 0.1.

    x           (N, 3, H, W)        in [0, 1]; times the value of white, minus DIV2K's mean colour
    head        (N, F, H, W)        3×3
    body[k]     (N, F, H, W)        `blocks` of 3×3, ReLU, 3×3, times `residual_scale`, + input
    body[-1]    (N, F, H, W)        3×3, + head's
    tail[0]     (N, F, s·H, s·W)    3×3 and shuffle: ×2 once, twice or thrice, or ×3
    tail[1]     (N, 3, s·H, s·W)    3×3; plus the mean, through the value of white

Layouts that are read: the authors' EDSR-PyTorch (`head.0`, `sub_mean`; white is 255, or 1 if the
mean is below 1), BasicSR's (`conv_first`, `conv_after_body`), whose mean and `img_range` are not in
the file: DIV2K's and 255, as in all that it publishes, and Lornatang's (`trunk.0.conv1` or
`trunk.0.rcb.0`), whose white is 1.

The published networks are the baseline (64 channels, 16 blocks, residuals as they are) and the full
one (256, 32, scaled by 0.1). The scale of residuals is in no state dict: 0.1 from 256 channels on.
Deviations: none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import (
    MeanShift,
    ResidualBlock,
    mean_shifts,
    reach,
    scale_of,
    upsampler,
    white_of,
)

_WIDE = 256
_KEY = re.compile(
    r"(?:(?:sub|add)_mean|head\.0|body\.\d{1,4}(?:\.body\.[02])?|tail\.0\.[024]|tail\.1)"
    r"\.(?:weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EDSRConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the trunk.
        blocks: Residual blocks.
        scale: Upscaling factor: 2, 3, 4 or 8.
        residual_scale: Factor of every residual.
        white: Value of white that the network was trained with, 255 or 1.
    """

    features: int = 64
    blocks: int = 16
    scale: int = 4
    residual_scale: float = 1.0
    white: float = 255.0


class EDSR(nn.Module):
    """The network; keys equal those of the authors' EDSR-PyTorch."""

    full_precision: tuple[str, ...] = ("sub_mean", "add_mean", "head.0", "tail.1")

    def __init__(self, config: EDSRConfig) -> None:
        super().__init__()
        features, residual_scale = config.features, config.residual_scale
        self.white = config.white
        blocks = (ResidualBlock(features, scale=residual_scale) for _ in range(config.blocks))
        self.sub_mean = MeanShift(config.white, -1)
        self.add_mean = MeanShift(config.white, 1)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.body = nn.Sequential(*blocks, nn.Conv2d(features, features, 3, padding=1))
        self.tail = nn.Sequential(
            upsampler(features, config.scale), nn.Conv2d(features, 3, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        first = self.head(self.sub_mean(x * self.white))
        y: Tensor = self.add_mean(self.tail(first + self.body(first)))
        return y / self.white


def _spec(config: EDSRConfig) -> InputSpec:
    radius = 1 + 2 * config.blocks + 1 + reach(1, config.scale)
    return InputSpec(scale=config.scale, overlap=radius)


def _detect(state: StateDict) -> EDSRConfig | None:
    first, white = state.get("head.0.weight"), white_of(state)
    if first is None or first.ndim != 4 or white is None:
        return None
    scale = scale_of(state, r"tail\.0\.\d\.weight", first.shape[0])
    if scale is None or not all(map(_KEY.fullmatch, state)):
        return None
    return EDSRConfig(
        features=first.shape[0],
        blocks=sum(key.endswith(".body.0.weight") for key in state),
        scale=scale,
        residual_scale=0.1 if first.shape[0] >= _WIDE else 1.0,
        white=white,
    )


def _canonicalise(state: StateDict) -> StateDict:
    lornatang = ("conv1.weight", "trunk.0.conv1.weight", "upsampling.0.weight", "conv3.weight")
    newer = ("conv1.weight", "trunk.0.rcb.0.weight", "upsampling.0.upsample_block.0.weight")
    if any(all(mark in state for mark in marks) for marks in (lornatang, newer)):
        return dict(_from_lornatang(state)) if "trunk.0.rcb.1.weight" not in state else state
    marks = ("conv_first.weight", "conv_after_body.weight", "body.0.conv1.weight")
    return dict(_from_basicsr(state)) if all(mark in state for mark in marks) else state


def _from_lornatang(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """Both versions' names; they work in [0, 1] and keep the mean as a tensor of its own."""
    blocks = len({key.split(".")[1] for key in state if key.startswith("trunk.")})
    homes = {"conv1": "head.0", "conv2": f"body.{blocks}", "conv3": "tail.1"}
    for key, value in state.items():
        if key in {"mean", "std"}:
            continue
        stem, _, kind = key.rpartition(".")
        stem = re.sub(r"^trunk\.(\d+)\.(?:conv1|rcb\.0)$", r"body.\1.body.0", stem)
        stem = re.sub(r"^trunk\.(\d+)\.(?:conv2|rcb\.2)$", r"body.\1.body.2", stem)
        stem = re.sub(r"^upsampling\.(\d)$", r"tail.0.\1", stem)
        stem = re.sub(
            r"^upsampling\.(\d)\.upsample_block\.0$", lambda m: f"tail.0.{2 * int(m[1])}", stem
        )
        yield f"{homes.get(stem, stem)}.{kind}", value
    yield from mean_shifts(1.0, state.get("mean"))


def _from_basicsr(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    blocks = len({key.split(".")[1] for key in state if key.startswith("body.")})
    homes = {"conv_first": "head.0", "conv_after_body": f"body.{blocks}", "conv_last": "tail.1"}
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        stem = re.sub(r"^body\.(\d+)\.conv1$", r"body.\1.body.0", stem)
        stem = re.sub(r"^body\.(\d+)\.conv2$", r"body.\1.body.2", stem)
        stem = re.sub(r"^upsample\.(\d)$", r"tail.0.\1", stem)
        yield f"{homes.get(stem, stem)}.{kind}", value
    yield from mean_shifts()


def _full(scale: int) -> EDSRConfig:
    return EDSRConfig(features=_WIDE, blocks=32, scale=scale, residual_scale=0.1)


ARCH = Architecture(
    id="edsr",
    paper="EDSR, Lim et al. 2017, arXiv:1707.02921",
    config=EDSRConfig,
    build=EDSR,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (EDSRConfig(scale=2), 1_369_859),
        (EDSRConfig(scale=3), 1_554_499),
        (EDSRConfig(scale=4), 1_517_571),
        (_full(2), 40_729_603),
        (_full(3), 43_680_003),
        (_full(4), 43_089_923),
    ),
    hinted=("residual_scale",),
)
