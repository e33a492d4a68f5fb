"""LPIPS and DISTS: distances in the features of a classifier.

LPIPS (Zhang et al. 2018, "The unreasonable effectiveness of deep features", eq. 1, version 0.1)
takes AlexNet or VGG16, DISTS (Ding et al. 2020, "Image quality assessment: unifying structure and
texture similarity", eq. 6 to 8) VGG16 with L2 pooling. No weights come with this package: they are
given by path, in the layouts in which they are published:

    network     torchvision's state dict, `features.0.weight` …
    LPIPS       `lin0.model.1.weight` …, of shape (1, C, 1, 1)
    DISTS       `alpha` and `beta`, of shape (1, 3 + all C, 1, 1)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import Tensor

from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError, UsageError

_VGG16: Final = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Places of the convolutions in torchvision's `features`, stage by stage; pooling lies between."""
_ALEXNET: Final = ((0,), (3,), (6,), (8,), (10,))
_ALEX_STEPS: Final = {0: (4, 2), 3: (1, 2)}
"""Stride and padding where they are not 1 and 1."""
_ALEX_POOLED: Final = (3, 6)
_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)
_LPIPS_SHIFT: Final = (-0.030, -0.088, -0.188)
_LPIPS_SCALE: Final = (0.458, 0.448, 0.450)
_SMALLEST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """A classifier's convolutions.

    Attributes:
        stages: Weights and biases of each stage's convolutions.
        alexnet: Whether it is AlexNet and not VGG16.
    """

    stages: tuple[tuple[tuple[Tensor, Tensor], ...], ...]
    alexnet: bool

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the features at the end of each stage."""
        return tuple(stage[-1][0].shape[0] for stage in self.stages)

    def features(self, x: Tensor, *, root_mean: bool = False) -> list[Tensor]:
        """The rectified features at the end of each stage.

        Args:
            x: Shape (N, 3, H, W), normalised as the network wants it.
            root_mean: Whether VGG16 pools by a blurred root of squares, as DISTS does.
        """
        found = []
        for number, stage in enumerate(self.stages):
            if number and not self.alexnet:
                x = _root_pooled(x) if root_mean else F.max_pool2d(x, 2)
            for place, (weight, bias) in zip(self._places(number), stage, strict=True):
                if self.alexnet and place in _ALEX_POOLED:
                    x = F.max_pool2d(x, 3, 2)
                stride, padding = _ALEX_STEPS.get(place, (1, 1)) if self.alexnet else (1, 1)
                x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            found.append(x)
        return found

    def _places(self, stage: int) -> tuple[int, ...]:
        return (_ALEXNET if self.alexnet else _VGG16)[stage]


def backbone(path: Path, device: torch.device) -> Backbone:
    """Reads a torchvision state dict of AlexNet or VGG16.

    Raises:
        CheckpointError: It is neither.
    """
    state = read_checkpoint(path).state
    first = state.get("features.0.weight")
    alexnet = first is not None and first.shape[-1] == 11
    places = _ALEXNET if alexnet else _VGG16
    try:
        stages = tuple(
            tuple((_of(state, place, "weight", 4), _of(state, place, "bias", 1)) for place in stage)
            for stage in places
        )
    except KeyError as error:
        msg = (
            f"{path} has no {error.args[0]}: a torchvision state dict of VGG16 or AlexNet is "
            "expected, such as vgg16-397923af.pth"
        )
        raise CheckpointError(msg) from error
    moved = tuple(tuple((w.to(device), b.to(device)) for w, b in stage) for stage in stages)
    return Backbone(stages=moved, alexnet=alexnet)


def _of(state: Mapping[str, Tensor], place: int, kind: str, rank: int) -> Tensor:
    name = f"features.{place}.{kind}"
    if name not in state or state[name].ndim != rank:
        raise KeyError(name)
    return state[name]


def _root_pooled(x: Tensor) -> Tensor:
    """DISTS's pooling: the root of squares, blurred by a Hann window of 3 and halved."""
    window = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = (window[:, None] * window).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x * x, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


class Lpips:
    """The learned distance of two pictures; 0 for equal ones.

    Args:
        network: Path of the classifier's state dict.
        heads: Path of the linear weights that belong to it.
        device: Where to compute.

    Raises:
        CheckpointError: A file is something else, or the two do not belong together.
    """

    def __init__(self, network: Path, heads: Path, device: torch.device) -> None:
        self._net, self._device = backbone(network, device), device
        state = read_checkpoint(heads).state
        names = [f"lin{place}.model.1.weight" for place in range(len(self._net.stages))]
        expected = [(1, count, 1, 1) for count in self._net.channels]
        found = [tuple(state[name].shape) if name in state else None for name in names]
        if found != expected:
            msg = (
                f"{heads} does not belong to {network}: linear weights of "
                f"{list(self._net.channels)} channels are expected, as lpips v0.1 has them for it"
            )
            raise CheckpointError(msg)
        self._heads = [state[name].to(device) for name in names]

    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Compares RGB pictures of shape (H, W, 3).

        Raises:
            UsageError: A side is shorter than 64 pixels.
        """
        pair = _tensors(a, b, self._device) * 2 - 1
        shift, scale = (_column(v, pair) for v in (_LPIPS_SHIFT, _LPIPS_SCALE))
        total = 0.0
        with torch.inference_mode():
            for found, head in zip(
                self._net.features((pair - shift) / scale), self._heads, strict=True
            ):
                unit = found / (found.square().sum(1, keepdim=True).sqrt() + 1e-10)
                apart = (unit[:1] - unit[1:]).square()
                total += float(F.conv2d(apart, head).mean())
        return total


class Dists:
    """The distance of structure and texture; 0 for equal pictures, about 1 at most.

    Args:
        network: Path of VGG16's state dict.
        weights: Path of `alpha` and `beta`.
        device: Where to compute.

    Raises:
        CheckpointError: A file is something else, or the two do not belong together.
    """

    def __init__(self, network: Path, weights: Path, device: torch.device) -> None:
        self._net, self._device = backbone(network, device), device
        state = read_checkpoint(weights).state
        self._counts = [3, *self._net.channels]
        wanted = (1, sum(self._counts), 1, 1)
        shapes = [tuple(state[name].shape) for name in ("alpha", "beta") if name in state]
        if shapes != [wanted, wanted] or self._net.alexnet:
            msg = (
                f"{weights} does not belong to {network}: DISTS takes VGG16 with alpha and beta of "
                f"{sum(self._counts)} channels"
            )
            raise CheckpointError(msg)
        total = state["alpha"].sum() + state["beta"].sum()
        self._alpha, self._beta = (
            torch.split((state[name] / total).to(device), self._counts, 1)
            for name in ("alpha", "beta")
        )

    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Compares RGB pictures of shape (H, W, 3).

        Raises:
            UsageError: A side is shorter than 64 pixels.
        """
        pair = _tensors(a, b, self._device)
        mean, deviation = (_column(v, pair) for v in (_MEAN, _DEVIATION))
        same = 0.0
        with torch.inference_mode():
            stages = [pair, *self._net.features((pair - mean) / deviation, root_mean=True)]
            for found, alpha, beta in zip(stages, self._alpha, self._beta, strict=True):
                texture, structure = _statistics(found[:1], found[1:])
                same += float((alpha * texture + beta * structure).sum())
        return 1 - same


def _statistics(x: Tensor, y: Tensor, floor: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Likeness of the channels' means, and of their variation."""
    mx, my = (t.mean((2, 3), keepdim=True) for t in (x, y))
    vx, vy = ((t - m).square().mean((2, 3), keepdim=True) for t, m in ((x, mx), (y, my)))
    both = (x * y).mean((2, 3), keepdim=True) - mx * my
    texture = (2 * mx * my + floor) / (mx.square() + my.square() + floor)
    return texture, (2 * both + floor) / (vx + vy + floor)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def _tensors(a: NDArray[np.uint8], b: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Both as one batch (2, 3, H, W) from 0 to 1."""
    if min(a.shape[:2]) < _SMALLEST:
        msg = (
            f"LPIPS and DISTS need at least {_SMALLEST} pixels a side, got "
            f"{a.shape[1]}x{a.shape[0]}: leave them out of --metrics"
        )
        raise UsageError(msg)
    batch = torch.from_numpy(np.stack([a, b])).to(device)
    return batch.permute(0, 3, 1, 2).float() / 255
