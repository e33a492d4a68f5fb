"""SwinIR: image restoration by a Swin transformer.

Liang, Cao, Sun, Zhang, Van Gool, Timofte, "SwinIR: Image Restoration Using Swin Transformer", 2021,
arXiv:2108.10257. New there: self-attention within windows of 8×8 pixels, every second time shifted
by half a window (Liu et al. 2021, arXiv:2103.14030), in residual groups that each end in a
convolution. One trunk serves all tasks; the tail depends on the task.

    x               (N, C, H, W)        minus the mean colour, times img_range
    conv_first      (N, E, H, W)        3×3
    layers          (N, H, W, E)        groups of transformer blocks, + their input
    conv_after_body (N, E, H, W)        one or three convolutions, + conv_first's
    tail            (N, C, s·H, s·W)
      pixelshuffle        classical: 3×3 to 64, sub-pixel steps of 2 or 3, 3×3
      pixelshuffledirect  lightweight: 3×3 to C·s² and one shuffle
      nearest+conv        real-world: 3×3 to 64, per doubling nearest and 3×3, then 3×3 twice
      none                denoising and JPEG, s = 1: 3×3, + the picture

The authors', KAIR's and BasicSR's layouts are one. Its `attn_mask` and `relative_position_index`
are dropped: both follow from the size and the window.

Any size goes in: at the right and bottom the picture is mirrored up to a multiple of the window, as
by the authors (repeated, where it is narrower than the margin), and the result cropped.

Deviations: no stochastic depth in training; a masked pair of pixels has the logit -∞, not -100.

Tiling is exact: windows lie on a grid, so that tiles whose origins are multiples of the window see
the windows of the whole picture, and information moves half a window a layer (see
`receptive_radius`). The `InputSpec` therefore aligns to the window.
"""

import functools
import itertools
import math
import re
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_modern import Linear, aligned, pair_offsets, picture, shifted_mask, windows

type Upsampler = Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv", "none"]

_MEAN = (0.4488, 0.4371, 0.4040)
_TAIL_FEATURES = 64
_LARGEST_SCALE, _LARGEST_WINDOW, _JPEG_WINDOW = 8, 32, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinIRConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 3 for RGB and 1 for gray.
        embed: Channels of the trunk.
        depths: Transformer blocks of each group.
        heads: Attention heads in each group.
        window: Side of an attention window in pixels.
        hidden: Channels inside the blocks' perceptrons.
        upsampler: The tail; see the module's docstring.
        residual: Convolutions at the end of a group and of the trunk.
        scale: Upscaling factor.
        img_range: Value of white inside the network: 255 for the JPEG checkpoints.
    """

    channels: Literal[1, 3] = 3
    embed: int = 180
    depths: tuple[int, ...] = (6,) * 6
    heads: tuple[int, ...] = (6,) * 6
    window: int = 8
    hidden: int = 360
    upsampler: Upsampler = "pixelshuffle"
    residual: Literal["1conv", "3conv"] = "1conv"
    scale: int = 4
    img_range: float = 1.0


class WindowAttention(nn.Module):
    """Multi-head attention within a window, biased by relative position (SwinIR, eq. 6)."""

    def __init__(self, embed: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(embed, 3 * embed)
        self.proj = Linear(embed, embed)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("offsets", pair_offsets(window), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Maps windows (B, T, E) to the same.

        Args:
            x: B windows of T pixels.
            mask: (B, 1, T, T): 0 where two pixels see each other, -∞ elsewhere; None if all do.
        """
        count, pixels, embed = x.shape
        qkv = self.qkv(x).reshape(count, pixels, 3, self.heads, embed // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        offsets = cast("Tensor", self.offsets)
        bias = self.relative_position_bias_table[offsets].permute(2, 0, 1).unsqueeze(0)
        bias = bias if mask is None else bias + mask
        mixed = F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype))
        return cast("Tensor", self.proj(mixed.transpose(1, 2).reshape(count, pixels, embed)))


class MLP(nn.Module):
    """Two linear layers with a GELU between; (..., E) to the same."""

    def __init__(self, embed: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(embed, hidden)
        self.fc2 = Linear(hidden, embed)

    def forward(self, x: Tensor) -> Tensor:
        """Maps every pixel by itself."""
        return cast("Tensor", self.fc2(F.gelu(self.fc1(x))))


class SwinBlock(nn.Module):
    """Attention within windows, then a perceptron, each behind a norm and in a residual."""

    def __init__(self, config: SwinIRConfig, heads: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = config.window, shift
        self.norm1 = nn.LayerNorm(config.embed)
        self.attn = WindowAttention(config.embed, heads, config.window)
        self.norm2 = nn.LayerNorm(config.embed)
        self.mlp = MLP(config.embed, config.hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps (N, H, W, E) to the same; `mask` is that of the shifted windows."""
        y = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        y = self.attn(windows(y, self.window), mask if self.shift else None)
        y = torch.roll(picture(y, self.window, x.shape), (self.shift, self.shift), (1, 2))
        x = x + y
        return cast("Tensor", x + self.mlp(self.norm2(x)))


class Group(nn.Module):
    """RSTB: blocks, every second one shifted, then convolutions; (N, H, W, E) to the same."""

    def __init__(self, config: SwinIRConfig, depth: int, heads: int) -> None:
        super().__init__()
        shifts = [config.window // 2 * (k % 2) for k in range(depth)]
        blocks = nn.ModuleList(SwinBlock(config, heads, shift) for shift in shifts)
        self.residual_group = nn.ModuleDict({"blocks": blocks})
        self.conv = _closing(config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Adds what the group makes."""
        y = x
        for block in cast("nn.ModuleList", self.residual_group["blocks"]):
            y = block(y, mask)
        return cast("Tensor", x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class SwinIR(nn.Module):
    """The network; keys equal those of the authors' `SwinIR`, less the derived buffers.

    In bfloat16 the norms and the running sum keep float32, and so does the last convolution.
    """

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: SwinIRConfig) -> None:
        super().__init__()
        self.config = config
        embed = config.embed
        self.conv_first = nn.Conv2d(config.channels, embed, 3, padding=1)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(embed)})
        pairs = zip(config.depths, config.heads, strict=True)
        self.layers = nn.ModuleList(Group(config, depth, heads) for depth, heads in pairs)
        self.norm = nn.LayerNorm(embed)
        self.conv_after_body = _closing(config)
        for name, module in _tail_modules(config).items():
            self.add_module(name, module)
        self.apply(_initialise)
        norms = [name for name, m in self.named_modules() if isinstance(m, nn.LayerNorm)]
        last = "upsample.0" if config.upsampler == "pixelshuffledirect" else "conv_last"
        self.full_precision = (*norms, last)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1], of any size, to (N, C, s·H, s·W)."""
        config, (height, width) = self.config, x.shape[-2:]
        mean = x.new_tensor(_MEAN if config.channels == 3 else (0.0,)).view(1, -1, 1, 1)
        x = (aligned(x, config.window) - mean) * config.img_range
        shallow = self.conv_first(x).to(self.norm.weight.dtype)
        deep = self._trunk(shallow.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        features = self.conv_after_body(deep) + shallow
        y = self._tail(features)
        y = x + y if config.upsampler == "none" else y
        y = y / config.img_range + mean
        return y[..., : height * config.scale, : width * config.scale]

    def _trunk(self, x: Tensor) -> Tensor:
        """All groups between two norms; (N, H, W, E) to the same."""
        mask = shifted_mask(x, self.config.window)
        x = self.patch_embed["norm"](x)
        for group in self.layers:
            x = group(x, mask)
        return cast("Tensor", self.norm(x))

    def _tail(self, x: Tensor) -> Tensor:
        """Maps (N, E, H, W) to (N, C, s·H, s·W)."""
        part, kind = self.get_submodule, self.config.upsampler
        if kind in ("none", "pixelshuffledirect"):
            return cast("Tensor", part("conv_last" if kind == "none" else "upsample")(x))
        x = part("conv_before_upsample")(x)
        if kind == "pixelshuffle":
            return cast("Tensor", part("conv_last")(part("upsample")(x)))
        for step in range(self.config.scale.bit_length() - 1):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = F.leaky_relu(part(f"conv_up{step + 1}")(x), 0.2)
        return cast("Tensor", part("conv_last")(F.leaky_relu(part("conv_hr")(x), 0.2)))


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _closing(config: SwinIRConfig) -> nn.Module:
    """What ends a group: one convolution, or three through a quarter of the channels."""
    embed, narrow = config.embed, config.embed // 4
    if config.residual == "1conv":
        return _conv3(embed, embed)
    middle = nn.Conv2d(narrow, narrow, 1)
    relu = functools.partial(nn.LeakyReLU, 0.2)
    return nn.Sequential(_conv3(embed, narrow), relu(), middle, relu(), _conv3(narrow, embed))


def _tail_modules(config: SwinIRConfig) -> dict[str, nn.Module]:
    channels, scale, wide = config.channels, config.scale, _TAIL_FEATURES
    if config.upsampler == "none":
        return {"conv_last": _conv3(config.embed, channels)}
    if config.upsampler == "pixelshuffledirect":
        sub_pixels = _conv3(config.embed, channels * scale**2)
        return {"upsample": nn.Sequential(sub_pixels, nn.PixelShuffle(scale))}
    entry = nn.Sequential(_conv3(config.embed, wide), nn.LeakyReLU(0.01))
    tail: dict[str, nn.Module] = {"conv_before_upsample": entry}
    if config.upsampler == "pixelshuffle":
        steps = ((_conv3(wide, wide * r * r), nn.PixelShuffle(r)) for r in _steps(scale))
        tail["upsample"] = nn.Sequential(*itertools.chain.from_iterable(steps))
    else:
        doublings = range(1, scale.bit_length())
        tail |= {f"conv_up{step}": _conv3(wide, wide) for step in doublings}
        tail["conv_hr"] = _conv3(wide, wide)
    return {**tail, "conv_last": _conv3(wide, channels)}


def _steps(scale: int) -> list[int]:
    """Sub-pixel steps of the classical tail: one of 3, or as many of 2 as it takes."""
    return [3] if scale == 3 else [2] * (scale.bit_length() - 1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def receptive_radius(config: SwinIRConfig) -> int:
    """Input pixels to each side that an output pixel depends on at most.

    Follows the ends of the field backwards through the network, for every position of an output
    pixel within a window: a convolution moves them by one, a window to its own ends.
    """
    scale, window = config.scale, config.window
    edge = 1 if config.residual == "1conv" else 2
    reach = 0
    for pixel in range(window * scale):
        low, high = _before_tail(config, pixel)
        low, high = low - edge, high + edge
        for depth in reversed(config.depths):
            low, high = low - edge, high + edge
            for k in reversed(range(depth)):
                shift = window // 2 * (k % 2)
                low = (low - shift) // window * window + shift
                high = (high - shift) // window * window + shift + window - 1
        reach = max(reach, pixel // scale - low + 1, high + 1 - pixel // scale)
    return reach


def _before_tail(config: SwinIRConfig, pixel: int) -> tuple[int, int]:
    """First and last trunk pixel that an output pixel is made from."""
    if config.upsampler in ("none", "pixelshuffledirect"):
        home = pixel // config.scale
        return home - 1, home + 1
    edge = 1 if config.upsampler == "pixelshuffle" else 2  # the convolutions at full size
    low, high = pixel - edge, pixel + edge
    for r in _steps(config.scale):
        if config.upsampler == "pixelshuffle":
            low, high = low // r - 1, high // r + 1
        else:
            low, high = (low - 1) // r, (high + 1) // r
    return low - 1, high + 1


def _spec(config: SwinIRConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        multiple_of=config.window,
        overlap=receptive_radius(config),
        half=False,
    )


_BLOCK = r"residual_group\.blocks\.\d{1,3}\.(norm1|norm2|attn|mlp)"
_KEYS = re.compile(
    rf"(layers\.\d{{1,3}}\.({_BLOCK}|conv)|conv_(first|after_body|last|hr|up\d)|norm|patch_embed\.norm"
    r"|conv_before_upsample|upsample)\."
)
_TABLE = "layers.{}.residual_group.blocks.0.attn.relative_position_bias_table"


def _detect(state: StateDict) -> SwinIRConfig | None:
    marks = ("conv_first.weight", "layers.0.residual_group.blocks.0.mlp.fc1.weight", "norm.weight")
    first, fc1, norm = (state.get(mark) for mark in marks)
    if first is None or fc1 is None or norm is None or not all(map(_KEYS.match, state)):
        return None
    blocks = {tuple(key.split(".")[1:5:3]) for key in state if ".blocks." in key}
    groups = len({group for group, _ in blocks})
    tables = [state.get(_TABLE.format(group)) for group in range(groups)]
    shapes = [table.shape for table in tables if table is not None and table.ndim == 2]
    if not 0 < groups == len(shapes) or {first.ndim, fc1.ndim + 2} != {4}:
        return None
    window = (math.isqrt(shapes[0][0]) + 1) // 2
    upsampler, scale = _tail_of(state, first.shape[1])
    heads = tuple(shape[1] for shape in shapes)
    fits = first.shape[1] in (1, 3) and first.shape[0] >= 4 and 1 <= window <= _LARGEST_WINDOW
    split = 0 not in (*heads, *fc1.shape) and all(first.shape[0] % count == 0 for count in heads)
    if not (fits and split and 1 <= scale <= _LARGEST_SCALE):
        return None
    return SwinIRConfig(
        channels=cast("Literal[1, 3]", first.shape[1]),
        embed=first.shape[0],
        depths=tuple(sum(group == str(k) for group, _ in blocks) for k in range(groups)),
        heads=heads,
        window=window,
        hidden=fc1.shape[0],
        upsampler=upsampler,
        residual="1conv" if "conv_after_body.weight" in state else "3conv",
        scale=scale,
        img_range=255.0 if window == _JPEG_WINDOW else 1.0,
    )


def _tail_of(state: StateDict, channels: int) -> tuple[Upsampler, int]:
    doublings = sum(bool(re.fullmatch(r"conv_up\d\.weight", key)) for key in state)
    steps = (v for k, v in state.items() if re.fullmatch(r"upsample\.\d\.weight", k))
    widths = [(*step.shape, 0)[0] for step in steps]
    if doublings:
        return "nearest+conv", int(2**doublings)
    if "conv_before_upsample.0.weight" in state:
        return "pixelshuffle", math.prod(math.isqrt(width // _TAIL_FEATURES) for width in widths)
    if widths:
        return "pixelshuffledirect", math.isqrt(widths[0] // max(1, channels))
    return "none", 1


def _canonicalise(state: StateDict) -> StateDict:
    if not any(".relative_position_bias_table" in key for key in state):
        return state
    derived = ("relative_position_index", "attn_mask")
    return {key: value for key, value in state.items() if not key.endswith(derived)}


_LIGHT = SwinIRConfig(
    embed=60, depths=(6,) * 4, heads=(6,) * 4, hidden=120, upsampler="pixelshuffledirect"
)
_REAL = SwinIRConfig(upsampler="nearest+conv")
_LARGE = replace(_REAL, embed=240, depths=(6,) * 9, heads=(8,) * 9, hidden=480, residual="3conv")
_SAME_SIZE = SwinIRConfig(upsampler="none", scale=1)
_JPEG = replace(_SAME_SIZE, window=_JPEG_WINDOW, img_range=255.0)

ARCH = Architecture(
    id="swinir",
    paper="SwinIR, Liang et al. 2021, arXiv:2108.10257",
    config=SwinIRConfig,
    build=SwinIR,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (SwinIRConfig(), 11_900_199),
        (SwinIRConfig(scale=2), 11_752_487),
        (_LIGHT, 929_628),
        (replace(_LIGHT, scale=2), 910_152),
        (_REAL, 11_715_559),
        (_LARGE, 28_013_059),
        (_SAME_SIZE, 11_504_163),
        (replace(_SAME_SIZE, channels=1), 11_497_681),
        (replace(_JPEG, channels=1), 11_485_585),
    ),
    hinted=("img_range",),
)
