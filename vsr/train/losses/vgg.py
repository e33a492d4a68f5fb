"""VGG's convolutions by the names that papers use, from weights in torchvision's layout.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014,
arXiv:1409.1556. `conv5_4` is the fourth convolution before the fifth pooling ("VGG19-54").

Two layouts are read: torchvision's (`features.0.weight` …, from ImageNet), and that of the VGG16
which ESRGAN's authors fine-tuned on the materials of MINC (`conv11.weight` … `conv53.weight`),
whose features tell textures apart rather than objects.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError, UsageError

type VggKind = Literal["vgg16", "vgg19"]

_WIDTHS = (64, 128, 256, 512, 512)
_DEPTHS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MINC = re.compile(r"conv(\d)(\d)\.(weight|bias)")


def layer_names(kind: VggKind) -> tuple[str, ...]:
    """All convolutions in order: `conv1_1`, `conv1_2`, `conv2_1` and so on."""
    depths = _DEPTHS[kind]
    return tuple(f"conv{b + 1}_{k + 1}" for b, depth in enumerate(depths) for k in range(depth))


class VggFeatures(nn.Module):
    """The features of some layers, frozen.

    Args:
        kind: Which VGG.
        layers: Names such as `conv5_4`; what lies behind the last one is not built.
        after_activation: Whether features are taken behind the ReLU.

    Raises:
        UsageError: No such layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, kind: VggKind, layers: Iterable[str], *, after_activation: bool = False
    ) -> None:
        super().__init__()
        names, self.wanted = layer_names(kind), tuple(layers)
        unknown = [name for name in self.wanted if name not in names]
        if unknown or not self.wanted:
            msg = f"{kind} has no layer {(unknown or ['(none)'])[0]!r}: use {', '.join(names)}"
            raise UsageError(msg)
        self.after_activation = after_activation
        last = max(names.index(name) for name in self.wanted)
        self.convs = nn.ModuleDict()
        width = 3
        for name in names[: last + 1]:
            features = _WIDTHS[int(name[4]) - 1]
            self.convs[name] = nn.Conv2d(width, features, 3, padding=1)
            width = features
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps (N, 3, H, W) in [0, 1] to features by layer name."""
        x = (x - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for name, conv in self.convs.items():
            if name[-1] == "1" and name != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = conv(x)
            active = F.relu(x)
            if name in self.wanted:
                found[name] = active if self.after_activation else x
            x = active
        return found


def load_vgg(
    path: Path, kind: VggKind, layers: Iterable[str], *, after_activation: bool = False
) -> VggFeatures:
    """Makes `VggFeatures` from a file.

    Args:
        path: Weights in torchvision's layout, or MINC's for `vgg16`; .pth or .safetensors.
        kind: Which VGG they are of.
        layers: See `VggFeatures`.
        after_activation: See `VggFeatures`.

    Raises:
        CheckpointError: The file cannot be read or is not of this network.
        UsageError: No such layer.
    """
    features = VggFeatures(kind, layers, after_activation=after_activation)
    named = _by_layer(read_checkpoint(path).state, kind)
    for key, own in features.convs.state_dict().items():
        given = named.get(key)
        if given is None or given.shape != own.shape:
            shape = "nothing" if given is None else "×".join(map(str, given.shape))
            msg = (
                f"{path.name} is no {kind} in torchvision's layout: {key} should have "
                f"{'×'.join(map(str, own.shape))}, found {shape}; "
                "use the state_dict of torchvision.models"
            )
            raise CheckpointError(msg)
        own.copy_(given)
    return features


def _by_layer(state: Mapping[str, Tensor], kind: VggKind) -> dict[str, Tensor]:
    """The tensors by our names, from either layout."""
    if "conv11.weight" in state:
        matches = ((_MINC.fullmatch(key), value) for key, value in state.items())
        return {f"conv{m[1]}_{m[2]}.{m[3]}": value for m, value in matches if m}
    named, place = {}, 0
    for name in layer_names(kind):
        if name[-1] == "1" and place:
            place += 1  # a pooling
        for part in ("weight", "bias"):
            if (value := state.get(f"features.{place}.{part}")) is not None:
                named[f"{name}.{part}"] = value
        place += 2  # the convolution and its ReLU
    return named
