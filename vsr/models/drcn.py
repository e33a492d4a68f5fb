"""DRCN: one convolution applied again and again, every application supervised.

Kim, Lee, Lee, "Deeply-Recursive Convolutional Network for Image Super-Resolution", CVPR 2016,
arXiv:1511.04491. What was new: depth without further weights, by recursion; every recursion is made
into a picture of its own, which is supervised in training, and the output is a learned mean of all
(recursive supervision); the input skips to the reconstruction. It works on luma that was enlarged
before.

    x               (N, C, H, W)
    upscale         (N, C, s·H, s·W)        MATLAB's bicubic, no weights
    embed           (N, F, s·H, s·W)        3×3, ReLU, twice
    recurse         (N, F, s·H, s·W)        3×3, ReLU: the same weights `depth` times
    reconstruct     (N, C, s·H, s·W)        3×3, ReLU; 3×3; after every recursion, the same weights
    weights         (N, C, s·H, s·W)        the sum of `depth` pictures, each times its weight

Two ways of skipping: `add` is the paper's, every picture is the input and what `reconstruct` makes.
`concat`, of jiny2001's public version, puts the input beside the features of the last convolution,
which is rectified. The paper's network has 256 features and 16 recursions; jiny2001 published the
weights of 96 and 9 (`vsr.checkpoints.foreign` reads them).

Deviations: with `add` the last convolution is not rectified. The paper's equation has a ReLU there,
for the network before the skip; with it the residual could only brighten. No checkpoint tells the
scale: a header or the user does, otherwise it is 4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, LumaRange, StateDict
from vsr.models._blocks_luma import LARGEST_SCALE, Bicubic, radius_before_bicubic

type Skip = Literal["add", "concat"]

_STEMS = ("embed.0", "embed.2", "recurse", "reconstruct.0", "reconstruct.1")
_KEYS = {f"{stem}.{kind}" for stem in _STEMS for kind in ("weight", "bias")} | {"weights"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DRCNConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 1 for luma and 3 for RGB.
        features: Channels between the convolutions.
        depth: Recursions.
        skip: How the input reaches the reconstruction, `add` or `concat`.
        scale: Factor of the enlargement in front, 1 to 8.
        luma: Range of luma that the weights were trained on, see `InputSpec`; the field's own code,
            MATLAB's, has `studio`.
    """

    channels: Literal[1, 3] = 1
    features: int = 256
    depth: int = 16
    skip: Skip = "add"
    scale: int = 4
    luma: LumaRange = "studio"


class DRCN(nn.Module):
    """The network, whose key layout is its own.

    Raises:
        CheckpointError: An unknown way of skipping.
    """

    full_precision: tuple[str, ...] = ("reconstruct.1",)

    def __init__(self, config: DRCNConfig) -> None:
        super().__init__()
        if config.skip not in {"add", "concat"}:
            msg = f"drcn cannot skip by {config.skip!r}: add or concat"
            raise CheckpointError(msg)
        channels, features, self.skip = config.channels, config.features, config.skip
        self.upscale = Bicubic(config.scale)
        self.embed = nn.Sequential(
            nn.Conv2d(channels, features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.recurse = nn.Conv2d(features, features, 3, padding=1)
        seen = features + (channels if config.skip == "concat" else 0)
        self.reconstruct = nn.ModuleList(
            [nn.Conv2d(features, features, 3, padding=1), nn.Conv2d(seen, channels, 3, padding=1)]
        )
        self.weights = nn.Parameter(torch.full((config.depth,), 1 / config.depth))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        pictures = self.predictions(x)
        weighted = (y * weight for y, weight in zip(pictures, self.weights, strict=True))
        return sum(weighted, torch.zeros((), dtype=x.dtype, device=x.device))

    def predictions(self, x: Tensor) -> Iterator[Tensor]:
        """Yields the picture of every recursion, each (N, C, s·H, s·W), for supervision."""
        x = self.upscale(x)
        features = self.embed(x)
        for _ in range(len(self.weights)):
            features = self.recurse(features).relu()
            yield self._picture(x, self.reconstruct[0](features).relu_())

    def _picture(self, x: Tensor, features: Tensor) -> Tensor:
        if self.skip == "add":
            return x + cast("Tensor", self.reconstruct[1](features))
        beside = torch.cat([features.to(x.dtype), x], 1)
        return cast("Tensor", self.reconstruct[1](beside)).relu_()


def _spec(config: DRCNConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        luma=config.luma if config.channels == 1 else "full",
        minimum=1 if config.scale == 1 else 2,
        overlap=radius_before_bicubic(config.depth + 4, config.scale),
    )


def _detect(state: StateDict) -> DRCNConfig | None:
    if state.keys() != _KEYS:
        return None
    first, last, weights = (
        state[key] for key in ("embed.0.weight", "reconstruct.1.weight", "weights")
    )
    if (first.ndim, last.ndim, weights.ndim) != (4, 4, 1):
        return None
    features, channels = first.shape[:2]
    if channels not in (1, 3):
        return None
    return DRCNConfig(
        channels=cast("Literal[1, 3]", channels),
        features=features,
        depth=len(weights),
        skip="add" if last.shape[1] == features else "concat",
    )


ARCH = Architecture(
    id="drcn",
    paper="Deeply-Recursive Convolutional Network for Image Super-Resolution, "
    "Kim, Lee, Lee 2016, arXiv:1511.04491",
    config=DRCNConfig,
    build=DRCN,
    spec=_spec,
    detect=_detect,
    # the paper's count of 1 774 k is without biases and weights of the sum
    parameters=(
        (DRCNConfig(), 1_775_121),
        (DRCNConfig(features=96, depth=9, skip="concat"), 250_963),
    ),
    hinted=("scale", "luma"),
    scales=lambda _: range(1, LARGEST_SCALE + 1),
)
