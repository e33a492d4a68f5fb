"""PLKSR: partial large kernels.

Lee, Yun, Ro, "Partial Large Kernel CNNs for Efficient Super-Resolution", 2024, arXiv:2404.11848.
New there: one convolution of 17×17 on a quarter of the channels gives each block a transformer's
reach at a convolution's price; a gate for every value (element-wise attention) adapts to the input.

    x            (N, C, H, W)
    feats[0]     (N, F, H, W)          3×3
    feats[k]     (N, F, H, W)          `blocks` of
      mixer      (N, F, H, W)            3×3 to 2·F, GELU, 3×3 to F
      lk         (N, F, H, W)            k×k on the first `partial` channels, the others as they are
      attn       (N, F, H, W)            times σ(3×3), if there is a gate
      refine     (N, F, H, W)            1×1, + input
    feats[-1]    (N, C·s², H, W)       3×3, + each channel of x s² times
    to_img       (N, C, s·H, s·W)      pixel shuffle

Layouts that are read: the authors' (with their `channe_mixer`), also of their variants whose mixer
has a 1×1 on one side; and RealPLKSR of neosr, which most community checkpoints are: Mish instead of
GELU, a group norm at the end of every block or a layer norm at its beginning, a dropout that takes
a number before the last convolution, and on demand DySample (Liu et al. 2023, arXiv:2308.15085)
instead of the shuffle. The sparse kernels of the paper's ablations are not read.

Deviations: none. Tiling: the radius is the sum of all kernels' radii, 98 for the tiny network: its
tiles are exact. Beyond `_WIDEST` tiles overlap by a compromise; group norms, which average over all
that they see, and DySample, which reads where it wants, allow no more anyway.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, StateDict

_LARGEST_SCALE = 8
_WIDEST = 160
_APPROXIMATE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PLKSRConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 3 for RGB and 1 for luma.
        features: Channels of the trunk.
        blocks: Number of blocks.
        kernel: Side of the large kernel.
        partial: Channels that it sees.
        enter: Side of the mixer's first kernel.
        leave: Side of the mixer's second kernel.
        gate: Whether there is element-wise attention.
        norm: RealPLKSR's norms; PLKSR has none.
        norm_groups: Groups of group norms.
        dysample: Whether the last step samples at learned positions.
        scale: Upscaling factor, 1 to 8.
    """

    channels: Literal[1, 3] = 3
    features: int = 64
    blocks: int = 28
    kernel: int = 17
    partial: int = 16
    enter: int = 3
    leave: int = 3
    gate: bool = True
    norm: Literal["none", "group", "layer"] = "none"
    norm_groups: int = 4
    dysample: bool = False
    scale: int = 4


class PartialConv(nn.Module):
    """A large kernel on the first channels; (N, F, H, W) to the same."""

    def __init__(self, partial: int, kernel: int) -> None:
        super().__init__()
        self.partial = partial
        self.conv = _conv(partial, partial, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Leaves the other channels as they are."""
        seen = self.conv(x[:, : self.partial])
        return torch.cat([seen, x[:, self.partial :].to(seen.dtype)], 1)


class Gate(nn.Module):
    """Element-wise attention; (N, F, H, W) to the same."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.f = nn.Sequential(_conv(features, features, 3), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Weights every value."""
        return cast("Tensor", x * self.f(x))


class LayerNorm(nn.LayerNorm):
    """Over the channels of each pixel; (N, F, H, W) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Computes in its weight's type."""
        y = super().forward(x.permute(0, 2, 3, 1).to(self.weight.dtype))
        return y.permute(0, 3, 1, 2)


class GroupNorm(nn.GroupNorm):
    """Over the picture and a group of channels; (N, F, H, W) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Computes in its weight's type."""
        return super().forward(x.to(self.weight.dtype))


class Block(nn.Module):
    """Local texture, long range, gate and refinement in a residual; (N, F, H, W) to the same."""

    def __init__(self, config: PLKSRConfig) -> None:
        super().__init__()
        features, normal = config.features, nn.Identity()
        self.layer_norm = LayerNorm(features, eps=1e-6) if config.norm == "layer" else normal
        self.channel_mixer = nn.Sequential(
            _conv(features, 2 * features, config.enter),
            nn.GELU() if config.norm == "none" else nn.Mish(),
            _conv(2 * features, features, config.leave),
        )
        self.lk = PartialConv(config.partial, config.kernel)
        self.attn = Gate(features) if config.gate else nn.Identity()
        self.refine = _conv(features, features, 1)
        groups = config.norm_groups
        if config.norm == "group" and (groups < 1 or features % groups):
            msg = f"plksr's {features} channels cannot be normed in {groups} groups: take a divisor"
            raise CheckpointError(msg)
        self.norm = GroupNorm(groups, features) if config.norm == "group" else normal

    def forward(self, x: Tensor) -> Tensor:
        """Adds what the block makes."""
        y = self.lk(self.channel_mixer(self.layer_norm(x)))
        return cast("Tensor", x + self.norm(self.refine(self.attn(y))))


class DySample(nn.Module):
    """Samples groups of channels at learned positions; (N, K, H, W) to (N, C, s·H, s·W)."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale, self.groups = scale, 3 if scale % 2 else 4
        inputs, positions = channels * scale**2, 2 * self.groups * scale**2
        self.end_conv = nn.Conv2d(inputs, channels, 1) if scale > 1 else nn.Identity()
        self.offset = nn.Conv2d(inputs, positions, 1)
        self.scope = nn.Conv2d(inputs, positions, 1, bias=False)
        nn.init.trunc_normal_(self.offset.weight, std=0.02)
        nn.init.zeros_(self.scope.weight)
        centres = (torch.arange(scale) - (scale - 1) / 2) / scale
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        sub_pixels = torch.stack([x.flatten(), y.flatten()]).repeat(1, self.groups)
        self.register_buffer("init_pos", sub_pixels.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Moves every output pixel by less than half an input pixel times its offset (eq. 7)."""
        count, _, height, width = x.shape
        moved = self.offset(x) * self.scope(x).sigmoid() / 2 + cast("Tensor", self.init_pos)
        moved = F.pixel_shuffle(moved, self.scale)
        moved = moved.reshape(count, 2, self.groups, *moved.shape[2:])
        sides = [torch.arange(side * self.scale, device=x.device) for side in (height, width)]
        rows, columns = ((side // self.scale).to(x.dtype) + 0.5 for side in sides)
        along = (moved[:, 0] + columns) / width, (moved[:, 1] + rows[:, None]) / height
        grid = 2 * torch.stack(along, -1).flatten(0, 1) - 1
        parts = x.reshape(count * self.groups, -1, height, width)
        y = F.grid_sample(parts, grid, padding_mode="border", align_corners=False)
        return cast("Tensor", self.end_conv(y.reshape(count, -1, *y.shape[2:])))


class PLKSR(nn.Module):
    """The network; keys equal those of the authors' `PLKSR` but for `channel_mixer`.

    In bfloat16 the norms and the positions of DySample keep float32; the convolutions' result is a
    detail that is added to the picture itself, which stays in the input's type.
    """

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: PLKSRConfig) -> None:
        super().__init__()
        channels, scale = config.channels, config.scale
        self.repeats = scale**2
        self.feats = nn.Sequential(
            _conv(channels, config.features, 3),
            *(Block(config) for _ in range(config.blocks)),
            *([] if config.norm == "none" else [nn.Identity()]),
            _conv(config.features, channels * scale**2, 3),
        )
        self.to_img = DySample(channels, scale) if config.dysample else nn.PixelShuffle(scale)
        exact = (GroupNorm, LayerNorm)
        norms = (name for name, m in self.named_modules() if isinstance(m, exact))
        ends = (name for name, _ in self.named_modules() if name.startswith("to_img."))
        self.full_precision = (*norms, *ends)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        picture = x.repeat_interleave(self.repeats, 1)
        return cast("Tensor", self.to_img(picture + self.feats(x)))


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.trunc_normal_(made.weight, std=0.02)
    return made


def receptive_radius(config: PLKSRConfig) -> int:
    """Input pixels to each side that an output pixel depends on, but for norms and DySample."""
    sides = (config.enter, config.leave, config.kernel, 3 if config.gate else 1)
    return 2 + config.blocks * sum(side // 2 for side in sides)


def _spec(config: PLKSRConfig) -> InputSpec:
    radius, local = receptive_radius(config), config.norm != "group" and not config.dysample
    exact = radius <= _WIDEST and local
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        overlap=radius if exact else min(radius, _APPROXIMATE),
        tiling="exact" if exact else "approximate",
        half=local,
    )


_PART = r"layer_norm|channel_mixer\.[02]|lk\.conv|attn\.f\.0|refine|norm"
_KEYS = re.compile(rf"feats\.(\d{{1,3}})\.(?:(?:{_PART})\.)?(?:weight|bias)|to_img\.\w+(?:\.\w+)?")


_NORMS: dict[Literal["none", "group", "layer"], str] = {
    "group": "feats.1.norm.weight",
    "layer": "feats.1.layer_norm.weight",
}


def _detect(state: StateDict) -> PLKSRConfig | None:
    parts = ("channel_mixer.0", "channel_mixer.2", "lk.conv")
    marks = ("feats.0.weight", *(f"feats.1.{part}.weight" for part in parts))
    found = [_KEYS.fullmatch(key) for key in state]
    weights = [state.get(mark) for mark in marks]
    numbers = {int(match[1]) for match in found if match and match[1]}
    last = max(numbers, default=0)
    tensors = [w for w in (*weights, state.get(f"feats.{last}.weight")) if w is not None]
    if not all(found) or len(tensors) < 5 or any(w.ndim != 4 for w in tensors):
        return None
    first, enter, leave, large, final = tensors
    channels = first.shape[1]
    scale = math.isqrt(final.shape[0] // max(1, channels))
    sides = [tensor.shape[-1] for tensor in (enter, leave, large)]
    if any(0 in tensor.shape for tensor in tensors):
        return None
    if channels not in (1, 3) or not 1 <= scale <= _LARGEST_SCALE or not all(s % 2 for s in sides):
        return None
    return PLKSRConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        blocks=len(numbers) - 2,
        kernel=large.shape[-1],
        partial=large.shape[0],
        enter=enter.shape[-1],
        leave=leave.shape[-1],
        gate="feats.1.attn.f.0.weight" in state,
        norm=next((n for n, key in _NORMS.items() if key in state), "none"),
        dysample="to_img.init_pos" in state,
        scale=scale,
    )


def _canonicalise(state: StateDict) -> StateDict:
    if "feats.1.channe_mixer.0.weight" not in state:
        return state
    return {key.replace(".channe_mixer.", ".channel_mixer."): v for key, v in state.items()}


ARCH = Architecture(
    id="plksr",
    paper="PLKSR, Lee et al. 2024, arXiv:2404.11848",
    config=PLKSRConfig,
    build=PLKSR,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (PLKSRConfig(), 7_386_096),
        (PLKSRConfig(scale=2), 7_365_324),
        (PLKSRConfig(blocks=12, kernel=13, gate=False), 2_370_544),
        (PLKSRConfig(blocks=12, kernel=13, gate=False, scale=2), 2_349_772),
        (PLKSRConfig(norm="group"), 7_389_680),
    ),
    hinted=("norm_groups",),
)
