"""DASR of 2021: super-resolution led by a learned representation of the degradation.

Wang, Wang, Dong, Xu, Yang, An, Guo, "Unsupervised Degradation Representation Learning for Blind
Super-Resolution", 2021, arXiv:2104.00416. Not OPPO's DASR of 2022, a mixture of experts, which is
`dasr_moe`. New here: an encoder, trained by contrast (MoCo), maps a picture to 256 numbers that say
how it was blurred and reduced, not what it shows; they become the depthwise kernels and the channel
weights of every block.

    x            (N, 3, H, W)         times 255
    E            (N, 256)             six 3×3 with batch norm, two of stride 2, the mean
    G.compress   (N, 64)              linear, LeakyReLU
    G.head       (N, F, H, W)         minus the mean colour; 3×3
    G.body       (N, F, H, W)         `groups` of `blocks` and a 3×3 each, + input; 3×3, + head's
      block      (N, F, H, W)         twice: degradation-aware convolution, 3×3; + input
        da_conv  (N, F, H, W)         made 3×3 per channel and 1×1, + input times made weights
    G.tail       (N, 3, s·H, s·W)     sub-pixel steps of 2 or 3, 3×3; plus the mean colour

Layout that is read: the authors', whose checkpoints hold a whole MoCo. What only its training needs
(`E.encoder_k`, `E.queue`, the projection `E.encoder_q.mlp`) is dropped.

Deviations: none in inference. The parameter counts are the official code's, less what is dropped.
The per-sample kernels are one grouped convolution, so that an export has a fixed batch.

Tiling is approximate whatever the overlap: the representation is a mean over what the encoder sees,
so that each tile is judged by itself. Tiles overlap by `_APPROXIMATE` pixels of the convolutions'
own radius of 108.
"""

import re
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_modern import Linear
from vsr.models._blocks_residual import MeanShift, scale_of, upsampler

_WHITE = 255.0
_SLOPE = 0.1
_INNER = 64
_REDUCTION = 8
_APPROXIMATE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DASRConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the trunk.
        groups: Residual groups.
        blocks: Blocks in each group.
        embedding: Numbers that describe a degradation.
        scale: Upscaling factor.
    """

    features: int = 64
    groups: int = 5
    blocks: int = 5
    embedding: int = 256
    scale: int = 4


class ChannelWeights(nn.Module):
    """Weights the channels by what the representation asks for (the paper's figure 4)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        narrow = features // _REDUCTION
        self.conv_du = nn.Sequential(
            nn.Conv2d(_INNER, narrow, 1, bias=False),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(narrow, features, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        """Maps (N, F, H, W) to the same; `representation` is (N, 64)."""
        return cast("Tensor", x * self.conv_du(representation[:, :, None, None]))


class DegradationAwareConv(nn.Module):
    """A depthwise 3×3 whose kernels the representation makes, a 1×1, and weighted channels."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.kernel = nn.Sequential(
            Linear(_INNER, _INNER, bias=False),
            nn.LeakyReLU(_SLOPE),
            Linear(_INNER, features * 9, bias=False),
        )
        self.conv = nn.Conv2d(features, features, 1)
        self.ca = ChannelWeights(features)

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        """Maps (N, F, H, W) to the same; `representation` is (N, 64)."""
        count, features, height, width = x.shape
        kernels = self.kernel(representation).to(x.dtype)
        if torch.onnx.is_in_onnx_export():
            y = _shifted(x, kernels.reshape(count, features, 3, 3))
        else:
            one = x.reshape(1, count * features, height, width)
            kernels = kernels.reshape(count * features, 1, 3, 3)
            y = F.conv2d(one, kernels, padding=1, groups=count * features).reshape(x.shape)
        return cast("Tensor", self.conv(_leaky(y)) + self.ca(x, representation))


def _shifted(x: Tensor, kernels: Tensor) -> Tensor:
    """The same as nine weighted shifts: ONNX knows no groups whose number is the batch's."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    y = torch.zeros_like(x)
    for i in range(3):
        for j in range(3):
            moved = padded[:, :, i : i + height, j : j + width]
            y = y + kernels[:, :, i, j, None, None] * moved
    return y


class Block(nn.Module):
    """DAB: two degradation-aware convolutions, each with a 3×3, in a residual."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.da_conv1 = DegradationAwareConv(features)
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.da_conv2 = DegradationAwareConv(features)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        """Maps (N, F, H, W) to the same."""
        y = _leaky(self.conv1(_leaky(self.da_conv1(x, representation))))
        y = _leaky(self.da_conv2(y, representation))
        return cast("Tensor", self.conv2(y) + x)


class Group(nn.Module):
    """DAG: blocks, then a 3×3, in a residual."""

    def __init__(self, config: DASRConfig) -> None:
        super().__init__()
        blocks = (Block(config.features) for _ in range(config.blocks))
        last = nn.Conv2d(config.features, config.features, 3, padding=1)
        self.body = nn.Sequential(*blocks, last)

    def forward(self, x: Tensor, representation: Tensor) -> Tensor:
        """Maps (N, F, H, W) to the same."""
        y = x
        for block in self.body[:-1]:
            y = block(y, representation)
        return cast("Tensor", self.body[-1](y) + x)


class Generator(nn.Module):
    """G: super-resolution for a given representation."""

    def __init__(self, config: DASRConfig) -> None:
        super().__init__()
        features = config.features
        self.sub_mean, self.add_mean = MeanShift(_WHITE, -1), MeanShift(_WHITE, 1)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.compress = nn.Sequential(
            Linear(config.embedding, _INNER, bias=False), nn.LeakyReLU(_SLOPE)
        )
        groups = (Group(config) for _ in range(config.groups))
        self.body = nn.Sequential(*groups, nn.Conv2d(features, features, 3, padding=1))
        last = nn.Conv2d(features, 3, 3, padding=1)
        self.tail = nn.Sequential(upsampler(features, config.scale), last)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 255] and (N, 256) to (N, 3, s·H, s·W)."""
        representation = self.compress(embedding)
        shallow = y = self.head(self.sub_mean(x))
        for group in self.body[:-1]:
            y = group(y, representation)
        return cast("Tensor", self.add_mean(self.tail(self.body[-1](y) + shallow)))


class Encoder(nn.Module):
    """E: what degradation a picture suffered, (N, 3, H, W) in [0, 255] to (N, 256)."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        quarter, half = embedding // 4, embedding // 2
        widths = (3, quarter, quarter, half, half, embedding, embedding)
        layers: list[nn.Module] = []
        for k, stride in enumerate((1, 1, 2, 1, 2, 1)):
            conv = nn.Conv2d(widths[k], widths[k + 1], 3, stride, padding=1)
            layers += [conv, nn.BatchNorm2d(widths[k + 1]), nn.LeakyReLU(_SLOPE)]
        self.E = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the features over the picture."""
        return cast("Tensor", self.E(x).flatten(1))


class DASR(nn.Module):
    """The network; keys equal those of the authors' `BlindSR`, less what only training needs.

    In bfloat16 the encoder and all that follows from its few numbers keep float32, and the ends of
    the generator too.
    """

    full_precision: tuple[str, ...] = ()

    def __init__(self, config: DASRConfig) -> None:
        super().__init__()
        self.G = Generator(config)
        self.E = nn.ModuleDict({"encoder_q": Encoder(config.embedding)})
        exact = [n for n, m in self.named_modules() if isinstance(m, Linear) or n.startswith("E.")]
        ends = ("G.sub_mean", "G.head.0", "G.tail.1", "G.add_mean")
        self.full_precision = (*exact, *ends)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        x = x * _WHITE
        return cast("Tensor", self.G(x, self.E["encoder_q"](x)) / _WHITE)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)


def _spec(config: DASRConfig) -> InputSpec:
    return InputSpec(scale=config.scale, overlap=_APPROXIMATE, tiling="approximate", half=False)


_BLOCK = re.compile(r"G\.body\.\d{1,3}\.body\.\d{1,3}\.conv1\.weight")
_TRAINING = re.compile(r"E\.(encoder_k\..*|encoder_q\.mlp\..*|queue|queue_ptr)")


def _detect(state: StateDict) -> DASRConfig | None:
    marks = ("G.head.0", "G.compress.0", "G.body.0.body.0.da_conv1.kernel.2", "E.encoder_q.E.0")
    head, compress, kernel, first = (state.get(f"{mark}.weight") for mark in marks)
    if head is None or compress is None or kernel is None or first is None:
        return None
    features = (*head.shape, 0)[0]
    scale = scale_of(state, r"G\.tail\.0\.\d\.weight", features)
    if scale is None or compress.ndim != 2 or not all(k.startswith(("G.", "E.")) for k in state):
        return None
    if features < _REDUCTION or compress.shape[1] < 4:
        return None
    found = {tuple(key.split(".")[2:5:2]) for key in state if _BLOCK.fullmatch(key)}
    groups = {group for group, _ in found}
    return DASRConfig(
        features=features,
        groups=len(groups),
        blocks=len(found) // max(1, len(groups)),
        embedding=compress.shape[1],
        scale=scale,
    )


def _canonicalise(state: StateDict) -> StateDict:
    if "G.compress.0.weight" not in state:
        return state
    return {key: value for key, value in state.items() if not _TRAINING.fullmatch(key)}


ARCH = Architecture(
    id="dasr",
    paper="DASR (contrastive), Wang et al. 2021, arXiv:2104.00416",
    config=DASRConfig,
    build=DASR,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (DASRConfig(), 4_690_499 + 1_147_200),
        (DASRConfig(scale=2), 4_542_787 + 1_147_200),
    ),
)
