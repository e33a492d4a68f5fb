"""WDSR: wide activations between thin skips, one shuffle at the very end.

Yu, Fan, Yang, Xu, Wang, Wang, Huang, "Wide Activation for Efficient and Accurate Image
Super-Resolution", 2018, arXiv:1808.08718. New there: more channels before the ReLU for the same
cost, weight normalisation instead of batch norm, and a skip of a single 5×5 from the picture to the
sub-pixels. WDSR-B widens farther by 1×1 convolutions with a low-rank one behind them.

    x         (N, 3, H, W)        in [0, 1]; minus DIV2K's mean colour, times 2
    head      (N, F, H, W)        3×3
    body[k]   (N, F, H, W)        A: 3×3 to E, ReLU, 3×3 to F;  B: 1×1 to E, ReLU, 1×1 to L, 3×3
                                  to F;  times `residual_scale`, + input; `blocks` times
    tail      (N, 3·s², H, W)     3×3, + 5×5 of x (`skip`)
    shuffle   (N, 3, s·H, s·W)    halved, plus the mean

Layouts that are read: the authors' (`weight_g`, `weight_v`), PyTorch's newer one (`original0`,
`original1`), and weights without normalisation; yjn870's (`body.N.module`), and that of the
authors' second code of 2019 (github.com/ychfan/wdsr), one sequence from `body.0` to the tail, which
subtracts 0.5 and does not double: its ends are rescaled, and the mean goes into the state.

Deviations: the weights are normalised once, when they are loaded, not at every step; a network has
one parameter less per output channel than is published. Their first files hold neither the mean nor
the scale of residuals; DIV2K's and 1, as in their code.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import DIV2K_MEAN

_KEY = re.compile(
    r"(?:head\.0|body\.\d{1,4}\.body\.[023]|tail\.0|skip\.0)\.(?:weight|bias)|mean",
)
_PAIRS = {
    ".weight_g": ".weight_v",
    ".parametrizations.weight.original0": ".parametrizations.weight.original1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WDSRConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the skips, the table's F.
        expanded: Channels before the ReLU, E.
        low_rank: Channels between the two linear convolutions of WDSR-B, L; 0 is WDSR-A.
        blocks: Residual blocks.
        scale: Upscaling factor, 2 to 8.
        residual_scale: Factor of every residual.
        stored_mean: Whether the mean colour belongs to the checkpoint; DIV2K's otherwise.
    """

    features: int = 32
    expanded: int = 128
    low_rank: int = 0
    blocks: int = 16
    scale: int = 4
    residual_scale: float = 1.0
    stored_mean: bool = False


def _conv(into: int, out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(into, out, kernel, padding=kernel // 2)


class Block(nn.Module):
    """A wide activation around a skip; (N, F, H, W) to the same."""

    def __init__(self, config: WDSRConfig) -> None:
        super().__init__()
        thin, wide, rank = config.features, config.expanded, config.low_rank
        self.scale = config.residual_scale
        linear = [_conv(wide, rank, 1), _conv(rank, thin, 3)] if rank else [_conv(wide, thin, 3)]
        first = _conv(thin, wide, 1 if rank else 3)
        self.body = nn.Sequential(first, nn.ReLU(inplace=True), *linear)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the scaled residual."""
        return torch.add(x, self.body(x), alpha=self.scale)


class WDSR(nn.Module):
    """The network; keys equal those of the authors' code, with weights already normalised."""

    mean: Tensor
    full_precision: tuple[str, ...] = ("head.0", "tail.0", "skip.0")

    def __init__(self, config: WDSRConfig) -> None:
        super().__init__()
        pixels = 3 * config.scale**2
        mean = torch.tensor(DIV2K_MEAN).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=config.stored_mean)
        self.head = nn.Sequential(_conv(3, config.features, 3))
        self.body = nn.Sequential(*(Block(config) for _ in range(config.blocks)))
        self.tail = nn.Sequential(_conv(config.features, pixels, 3), nn.PixelShuffle(config.scale))
        self.skip = nn.Sequential(_conv(3, pixels, 5), nn.PixelShuffle(config.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        x = (x - self.mean) * 2
        y: Tensor = self.tail(self.body(self.head(x))) + self.skip(x)
        return y / 2 + self.mean


def _spec(config: WDSRConfig) -> InputSpec:
    per_block = 1 if config.low_rank else 2
    return InputSpec(scale=config.scale, overlap=max(2, per_block * config.blocks + 2))


def _detect(state: StateDict) -> WDSRConfig | None:
    marks = ("head.0", "tail.0", "skip.0", "body.0.body.0", "body.0.body.2")
    found = [state.get(f"{mark}.weight") for mark in marks]
    shapes = [tuple(value.shape) for value in found if value is not None and value.ndim == 4]
    if len(shapes) != len(marks) or not all(map(_KEY.fullmatch, state)):
        return None
    head, tail, _, wide, linear = shapes
    scale = next((s for s in range(1, 9) if 3 * s**2 == tail[0]), None)
    if scale is None:
        return None
    return WDSRConfig(
        features=head[0],
        expanded=wide[0],
        low_rank=linear[0] if "body.0.body.3.weight" in state else 0,
        blocks=sum(key.endswith(".body.0.weight") for key in state),
        scale=scale,
        stored_mean="mean" in state,
    )


def _canonicalise(state: StateDict) -> StateDict:
    """Folds weight normalisation of the layout's own marks: g times v over v's length."""
    state = {re.sub(r"^(body\.\d{1,4})\.module\.", r"\1.body.", k): v for k, v in state.items()}
    if _has(state, ("body.0", "body.1.body.0", "skip.0")):
        return _from_one_sequence(_folded(state))
    return _folded(state) if _has(state, ("head.0", "tail.0", "skip.0", "body.0.body.0")) else state


def _has(state: StateDict, marks: tuple[str, ...]) -> bool:
    return all(any(f"{mark}{pair}" in state for pair in _PAIRS) for mark in marks)


def _from_one_sequence(state: StateDict) -> StateDict:
    """Names and gains of the code of 2019, whose network is f(x - 0.5) + 0.5 without doubling."""
    ends = (re.match(r"body\.(\d{1,4})\.(?:weight|bias)$", key) for key in state)
    final = max(int(match[1]) for match in ends if match)
    renamed: dict[str, Tensor] = {"mean": torch.full((1, 3, 1, 1), 0.5)}
    for key, value in state.items():
        block = re.match(r"body\.(\d{1,4})\.(.+)$", key)
        if block is None:  # the skip: doubled before, halved after
            renamed[key] = value * 2 if key.endswith(".bias") else value
        elif block[1] == "0":
            renamed[f"head.0.{block[2]}"] = value / 2 if block[2] == "weight" else value
        elif block[1] == str(final):
            renamed[f"tail.0.{block[2]}"] = value * 2
        else:
            renamed[f"body.{int(block[1]) - 1}.{block[2]}"] = value
    return renamed


def _folded(state: StateDict) -> dict[str, Tensor]:
    folded: dict[str, Tensor] = {}
    for key, value in state.items():
        mark = next((g for g in _PAIRS if key.endswith(g)), "")
        stem = key.removesuffix(mark)
        direction = state.get(stem + _PAIRS[mark]) if mark else None
        if direction is not None and _belongs(value, direction):
            folded[f"{stem}.weight"] = _normalised(value, direction)
        elif not key.endswith(tuple(_PAIRS.values())):
            folded[key] = value
    return folded


def _belongs(length: Tensor, direction: Tensor) -> bool:
    return direction.ndim == 4 and length.shape == (direction.shape[0], 1, 1, 1)


def _normalised(length: Tensor, direction: Tensor) -> Tensor:
    length, direction = length.float(), direction.float()
    norm: Tensor = torch.linalg.vector_norm(direction, dim=(1, 2, 3), keepdim=True)
    return direction * (length / norm)


def _b(scale: int) -> WDSRConfig:
    return WDSRConfig(expanded=192, low_rank=25, scale=scale)


def _wide(scale: int) -> WDSRConfig:
    return WDSRConfig(expanded=192, scale=scale)


ARCH = Architecture(
    id="wdsr",
    paper="WDSR, Yu et al. 2018, arXiv:1808.08718",
    config=WDSRConfig,
    build=WDSR,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (WDSRConfig(scale=2), 1_187_484),
        (WDSRConfig(scale=3), 1_192_959),
        (WDSRConfig(scale=4), 1_200_624),
    ),
    hinted=("residual_scale",),
)
