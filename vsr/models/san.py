"""SAN: channel attention by second-order statistics, and attention over regions of the picture.

Dai, Cai, Zhang, Xia, Zhang, "Second-Order Attention Network for Single Image Super-Resolution",
2019, CVPR (no arXiv version; its covariance pooling is Li, Xie, Wang, Gao 2018, arXiv:1712.01034).
New there: channels are weighed not by their averages but by the covariances between them, whose
matrix square root five Newton-Schulz steps approximate; all groups share a skip from the start.

    x           (N, 3, H, W)        in [0, 1]; times the value of white, minus DIV2K's mean colour
    head        (N, F, H, W)        3×3
    non_local   (N, F, H, W)        each quarter of the picture attends to itself, pooled; + input
    RG[g]       (N, F, H, W)        `blocks` of 3×3, ReLU, 3×3, + input; second-order attention;
                                    3×3; + the group's input, + gamma times non_local's
    non_local   (N, F, H, W)        once more, the same weights; + head's
    tail[0]     (N, F, s·H, s·W)    3×3 and shuffle: ×2 once, twice or thrice, or ×3
    tail[1]     (N, 3, s·H, s·W)    3×3; plus the mean, through the value of white

Keys are those of the authors' code. Deviations: what their `forward` never reads is dropped on
load: `gamma` of each group, `non_local.soca` and the last `conv_last`, together 38,044 of the
published parameters, which count the 24 of the fixed mean shifts too. Their matrix of (H·W)²
elements for the covariance is not made; the pixels' mean is subtracted instead. Covariances are of
at most the middle 1000 × 1000 pixels, as theirs.

Tiling: covariances and quarters are those of the tile, so tiles are approximate at any overlap; see
`_OVERLAP`. Attention over a quarter takes (H·W / 8)² products: large pictures want tiles anyway.
"""

import re
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import MeanShift, scale_of, squeeze, upsampler, white_of

_OVERLAP = 64
"""Input pixels by which tiles overlap.

A small SAN (32 channels, 2 groups of 2), trained for two minutes, is off by at most 1.0 of 255
(root of the mean square 0.16) with tiles of 96 and by 0.8 (0.13) with tiles of 160, whatever the
overlap is from 8 to 32; without overlap by 88. What is left is the statistics' doing: larger tiles
help, wider overlaps do not. The published depth sees farther, hence the reserve.
"""

_TILE_ERROR = 1 / 255

_LARGEST = 1000
_STEPS = 5
_KEY = re.compile(
    r"(?:(?:sub|add)_mean|head\.0|non_local\.non_local\.(?:g\.0|phi\.0|theta|W)|"
    r"RG\.\d{1,3}\.(?:rcab\.\d{1,3}\.conv_first\.[02]|soca\.conv_du\.[02]|conv_last)|"
    r"tail\.0\.[024]|tail\.1)\.(?:weight|bias)|gamma"
)
_UNUSED = re.compile(
    r"RG\.\d{1,3}\.gamma|(?:non_local\.soca\.conv_du\.[02]|conv_last)\.(?:weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SANConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the trunk.
        groups: Residual attention groups.
        blocks: Residual blocks of a group.
        squeezed: Channels between the two convolutions of the channel attention.
        embedded: Channels in which pixels are compared.
        scale: Upscaling factor: 2, 3, 4 or 8.
        white: Value of white that the network was trained with, 255 or 1.
    """

    features: int = 64
    groups: int = 20
    blocks: int = 10
    squeezed: int = 4
    embedded: int = 8
    scale: int = 4
    white: float = 255.0


def covariance(x: Tensor) -> Tensor:
    """Covariances of channels over a picture's pixels: (N, F, H, W) to (N, F, F)."""
    pixels = x.flatten(2)
    centred = pixels - pixels.mean(2, keepdim=True)
    return centred @ centred.transpose(1, 2) / pixels.shape[2]


def matrix_root(x: Tensor, steps: int = _STEPS) -> Tensor:
    """Approximates the square root of positive semidefinite matrices (N, F, F).

    Newton-Schulz iteration on the matrix over its trace (Li et al. 2018, equations 2 to 4).
    """
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    trace = x.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(x.dtype).tiny).view(-1, 1, 1)
    root, inverse = x / trace, identity.expand_as(x)
    for _ in range(steps):
        step = (3 * identity - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    return root * trace.sqrt()


class SecondOrderAttention(nn.Module):
    """Weighs channels by the row means of their covariances' root; (N, F, H, W) to the same."""

    def __init__(self, features: int, squeezed: int) -> None:
        super().__init__()
        self.conv_du = squeeze(features, squeezed)

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies each channel by a number in [0, 1]."""
        top, left = (max(0, side - _LARGEST) // 2 for side in x.shape[2:])
        middle = x[:, :, top : top + _LARGEST, left : left + _LARGEST]
        exact = middle.to(torch.promote_types(x.dtype, torch.float32))
        statistics = matrix_root(covariance(exact)).mean(1)[:, :, None, None]
        weight: Tensor = self.conv_du(statistics.to(x.dtype))
        return x * weight


class Block(nn.Module):
    """Convolution, ReLU, convolution around a skip; (N, F, H, W) to the same."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv_first = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        y: Tensor = self.conv_first(x)
        return x + y


class Group(nn.Module):
    """Blocks, attention and a convolution around a skip; (N, F, H, W) to the same."""

    def __init__(self, config: SANConfig) -> None:
        super().__init__()
        features = config.features
        self.rcab = nn.Sequential(*(Block(features) for _ in range(config.blocks)))
        self.soca = SecondOrderAttention(features, config.squeezed)
        self.conv_last = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        y: Tensor = self.conv_last(self.soca(self.rcab(x)))
        return x + y


class NonLocal(nn.Module):
    """Every pixel gathers from what is like it; (N, F, H, W) to the same.

    Wang, Girshick, Gupta, He 2018, arXiv:1711.07971, embedded Gaussian. What is gathered from is
    half as high and wide, by the maximum of 2×2 pixels; an odd row or column is left out.
    """

    def __init__(self, features: int, embedded: int) -> None:
        super().__init__()
        self.g = nn.Sequential(nn.Conv2d(features, embedded, 1), nn.MaxPool2d(2))
        self.phi = nn.Sequential(nn.Conv2d(features, embedded, 1), nn.MaxPool2d(2))
        self.theta = nn.Conv2d(features, embedded, 1)
        self.W = nn.Conv2d(embedded, features, 1)
        nn.init.normal_(self.W.weight, std=1e-3)  # near the identity; theirs, 0, stops gradients

    def forward(self, x: Tensor) -> Tensor:
        """Adds what was gathered."""
        query, key, value = (
            layer(x).flatten(2).transpose(1, 2)[:, None].contiguous()
            for layer in (self.theta, self.phi, self.g)
        )  # with a head and pixels in rows: otherwise all products would be held at once
        found = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        y: Tensor = self.W(found.transpose(2, 3).reshape(x.shape[0], -1, *x.shape[2:]))
        return x + y


class Quarters(nn.Module):
    """Non-local attention within each quarter of the picture; (N, F, H, W) to the same."""

    def __init__(self, features: int, embedded: int) -> None:
        super().__init__()
        self.non_local = NonLocal(features, embedded)

    def forward(self, x: Tensor) -> Tensor:
        """Adds to each quarter what was gathered from it."""
        row, column = x.shape[2] // 2, x.shape[3] // 2
        halves = (x[:, :, :row], x[:, :, row:])
        parts = [
            [self.non_local(half[..., :column]), self.non_local(half[..., column:])]
            for half in halves
        ]
        return torch.cat([torch.cat(pair, 3) for pair in parts], 2)


class SAN(nn.Module):
    """The network; keys equal those of the authors' code."""

    full_precision: tuple[str, ...] = (
        *("sub_mean", "add_mean", "head.0", "tail.1"),
        *(f"non_local.non_local.{name}" for name in ("g.0", "phi.0", "theta", "W")),
    )

    def __init__(self, config: SANConfig) -> None:
        super().__init__()
        features = config.features
        self.white = config.white
        self.sub_mean = MeanShift(config.white, -1)
        self.add_mean = MeanShift(config.white, 1)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.non_local = Quarters(features, config.embedded)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.RG = nn.ModuleList(Group(config) for _ in range(config.groups))
        self.tail = nn.Sequential(
            upsampler(features, config.scale), nn.Conv2d(features, 3, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        first = self.head(self.sub_mean(x * self.white))
        y = shared = self.non_local(first)
        for group in self.RG:
            y = group(y) + self.gamma * shared
        y = self.add_mean(self.tail(first + self.non_local(y)))
        return cast("Tensor", y / self.white)


def _spec(config: SANConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        minimum=4,
        overlap=_OVERLAP,
        tiling="approximate",
        tile_error=_TILE_ERROR,
        half=False,
    )


def _detect(state: StateDict) -> SANConfig | None:
    marks = ("head.0", "non_local.non_local.theta", "RG.0.soca.conv_du.0")
    found = [state.get(f"{mark}.weight") for mark in marks]
    shapes = [tuple(value.shape) for value in found if value is not None and value.ndim == 4]
    white = white_of(state)
    if len(shapes) != len(marks) or white is None or not all(map(_KEY.fullmatch, state)):
        return None
    scale = scale_of(state, r"tail\.0\.\d\.weight", shapes[0][0])
    if scale is None:
        return None
    return SANConfig(
        features=shapes[0][0],
        groups=sum(key.endswith(".soca.conv_du.0.weight") for key in state),
        blocks=sum(bool(re.match(r"RG\.0\.rcab\.\d+\.conv_first\.0\.weight", k)) for k in state),
        squeezed=shapes[2][0],
        embedded=shapes[1][0],
        scale=scale,
        white=white,
    )


def _canonicalise(state: StateDict) -> StateDict:
    """Drops what the authors' network has and does not use."""
    if "non_local.non_local.theta.weight" not in state or "RG.0.conv_last.weight" not in state:
        return state
    return {key: value for key, value in state.items() if not _UNUSED.fullmatch(key)}


ARCH = Architecture(
    id="san",
    paper="SAN, Dai et al. 2019, CVPR (no arXiv version)",
    config=SANConfig,
    build=SAN,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (SANConfig(scale=2), 15_674_732),
        (SANConfig(scale=3), 15_859_372),
        (SANConfig(scale=4), 15_822_444),
    ),
)
