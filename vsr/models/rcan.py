"""RCAN: groups of residual blocks that weigh their channels by a global average.

Zhang, Li, Li, Wang, Zhong, Fu, "Image Super-Resolution Using Very Deep Residual Channel Attention
Networks", 2018, arXiv:1807.02758. New there: residuals within residuals, which let 400
convolutions train, and channel attention, which multiplies each channel by a number that two 1×1
convolutions make of all channels' averages.

    x             (N, 3, H, W)        in [0, 1]; times the value of white, minus DIV2K's mean colour
    head          (N, F, H, W)        3×3
    body[g]       (N, F, H, W)        `groups` of `blocks`, then 3×3; + the group's input
      body[b]     (N, F, H, W)        3×3, ReLU, 3×3, channel attention; + input
    body[-1]      (N, F, H, W)        3×3, + head's
    tail[0]       (N, F, s·H, s·W)    3×3 and shuffle: ×2 once, twice or thrice, or ×3
    tail[1]       (N, 3, s·H, s·W)    3×3; plus the mean, through the value of white

Layouts that are read: the authors' RCAN (`head.0`, `body.0.body.0.body.3.conv_du.0`), BasicSR's
(`conv_first`, `residual_group`), whose mean and `img_range` are not in the file: DIV2K's and 255,
and Lornatang's (`trunk.0.residual_group.0`), whose white is 1.

Deviations: none. Tiling: the averages are those of the tile, so tiles are approximate at any
overlap; see `_OVERLAP`. In float16 its activations can overflow.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import (
    MeanShift,
    mean_shifts,
    scale_of,
    squeeze,
    upsampler,
    white_of,
)

_OVERLAP = 64
"""Input pixels by which tiles overlap.

A small RCAN (32 channels, 2 groups of 3), trained for two minutes, is off by at most 1.0 of 255
(root of the mean square 0.09) with tiles of 96 and by 0.6 (0.05) with tiles of 160, whatever the
overlap is from 8 to 32; without overlap by 90. What is left is the averages' doing: larger tiles
help, wider overlaps do not. The published depth sees farther, hence the reserve.
"""

_TILE_ERROR = 1 / 255

_KEY = re.compile(
    r"(?:(?:sub|add)_mean|head\.0|body\.\d{1,3}(?:\.body\.\d{1,3}"
    r"(?:\.body\.(?:0|2|3\.conv_du\.[02]))?)?|tail\.0\.[024]|tail\.1)\.(?:weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RCANConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the trunk.
        groups: Residual groups.
        blocks: Residual blocks of a group.
        squeezed: Channels between the two convolutions of the attention.
        scale: Upscaling factor: 2, 3, 4 or 8.
        white: Value of white that the network was trained with, 255 or 1.
    """

    features: int = 64
    groups: int = 10
    blocks: int = 20
    squeezed: int = 4
    scale: int = 4
    white: float = 255.0


class ChannelAttention(nn.Module):
    """Weighs channels by their global averages; (N, F, H, W) to the same."""

    def __init__(self, features: int, squeezed: int) -> None:
        super().__init__()
        self.conv_du = squeeze(features, squeezed)

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies each channel by a number in [0, 1]."""
        weight: Tensor = self.conv_du(x.mean((2, 3), keepdim=True))
        return x * weight


class Block(nn.Module):
    """Two convolutions and channel attention around a skip; (N, F, H, W) to the same."""

    def __init__(self, config: RCANConfig) -> None:
        super().__init__()
        features = config.features
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 3, padding=1),
            ChannelAttention(features, config.squeezed),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        y: Tensor = self.body(x)
        return x + y


class Group(nn.Module):
    """Blocks and a convolution around a skip; (N, F, H, W) to the same."""

    def __init__(self, config: RCANConfig) -> None:
        super().__init__()
        blocks = (Block(config) for _ in range(config.blocks))
        last = nn.Conv2d(config.features, config.features, 3, padding=1)
        self.body = nn.Sequential(*blocks, last)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        y: Tensor = self.body(x)
        return x + y


class RCAN(nn.Module):
    """The network; keys equal those of the authors' code."""

    full_precision: tuple[str, ...] = ("sub_mean", "add_mean", "head.0", "tail.1")

    def __init__(self, config: RCANConfig) -> None:
        super().__init__()
        features = config.features
        self.white = config.white
        groups = (Group(config) for _ in range(config.groups))
        self.sub_mean = MeanShift(config.white, -1)
        self.add_mean = MeanShift(config.white, 1)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.body = nn.Sequential(*groups, nn.Conv2d(features, features, 3, padding=1))
        self.tail = nn.Sequential(
            upsampler(features, config.scale), nn.Conv2d(features, 3, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        first = self.head(self.sub_mean(x * self.white))
        y: Tensor = self.add_mean(self.tail(first + self.body(first)))
        return y / self.white


def _spec(config: RCANConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        overlap=_OVERLAP,
        tiling="approximate",
        tile_error=_TILE_ERROR,
        half=False,
    )


def _detect(state: StateDict) -> RCANConfig | None:
    first, white = state.get("head.0.weight"), white_of(state)
    narrow = state.get("body.0.body.0.body.3.conv_du.0.weight")
    if first is None or narrow is None or white is None or {first.ndim, narrow.ndim} != {4}:
        return None
    scale = scale_of(state, r"tail\.0\.\d\.weight", first.shape[0])
    if scale is None or not all(map(_KEY.fullmatch, state)):
        return None
    blocks = [re.fullmatch(r"body\.(\d+)\.body\.\d+\.body\.0\.weight", key) for key in state]
    groups = [match[1] for match in blocks if match]
    return RCANConfig(
        features=first.shape[0],
        groups=len(set(groups)),
        blocks=groups.count("0"),
        squeezed=narrow.shape[0],
        scale=scale,
        white=white,
    )


def _canonicalise(state: StateDict) -> StateDict:
    if "trunk.0.residual_group.0.residual_channel_attention_block.0.weight" in state:
        return dict(_from_lornatang(state))
    marks = ("conv_first.weight", "body.0.residual_group.0.rcab.0.weight", "conv_last.weight")
    return dict(_from_basicsr(state)) if all(mark in state for mark in marks) else state


def _from_lornatang(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """Numbers as here under longer names; the mean is one tensor, or in the code alone."""
    groups = {key.split(".")[1] for key in state if key.startswith("trunk.")}
    homes = {"conv1": "head.0", "conv2": f"body.{len(groups)}", "conv3": "tail.1"}
    for key, value in state.items():
        if key == "mean":
            continue
        stem, _, kind = key.rpartition(".")
        stem = re.sub(r"^trunk\.(\d+)\.residual_group\.", r"body.\1.body.", stem)
        stem = stem.replace(".residual_channel_attention_block.", ".body.")
        stem = re.sub(
            r"\.channel_attention_layer\.([13])$", lambda m: f".conv_du.{int(m[1]) - 1}", stem
        )
        stem = re.sub(
            r"^upsampling\.(\d)\.upsample_block\.0$", lambda m: f"tail.0.{2 * int(m[1])}", stem
        )
        yield f"{homes.get(stem, stem)}.{kind}", value
    yield from mean_shifts(1.0, state.get("mean"))


def _from_basicsr(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """The convolution that closes a sequence is named there and numbered here."""
    numbers = [re.match(r"body\.(\d+)\.residual_group\.(\d+)\.rcab\.0\.weight$", k) for k in state]
    groups = [match[1] for match in numbers if match]
    homes = {"conv_first": "head.0", "conv_last": "tail.1"}
    homes["conv_after_body"] = f"body.{len(set(groups))}"
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        stem = re.sub(r"^body\.(\d+)\.conv$", rf"body.\1.body.{groups.count('0')}", stem)
        stem = re.sub(
            r"^body\.(\d+)\.residual_group\.(\d+)\.rcab\.(\d)", r"body.\1.body.\2.body.\3", stem
        )
        stem = re.sub(r"\.attention\.([13])$", lambda m: f".conv_du.{int(m[1]) - 1}", stem)
        stem = re.sub(r"^upsample\.(\d)$", r"tail.0.\1", stem)
        yield f"{homes.get(stem, stem)}.{kind}", value
    yield from mean_shifts()


ARCH = Architecture(
    id="rcan",
    paper="RCAN, Zhang et al. 2018, arXiv:1807.02758",
    config=RCANConfig,
    build=RCAN,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (RCANConfig(scale=2), 15_444_643),
        (RCANConfig(scale=3), 15_629_283),
        (RCANConfig(scale=4), 15_592_355),
    ),
)
