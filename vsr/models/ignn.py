"""IGNN: patches are refined by the larger patches that the same picture holds of them.

Zhou, Zhang, Zuo, Loy, "Cross-Scale Internal Graph Neural Network for Image Super-Resolution", 2020,
arXiv:2006.16673. New there: for each patch its k nearest in the picture reduced by the step r are
found, by VGG19's features; where those came from in the picture itself are patches r times as
large, whose features are gathered, brought to the patch's statistics and averaged by learned
weights. r is the scale, or 2 for x4.

    x            (N, 3, H, W)          in [0, 1]; times the value of white, minus DIV2K's mean
    graph        (N, 3×3 patches of stride 2, k)   indices, and how far off each neighbour is
    head         (N, F, H, W)          3×3
    body1        (N, F, H, W)          half of `blocks` of 3×3, ReLU, 3×3, times 0.1, + input
    gcn          (N, F, H, W) and (N, F, r·H, r·W)   what the neighbours say, at both sizes
    fuse_b       (N, F, H, W)          3×3 of body1's and gcn's, ReLU, 3×3
    body2        (N, F, H, W)          the other half of `blocks`, 3×3; + head's
    upsample     (N, F, r·H, r·W)      3×3 and shuffle
    fuse_up      (N, F, r·H, r·W)      3×3 of upsample's and gcn's, ReLU, 3×3, ReLU
    tail         (N, 3, s·H, s·W)      x4: 3×3, shuffle ×2; 3×3; plus the mean

Keys are those of the authors' code, whose `graph.embedcnn` is `vggnet` by another name. The
reduced picture is theirs: bicubic with antialiasing (MATLAB's), clamped. VGG19's first two
convolutions are part of the checkpoint, but not learned; with the mean shifts they are the 38,756
numbers by which published counts exceed those here. Deviations: the authors spread a patch's
distances over r times as many pixels and average them again; here they stay as they are, which is
the same. A picture with fewer patches than neighbours makes do with what it has.

Tiling: neighbours are sought in a window of 30 × 30 patches, so a pixel of x2 or x4 sees a bounded
part of the picture; tiles that overlap by it and begin at multiples of 4 give the whole. The
last tile of an axis may begin elsewhere, and the windows of x3 drift with the place, as in the
authors' code: so tiles are called approximate; see `_TILE_ERROR`. The authors cut pictures above
200 × 200 too. It exports for one size of picture.
"""

import re
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.errors import UsageError
from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import MeanShift, ResidualBlock, white_of
from vsr.resample import resize

_WINDOW_REACH = 72
"""Input pixels that the search for neighbours adds to what convolutions see, of x2 and x4."""
_TILE_ERROR = 12 / 255
"""Of a small IGNN (x2, 16 channels, 4 blocks), trained for two minutes and still short of bicubic.

With tiles of 208 that overlap by 80, as they do here, it is off by less than 0.0005 of 255 where
the picture's sides are multiples of 4, as those of nearly all films are, and by 11.4 at worst (root
of the mean square 0.84) where they are not and the last tile begins off the grid. With an overlap
of 64 it was off by 0.9 on the grid. The published one, of which there are no weights here, has not
been measured.
"""

_PATCH, _STRIDE = 3, 2
_DISTANCES = 2**26
"""How many distances are held at once: a quarter of a gigabyte."""

_KEY = re.compile(
    r"(?:(?:sub|add)_mean|vggnet\.(?:sub_mean|model\.[02])|head\.0|body[12]\.\d{1,3}\.body\.[02]|"
    r"body2\.\d{1,3}\.0|gcn\.(?:knn_downsample\.[012]\.0|weightnet_[lh]r\.(?:[02]\.0|1\.body\.[02]))|"
    r"fuse_(?:b|up)\.[01]\.0|upsample\.0|tail\.[01]\.0)\.(?:weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IGNNConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the trunk.
        blocks: Residual blocks, half of them before the graph.
        scale: Upscaling factor: 2, 3 or 4.
        neighbours: How many patches each one gathers from.
        window: Side, in patches, of where neighbours are sought in the reduced picture.
        residual_scale: Factor of every residual.
        white: Value of white that the network was trained with, 255 or 1.
    """

    features: int = 256
    blocks: int = 32
    scale: int = 4
    neighbours: int = 5
    window: int = 30
    residual_scale: float = 0.1
    white: float = 255.0

    @property
    def step(self) -> int:
        """How much larger a neighbour is than its patch."""
        return 3 if self.scale == 3 else 2


def _conv(into: int, out: int, kernel: int = 3, *, stride: int = 1, relu: bool) -> nn.Sequential:
    conv = nn.Conv2d(into, out, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(conv, nn.ReLU(inplace=True)) if relu else nn.Sequential(conv)


class Frozen(nn.Module):
    """A convolution that is part of the checkpoint, but not learned: buffers, not parameters."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, K, H, W)."""
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[2] // 2)


class VGG(nn.Module):
    """VGG19 up to its second convolution: (N, 3, H, W) in [0, 1] to (N, 64, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        mean, deviation = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
        self.sub_mean = Frozen((torch.eye(3) / deviation).view(3, 3, 1, 1), -mean / deviation)
        self.model = nn.Sequential(
            Frozen(torch.randn(64, 3, 3, 3) / 27**0.5, torch.zeros(64)),
            nn.ReLU(inplace=True),
            Frozen(torch.randn(64, 64, 3, 3) / 576**0.5, torch.zeros(64)),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features after the second ReLU."""
        return cast("Tensor", self.model(self.sub_mean(x)))


def _margins(height: int, width: int) -> tuple[int, int, int, int]:
    """Zeros at the left, right, top and bottom with which strides of patches cover a picture."""
    down, right = (-(side - _PATCH) % _STRIDE for side in (height, width))
    return right // 2, right - right // 2, down // 2, down - down // 2


def patches(x: Tensor) -> Tensor:
    """Cuts (N, C, H, W) into (N, C·9, m) overlapping patches, row by row."""
    padded = F.pad(x, _margins(*x.shape[2:]))
    return F.unfold(padded, _PATCH, stride=_STRIDE)


def assemble(parts: Tensor, height: int, width: int, step: int = 1) -> Tensor:
    """Averages patches of 3·step pixels where they overlap: (N, C·9·step², m) to (N, C, …).

    Args:
        parts: As many patches as `patches` makes of the unenlarged picture.
        height: Of the unenlarged picture.
        width: Of the unenlarged picture.
        step: How much larger the result is.
    """
    left, right, top, bottom = _margins(height, width)
    size = ((height + top + bottom) * step, (width + left + right) * step)
    side, stride = _PATCH * step, _STRIDE * step
    total = F.fold(parts, size, side, stride=stride)
    count = F.fold(torch.ones_like(parts[:1, : side**2]), size, side, stride=stride)
    rows = slice(top * step, (top + height) * step)
    return (total / count)[:, :, rows, left * step : (left + width) * step]


def nearest(x: Tensor, son: Tensor, config: IGNNConfig) -> tuple[Tensor, Tensor]:
    """Finds each patch's neighbours in the reduced picture.

    Args:
        x: Features of the picture, (N, C, H, W).
        son: Features of the reduced picture.
        config: Of the network.

    Returns:
        Indices of shape (N, m, k), nearest first, and by how much each neighbour differs from the
        patch in each channel: (N, k, C, H, W).
    """
    (height, width), (queries, known) = x.shape[2:], (patches(x), patches(son))
    amount = min(config.neighbours, known.shape[2])
    length, some = known.square().sum(1)[:, None], max(1, _DISTANCES // known.shape[2])
    found = []
    for number, part in enumerate(torch.split(queries, some, 2)):
        distance = length - 2 * part.transpose(1, 2) @ known
        _hide_distant(distance, number * some, x, son, config)
        found.append(distance.topk(amount, dim=2, largest=False).indices)
    index, differences = torch.cat(found, 1), []
    for chosen in index.unbind(2):
        off = (queries - _gather(known, chosen)).abs()
        off = off.view(len(x), -1, _PATCH**2, off.shape[2])
        spread = off.sum(2, keepdim=True).expand_as(off).flatten(1, 2)
        differences.append(assemble(spread, height, width))
    return index, torch.stack(differences, 1)


def _hide_distant(distance: Tensor, start: int, x: Tensor, son: Tensor, config: IGNNConfig) -> None:
    """Sets distances (N, q, n) to infinity outside each patch's window; `start` is the first's."""
    grid, small = ([(side - 2) // _STRIDE + 1 for side in t.shape[2:]] for t in (x, son))
    if max(small) <= config.window:
        return
    side = min(config.window, *small)
    places = torch.arange(start, start + distance.shape[1], device=distance.device)
    hidden = []
    for centres, all_ in ((places // grid[1], small[0]), (places % grid[1], small[1])):
        first = (centres // 2 - side // config.step).clamp(0, all_ - side)[:, None]
        place = torch.arange(all_, device=distance.device)
        hidden.append((place < first) | (place >= first + side))
    down, right = hidden
    distance.masked_fill_((down[:, :, None] | right[:, None, :]).flatten(1), torch.inf)


def _gather(parts: Tensor, chosen: Tensor) -> Tensor:
    """Takes the patches (N, C, m) that indices (N, m) name from patches (N, C, n)."""
    return parts.gather(2, chosen[:, None].expand(-1, parts.shape[1], -1))


def match(found: Tensor, wanted: Tensor) -> Tensor:
    """Gives patches of features the mean and deviation of others (adaptive instance norm).

    Args:
        found: (N, C, P, m), P pixels a patch.
        wanted: (N, C, Q, m).

    Returns:
        Same shape as `found`.
    """
    spread, target = ((t.var(2, keepdim=True) + 1e-5).sqrt() for t in (found, wanted))
    centred = found - found.mean(2, keepdim=True)
    return centred / spread * target + wanted.mean(2, keepdim=True)


class Aggregation(nn.Module):
    """Gathers the neighbours' features at their own size and reduced."""

    def __init__(self, config: IGNNConfig) -> None:
        super().__init__()
        features = config.features
        self.step = config.step
        self.knn_downsample = nn.Sequential(
            _conv(features, features, 5, stride=config.step, relu=True),
            _conv(features, features, relu=True),
            _conv(features, features, relu=False),
        )
        self.weightnet_lr = self._weigher(config.residual_scale)
        self.weightnet_hr = self._weigher(config.residual_scale)

    @staticmethod
    def _weigher(residual_scale: float) -> nn.Sequential:
        """Makes one weight of a pixel's 64 differences."""
        return nn.Sequential(
            _conv(64, 64, 1, relu=False),
            ResidualBlock(64, 1, residual_scale),
            _conv(64, 1, 1, relu=False),
        )

    def forward(self, x: Tensor, index: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, F, H, W), indices and differences to (N, F, H, W) and (N, F, r·H, r·W)."""
        fine, coarse = (
            torch.stack([net(d) for d in difference.unbind(1)], 1).softmax(1)
            for net in (self.weightnet_hr, self.weightnet_lr)
        )
        low, high = torch.zeros_like(x), x.new_zeros(())
        for k, patch in enumerate(self._enlarged(x, index)):
            low = low + coarse[:, k] * self.knn_downsample(patch)
            high = high + F.interpolate(fine[:, k], scale_factor=self.step) * patch
        return low, high

    def _enlarged(self, x: Tensor, index: Tensor) -> list[Tensor]:
        """For each rank of neighbour, features of (N, F, r·H, r·W) made of them alone."""
        height, width, step = *x.shape[2:], self.step
        folded = F.pixel_unshuffle(x[..., : height // step * step, : width // step * step], step)
        known, own = patches(folded), patches(x)
        count, features, amount = *x.shape[:2], own.shape[2]
        own = own.view(count, features, -1, amount)
        made = []
        for chosen in index.unbind(2):
            found = match(_gather(known, chosen).view(count, features, -1, amount), own)
            pixels = found.view(count, features, step, step, _PATCH, _PATCH, amount)
            pixels = pixels.permute(0, 1, 4, 2, 5, 3, 6).flatten(1, 5)
            made.append(assemble(pixels, height, width, step))
        return made


class IGNN(nn.Module):
    """The network; keys equal those of the authors' code."""

    full_precision: tuple[str, ...] = (
        *("sub_mean", "add_mean", "head.0"),
        *("vggnet.sub_mean", "vggnet.model.0", "vggnet.model.2"),
    )

    def __init__(self, config: IGNNConfig) -> None:
        super().__init__()
        features, half = config.features, config.blocks // 2
        self.config = config
        self.sub_mean = MeanShift(config.white, -1)
        self.add_mean = MeanShift(config.white, 1)
        self.vggnet = VGG()
        self.head = _conv(3, features, relu=False)
        blocks = [ResidualBlock(features, 3, config.residual_scale) for _ in range(config.blocks)]
        self.body1 = nn.Sequential(*blocks[:half])
        self.gcn = Aggregation(config)
        self.fuse_b = nn.Sequential(
            _conv(2 * features, features, relu=True), _conv(features, features, relu=False)
        )
        self.body2 = nn.Sequential(*blocks[half:], _conv(features, features, relu=False))
        self.upsample = _shuffle(features, config.step)
        self.fuse_up = nn.Sequential(
            _conv(2 * features, features, relu=True), _conv(features, features, relu=True)
        )
        again = (_shuffle(features, 2),) if config.scale == 4 else ()
        self.tail = nn.Sequential(*again, _conv(features, 3, relu=False))
        self.full_precision += (f"tail.{len(again)}.0",)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W).

        Raises:
            UsageError: It is being exported.
        """
        if torch.onnx.is_in_onnx_export():
            msg = (
                "which patches it aggregates depends on the picture's size, and a graph freezes it"
            )
            raise UsageError(msg)
        return self.refine(x, self.reduced(x))

    def reduced(self, x: Tensor) -> Tensor:
        """The picture r times smaller, by bicubic interpolation with antialiasing, in [0, 1]."""
        height, width = (side // self.config.step for side in x.shape[2:])
        cropped = x[:, :, : height * self.config.step, : width * self.config.step]
        return resize(cropped, height, width).clamp(0, 1)

    def refine(self, x: Tensor, son: Tensor) -> Tensor:
        """Maps a picture and its reduced self, both in [0, 1], to (N, 3, s·H, s·W)."""
        index, difference = nearest(self.vggnet(x), self.vggnet(son), self.config)
        first = self.head(self.sub_mean(x * self.config.white))
        y = self.body1(first)
        low, high = self.gcn(y, index, difference.detach())
        y = self.body2(self.fuse_b(torch.cat([y, low], 1))) + first
        y = self.fuse_up(torch.cat([self.upsample(y), high], 1))
        return cast("Tensor", self.add_mean(self.tail(y)) / self.config.white)


def _shuffle(features: int, factor: int) -> nn.Sequential:
    conv = nn.Conv2d(features, features * factor**2, 3, padding=1)
    return nn.Sequential(conv, nn.PixelShuffle(factor))


def _spec(config: IGNNConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        minimum=2 * config.step,
        overlap=_WINDOW_REACH + 2 * config.blocks,
        tiling="approximate",
        tile_error=_TILE_ERROR,
        half=False,
    )


def _detect(state: StateDict) -> IGNNConfig | None:
    first, widen = state.get("head.0.weight"), state.get("upsample.0.weight")
    white = white_of(state)
    if first is None or widen is None or white is None or {first.ndim, widen.ndim} != {4}:
        return None
    steps = {4: 2, 9: 3}.get(widen.shape[0] // max(1, first.shape[0]))
    if steps is None or "vggnet.model.2.weight" not in state:
        return None
    if not all(map(_KEY.fullmatch, state)):
        return None
    return IGNNConfig(
        features=first.shape[0],
        blocks=len([k for k in state if re.fullmatch(r"body[12]\.\d+\.body\.0\.weight", k)]),
        scale=4 if "tail.1.0.weight" in state else steps,
        white=white,
    )


def _canonicalise(state: StateDict) -> StateDict:
    """Drops the second name of VGG's tensors."""
    if "vggnet.model.2.weight" not in state:
        return state
    return {key: value for key, value in state.items() if not key.startswith("graph.embedcnn.")}


ARCH = Architecture(
    id="ignn",
    paper="IGNN, Zhou et al. 2020, arXiv:2006.16673",
    config=IGNNConfig,
    build=IGNN,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (IGNNConfig(scale=2), 47_113_477),
        (IGNNConfig(scale=4), 49_473_797),
    ),
    hinted=("neighbours", "window", "residual_scale"),
)
