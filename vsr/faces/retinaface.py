"""RetinaFace: finds faces with their eyes, nose and mouth in one pass.

Deng, Guo, Ververas, Kotsia, Zafeiriou, "RetinaFace: Single-stage Dense Face Localisation in the
Wild", 2019, arXiv:1905.00641, with a ResNet-50 body (He et al., arXiv:1512.03385), as the PyTorch
version of the detector has it that GFPGAN's authors use (facexlib, `detection_Resnet50_Final.pth`).

    x                    (N, 3, H, W)        blue, green, red from 0 to 255, less the means
    body.layer2 … 4      (N, 8·64·2^k, H/8 … H/32, W/8 … W/32)
    fpn                  (N, 256, …)         each level + the one above, doubled
    ssh1 … ssh3          (N, 256, …)         3×3, 5×5 and 7×7 surroundings side by side
    ClassHead            (N, P, 2)           nothing or face
    BboxHead             (N, P, 4)           corrections of the priors, see `vsr.faces.anchors`
    LandmarkHead         (N, P, 10)

Keys equal those of the file, with or without its counters of batches, which only training needs.
Sizes that are no multiple of 32 round up at each level. The stride of a block is that of its 3×3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vsr.errors import CheckpointError, NonFiniteError
from vsr.faces.anchors import SIDES, decode_boxes, decode_landmarks, priors, suppress
from vsr.faces.base import LANDMARKS, Faces
from vsr.resample import resize

_MEANS = (104.0, 117.0, 123.0)
"""Of blue, green and red."""
_WIDER = 4
"""What a block gives for each channel of its 3×3."""
_ANCHORS = len(SIDES[0])
_LEVELS = len(SIDES)
_MOST_BLOCKS = 64
_MOST_CANDIDATES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetinaFaceConfig:
    """Hyperparameters.

    Attributes:
        stem: Channels of the body's first convolution.
        blocks: Blocks in each of the body's four layers.
        channels: Of the levels.
    """

    stem: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    channels: int = 256


class Block(nn.Module):
    """ResNet's bottleneck: 1×1, 3×3, 1×1 beside what came in; (N, A, H, W) to (N, 4B, H/s, W/s)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * _WIDER
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.downsample.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Adds both ways."""
        y = self.bn1(self.conv1(x)).relu_()
        y = self.bn2(self.conv2(y)).relu_()
        y = self.bn3(self.conv3(y))
        return cast("Tensor", (y + self.downsample(x)).relu_())


class Body(nn.Module):
    """A ResNet without its classifier; gives what the last three of its four layers see."""

    def __init__(self, config: RetinaFaceConfig) -> None:
        super().__init__()
        stem = config.stem
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _layer(stem, stem, config.blocks[0], 1)
        self.layer2 = _layer(4 * stem, 2 * stem, config.blocks[1], 2)
        self.layer3 = _layer(8 * stem, 4 * stem, config.blocks[2], 2)
        self.layer4 = _layer(16 * stem, 8 * stem, config.blocks[3], 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (N, 3, H, W) to features of an 8th, a 16th and a 32nd of the size."""
        x = self.bn1(self.conv1(x)).relu_()
        x = self.layer1(functional.max_pool2d(x, 3, 2, 1))
        second = self.layer2(x)
        third = self.layer3(second)
        return [second, third, self.layer4(third)]


class FeaturePyramid(nn.Module):
    """Lin et al., "Feature Pyramid Networks", arXiv:1612.03144: what is large informs the small."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        slope = _slope(channels)
        self.output1 = _unit(inputs, channels, 1, slope)
        self.output2 = _unit(2 * inputs, channels, 1, slope)
        self.output3 = _unit(4 * inputs, channels, 1, slope)
        self.merge1 = _unit(channels, channels, 3, slope)
        self.merge2 = _unit(channels, channels, 3, slope)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Three levels of any channels to three of equal channels."""
        one, two, three = features
        one, two, three = self.output1(one), self.output2(two), self.output3(three)
        two = self.merge2(two + functional.interpolate(three, size=two.shape[2:]))
        one = self.merge1(one + functional.interpolate(two, size=one.shape[2:]))
        return [one, two, three]


class Context(nn.Module):
    """Najibi et al., "SSH: Single Stage Headless Face Detector", arXiv:1708.03979, figure 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter, slope = channels // 2, channels // 4, _slope(channels)
        self.conv3X3 = _unit(channels, half, 3)
        self.conv5X5_1 = _unit(channels, quarter, 3, slope)
        self.conv5X5_2 = _unit(quarter, quarter, 3)
        self.conv7X7_2 = _unit(quarter, quarter, 3, slope)
        self.conv7x7_3 = _unit(quarter, quarter, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        wide = self.conv5X5_1(x)
        ways = [self.conv3X3(x), self.conv5X5_2(wide), self.conv7x7_3(self.conv7X7_2(wide))]
        return torch.cat(ways, 1).relu_()


class Head(nn.Module):
    """So many numbers for each prior of a level."""

    def __init__(self, channels: int, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.conv1x1 = nn.Conv2d(channels, _ANCHORS * numbers, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, 2·h·w, numbers)."""
        y = self.conv1x1(x).permute(0, 2, 3, 1)
        return cast("Tensor", y.reshape(len(x), -1, self.numbers))


class RetinaFace(nn.Module):
    """The network, in float32."""

    def __init__(self, config: RetinaFaceConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.body = Body(config)
        self.fpn = FeaturePyramid(2 * _WIDER * config.stem, channels)
        self.ssh1, self.ssh2, self.ssh3 = (Context(channels) for _ in range(_LEVELS))
        self.ClassHead = nn.ModuleList(Head(channels, 2) for _ in range(_LEVELS))
        self.BboxHead = nn.ModuleList(Head(channels, 4) for _ in range(_LEVELS))
        self.LandmarkHead = nn.ModuleList(Head(channels, 2 * LANDMARKS) for _ in range(_LEVELS))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Builds the network that a state dict is of, in eval mode.

        Args:
            state: Tensors by name, as facexlib publishes them.

        Raises:
            CheckpointError: It is not one of this network, or a tensor is missing, left over or of
                another shape.
        """
        state = {k: v for k, v in state.items() if not k.endswith(".num_batches_tracked")}
        config = detect(state)
        if config is None:
            msg = "the checkpoint is not RetinaFace on a ResNet: take detection_Resnet50_Final.pth"
            raise CheckpointError(msg)
        with torch.device("meta"):
            expected = {
                k: tuple(v.shape)
                for k, v in cls(config).state_dict().items()
                if not k.endswith(".num_batches_tracked")
            }
        for key in (*expected, *state):
            found = tuple(state[key].shape) if key in state else None
            if found != expected.get(key):
                msg = (
                    f"the checkpoint is a damaged or unknown variant of RetinaFace: {key[:80]!r} "
                    f"has the shape {found}, expected {expected.get(key)}"
                )
                raise CheckpointError(msg)
        network = cls(config)
        network.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
        return network.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (N, 3, H, W) to logits (N, P, 2), boxes (N, P, 4) and landmarks (N, P, 10)."""
        levels = self.fpn(self.body(x))
        levels = [see(y) for see, y in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]
        logits, boxes, landmarks = (
            torch.cat([head(y) for head, y in zip(heads, levels, strict=True)], 1)
            for heads in (self.ClassHead, self.BboxHead, self.LandmarkHead)
        )
        return logits, boxes, landmarks


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorOptions:
    """What counts as a face.

    Attributes:
        sure: Least confidence, above 0 and below 1; facexlib's, as GFPGAN's authors use it.
        overlap: Largest overlap of two faces.
        longest: Longest side in pixels that is looked at; larger pictures are made smaller. The
            number is facexlib's; it bounds the memory.
    """

    sure: float = 0.97
    overlap: float = 0.4
    longest: int = 2150


class RetinaFaceDetector:
    """Finds the faces of pictures.

    Args:
        network: In eval mode, on the device that the pictures are on.
        options: What counts as a face.
    """

    def __init__(self, network: RetinaFace, options: DetectorOptions = DetectorOptions()) -> None:
        self.network, self.options = network, options

    def __call__(self, x: Tensor, /) -> list[Faces]:
        """Maps RGB (N, 3, H, W) in [0, 1] to N `Faces`, one picture at a time to bound memory.

        Raises:
            NonFiniteError: The network gives NaN or infinity.
        """
        return [self._faces(picture[None]) for picture in x]

    def _faces(self, x: Tensor) -> Faces:
        height, width = x.shape[2:]
        reduction = min(1.0, self.options.longest / max(height, width))
        if reduction < 1:
            low, high = max(1, round(height * reduction)), max(1, round(width * reduction))
            x = resize(x, low, high, "bilinear")
        scores, numbers, prior = self._candidates(x)
        seen = torch.tensor([x.shape[3], x.shape[2]], dtype=torch.float64)
        scale = torch.tensor([width, height], dtype=torch.float64) / seen
        points = decode_landmarks(numbers[:, 4:], prior) * seen
        corners = decode_boxes(numbers[:, :4], prior).view(-1, 2, 2) * seen
        found = Faces(
            boxes=((corners + 0.5) * scale - 0.5).flatten(1),
            scores=scores,
            landmarks=(points + 0.5) * scale - 0.5,
        )
        return found.pick(suppress(found.boxes, found.scores, self.options.overlap))

    def _candidates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, the network's numbers and the priors of what is sure enough, the surest first."""
        means = torch.tensor(_MEANS, device=x.device).view(1, 3, 1, 1)
        logits, boxes, landmarks = self.network(x.float().flip(1) * 255 - means)
        scores, chosen = logits[0].softmax(-1)[:, 1].sort(stable=True, descending=True)
        scores, chosen = scores[:_MOST_CANDIDATES], chosen[:_MOST_CANDIDATES]
        numbers = torch.cat([boxes[0], landmarks[0]], 1)[chosen].double().cpu()
        scores = scores.double().cpu()
        if not (scores.isfinite().all() and numbers.isfinite().all()):
            msg = "the face detector gave NaN or infinity: its checkpoint is damaged"
            raise NonFiniteError(msg)
        prior = priors(*x.shape[2:])[chosen.cpu()].double()
        sure = scores > self.options.sure
        return scores[sure], numbers[sure], prior[sure]


def detect(state: Mapping[str, Tensor]) -> RetinaFaceConfig | None:
    """Infers the configuration from names and shapes; None if the state is of another network."""
    stem, level = state.get("body.conv1.weight"), state.get("fpn.output1.0.weight")
    if stem is None or level is None or stem.ndim != 4 or level.ndim != 4:
        return None
    blocks = tuple(_count(state, f"body.layer{layer}") for layer in range(1, 5))
    if 0 in blocks or min(*stem.shape, *level.shape) < 1 or level.shape[0] < 4:
        return None
    return RetinaFaceConfig(stem=stem.shape[0], blocks=blocks, channels=level.shape[0])


def _count(state: Mapping[str, Tensor], layer: str) -> int:
    """Blocks of a layer, which are numbered from 0."""
    names = (f"{layer}.{block}.conv1.weight" for block in range(_MOST_BLOCKS))
    return len(list(takewhile(state.__contains__, names)))


def _layer(inputs: int, width: int, count: int, stride: int) -> nn.Sequential:
    first = Block(inputs, width, stride)
    return nn.Sequential(first, *(Block(width * _WIDER, width, 1) for _ in range(count - 1)))


def _unit(inputs: int, outputs: int, kernel: int, slope: float | None = None) -> nn.Sequential:
    """Convolution, norm and, where a slope is given, a LeakyReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    unit = nn.Sequential(conv, nn.BatchNorm2d(outputs))
    return unit if slope is None else unit.append(nn.LeakyReLU(slope))


def _slope(channels: int) -> float:
    """Narrow networks leak, wide ones do not."""
    return 0.1 if channels <= 64 else 0.0
