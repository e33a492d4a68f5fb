"""SPAN: a swift network whose attention has no parameters.

Wan, Yu, Li, Chen, Zou, Liu, Yin, Zuo, "Swift Parameter-free Attention Network for Efficient
Super-Resolution", 2023, arXiv:2311.12770; first of the NTIRE 2024 challenge on efficiency. New
there: a block's features are weighted by an odd function of themselves, σ(y) - 1/2, so that strong
responses of either sign are enhanced, without a layer that computes the weights. For training, each
3×3 convolution is a chain of 1×1, 3×3 and 1×1 beside a 1×1, which fold into one.

    x            (N, 3, H, W)         minus the mean colour, times 255
    conv_1       (N, F, H, W)         3×3
    block_1…6    (N, F, H, W)         three 3×3 with SiLU between, + input, times the attention
    conv_2       (N, F, H, W)         3×3 on block 6
    conv_cat     (N, F, H, W)         1×1 on conv_1, conv_2, block 1, the first SiLU of block 6
    upsampler    (N, 3, s·H, s·W)     3×3 to 3·s² sub-pixels

Layouts that are read: the training one (`sk` and `conv.0…2` of each convolution, folded on loading;
a stale `eval_conv` beside them is ignored, as in the authors' code), the deployed one (`eval_conv`
alone), and neosr's variant without the input's normalisation (it has a buffer `no_norm`).

Deviations: always folded, so that training starts from the plain network of the same function.
The parameter counts are the paper's, which are of the folded network.
"""

import math
import re
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict

_MEAN = (0.4488, 0.4371, 0.4040)
_WHITE = 255.0
_BLOCKS = 6
_LARGEST_SCALE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SPANConfig:
    """Hyperparameters.

    Attributes:
        features: Channels between the convolutions.
        scale: Upscaling factor, 1 to 8.
        norm: Whether the mean is taken off and white is 255 inside.
    """

    features: int = 48
    scale: int = 4
    norm: bool = True


class SPAB(nn.Module):
    """Swift parameter-free attention block; (N, F, H, W) to the same."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.c1_r = _conv3(features, features)
        self.c2_r = _conv3(features, features)
        self.c3_r = _conv3(features, features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the block's result, and its features after the first activation."""
        first = F.silu(self.c1_r(x))
        y = self.c3_r(F.silu(self.c2_r(first)))
        return (y + x) * (torch.sigmoid(y) - 0.5), first


class SPAN(nn.Module):
    """The network; keys equal those of the authors' `SPAN`, less `eval_conv` in the middle.

    In bfloat16 the first and the last convolution keep float32: what they read and write are
    pixels, to which no picture is added.
    """

    full_precision: tuple[str, ...] = ("conv_1", "upsampler.0")

    def __init__(self, config: SPANConfig) -> None:
        super().__init__()
        features = config.features
        self.norm = config.norm
        if not config.norm:
            self.register_buffer("no_norm", torch.zeros(1))
        self.conv_1 = _conv3(3, features)
        for k in range(_BLOCKS):
            self.add_module(f"block_{k + 1}", SPAB(features))
        self.conv_2 = _conv3(features, features)
        self.conv_cat = nn.Conv2d(4 * features, features, 1)
        sub_pixels = _conv3(features, 3 * config.scale**2)
        self.upsampler = nn.Sequential(sub_pixels, nn.PixelShuffle(config.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        if self.norm:
            x = (x - x.new_tensor(_MEAN).view(1, 3, 1, 1)) * _WHITE
        shallow = y = self.conv_1(x)
        results = []
        for k in range(_BLOCKS):
            y, first = self.get_submodule(f"block_{k + 1}")(y)
            results.append(y)
        seen = torch.cat([shallow, self.conv_2(y), results[0], first], 1)
        return cast("Tensor", self.upsampler(self.conv_cat(seen)))


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _spec(config: SPANConfig) -> InputSpec:
    return InputSpec(scale=config.scale, overlap=3 * _BLOCKS + 3)


_KEYS = re.compile(
    rf"(conv_1|conv_2|conv_cat|upsampler\.0|block_[1-{_BLOCKS}]\.c[1-3]_r)\.(weight|bias)|no_norm"
)


def _detect(state: StateDict) -> SPANConfig | None:
    marks = ("conv_1", "block_1.c1_r", f"block_{_BLOCKS}.c3_r", "conv_cat", "upsampler.0")
    weights = [state.get(f"{mark}.weight") for mark in marks]
    if not all(map(_KEYS.fullmatch, state)) or any(w is None or w.ndim != 4 for w in weights):
        return None
    first, last = cast("Tensor", weights[0]), cast("Tensor", weights[-1])
    scale = math.isqrt(last.shape[0] // 3)
    if first.shape[1] != 3 or not 1 <= scale <= _LARGEST_SCALE:
        return None
    return SPANConfig(features=first.shape[0], scale=scale, norm="no_norm" not in state)


_PART = re.compile(r"(.+)\.(eval_conv|sk|conv\.[0-2])\.(weight|bias)")


def _canonicalise(state: StateDict) -> StateDict:
    """Folds chains, and shortens the names of what is folded already."""
    if "conv_1.eval_conv.weight" not in state and "conv_1.sk.weight" not in state:
        return state
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        part = _PART.fullmatch(key)
        if part is None:
            result[key] = value
        elif f"{part[1]}.sk.weight" not in state:
            result[f"{part[1]}.{part[3]}"] = value
        elif f"{part[1]}.weight" not in result:
            result |= _folded(state, part[1])
    return result


def _folded(state: StateDict, stem: str) -> dict[str, Tensor]:
    """One 3×3 for 1×1, 3×3, 1×1 beside a 1×1 (the paper's section 3.2); nothing if they do not fit.

    The chain's input is padded before its first convolution, so that a bias passes through it at
    the borders too.
    """
    names = [f"{stem}.{part}" for part in ("sk", "conv.0", "conv.1", "conv.2")]
    weights = [state.get(f"{name}.weight") for name in names]
    biases = [state.get(f"{name}.bias") for name in names]
    given = [t.double() for t in (*weights, *biases) if t is not None]
    if len(given) < 8 or [t.ndim for t in given] != [4] * 4 + [1] * 4:
        return {}
    skip, enter, middle, leave, *bias = given
    chained = middle.shape[1] == enter.shape[0] and leave.shape[1] == middle.shape[0]
    widths = skip.shape[:2] == (leave.shape[0], enter.shape[1])
    kernels = all(w.shape[2:] == (1, 1) for w in (skip, enter, leave))
    ends = all(b.shape[0] == w.shape[0] for b, w in zip(bias, given, strict=False))
    if not (chained and widths and kernels and ends and middle.shape[2:] == (3, 3)):
        return {}
    enter, leave = enter[..., 0, 0], leave[..., 0, 0]
    weight = torch.einsum("om,mchw,ci->oihw", leave, middle, enter) + F.pad(skip, (1, 1, 1, 1))
    inner = middle.sum((2, 3)) @ bias[1] + bias[2]
    folded = {"weight": weight, "bias": leave @ inner + bias[3] + bias[0]}
    return {f"{stem}.{kind}": value.float() for kind, value in folded.items()}


ARCH = Architecture(
    id="span",
    paper="SPAN, Wan et al. 2023, arXiv:2311.12770",
    config=SPANConfig,
    build=SPAN,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (SPANConfig(), 426_288),
        (SPANConfig(scale=2), 410_700),
        (SPANConfig(features=52), 498_208),
        (SPANConfig(features=52, scale=2), 481_324),
        (SPANConfig(features=28), 150_688),
    ),
)
