"""SRCNN: the first convolutional network for super-resolution.

Dong, Loy, He, Tang, "Image Super-Resolution Using Deep Convolutional Networks", 2014,
arXiv:1501.00092. Three layers stand for the three steps of sparse coding: patches are extracted,
mapped without linearity, and put together again. It works on luma that was enlarged before.

    x           (N, C, H, W)
    upscale     (N, C, s·H, s·W)        MATLAB's bicubic, no weights
    conv1       (N, 64, s·H, s·W)       9×9, ReLU
    conv2       (N, 32, s·H, s·W)       1×1, 3×3 or 5×5, ReLU: that is 9-1-5, 9-3-5 and 9-5-5
    conv3       (N, C, s·H, s·W)        5×5

Layouts that are read: yjn870's and MMagic's (`conv1` …, `generator.conv1` …), Lornatang's
(`features.0`, `map.0`, `reconstruction`), Nhat-Thanh's (`patch_extraction`, `nonlinear_map`,
`recon`) and the authors' MATLAB file (`vsr.checkpoints.foreign`).

Deviations: training code convolves the valid area only, and the picture loses its border. Here, as
in the authors' test code (`imfilter` with `replicate`), every layer repeats the pixels at the edge,
which leaves the interior as it is. Some versions clip to [0, 1]; the engine does that. One network
may serve all scales, so no checkpoint tells the scale: a header or the user does, otherwise it
is 4. Nhat-Thanh's three channels are luma and chroma, which a header must tell too (`colour`).
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, LumaRange, StateDict
from vsr.models._blocks_luma import (
    LARGEST_SCALE,
    Bicubic,
    Colour,
    Space,
    radius_before_bicubic,
    renamed,
)

_KEYS = {f"conv{k}.{kind}" for k in (1, 2, 3) for kind in ("weight", "bias")}


@dataclass(frozen=True, slots=True, kw_only=True)
class SRCNNConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 1 for luma and 3 for colour.
        colour: What three channels are within: `rgb`, or `ycc` for luma and chroma (Nhat-Thanh's).
        features: Channels after the first layer (n₁ in the paper).
        mapped: Channels after the second layer (n₂).
        first: Side of the first kernel (f₁), odd like the others.
        second: Side of the second kernel (f₂).
        third: Side of the third kernel (f₃).
        scale: Factor of the enlargement in front, 1 to 8.
        luma: Range of luma that the weights were trained on, see `InputSpec`; the field's own code,
            MATLAB's, has `studio`.
    """

    channels: Literal[1, 3] = 1
    colour: Space = "rgb"
    features: int = 64
    mapped: int = 32
    first: int = 9
    second: int = 1
    third: int = 5
    scale: int = 4
    luma: LumaRange = "studio"


class SRCNN(nn.Module):
    """The network; keys equal those of yjn870's `SRCNN-pytorch`."""

    full_precision: tuple[str, ...] = ("conv3",)

    def __init__(self, config: SRCNNConfig) -> None:
        super().__init__()
        self.colour = Colour(config.colour, config.channels)
        self.upscale = Bicubic(config.scale)
        self.conv1 = nn.Conv2d(config.channels, config.features, config.first)
        self.conv2 = nn.Conv2d(config.features, config.mapped, config.second)
        self.conv3 = nn.Conv2d(config.mapped, config.channels, config.third)
        self.margins = [side // 2 for side in (config.first, config.second, config.third)]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        first, second, third = self.margins
        x = self.colour.enter(self.upscale(x))
        x = self.conv1(_repeated(x, first)).relu_()
        x = self.conv2(_repeated(x, second)).relu_()
        return self.colour.leave(self.conv3(_repeated(x, third)))


def _repeated(x: Tensor, margin: int) -> Tensor:
    return F.pad(x, (margin, margin, margin, margin), mode="replicate") if margin else x


def _spec(config: SRCNNConfig) -> InputSpec:
    radius = config.first // 2 + config.second // 2 + config.third // 2
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        luma=config.luma if config.channels == 1 else "full",
        minimum=1 if config.scale == 1 else 2,
        overlap=radius_before_bicubic(radius, config.scale),
    )


def _detect(state: StateDict) -> SRCNNConfig | None:
    if state.keys() != _KEYS:
        return None
    weights = [state[f"conv{k}.weight"] for k in (1, 2, 3)]
    if any(weight.ndim != 4 or weight.shape[2] % 2 == 0 for weight in weights):
        return None
    channels = weights[0].shape[1]
    if channels not in (1, 3) or weights[2].shape[0] != channels:
        return None
    return SRCNNConfig(
        channels=cast("Literal[1, 3]", channels),
        features=weights[0].shape[0],
        mapped=weights[1].shape[0],
        first=weights[0].shape[2],
        second=weights[1].shape[2],
        third=weights[2].shape[2],
    )


_LAYOUTS = (
    {"patch_extraction": "conv1", "nonlinear_map": "conv2", "recon": "conv3"},
    {"features.0": "conv1", "map.0": "conv2", "reconstruction": "conv3"},
    {f"generator.conv{k}": f"conv{k}" for k in (1, 2, 3)},
)


ARCH = Architecture(
    id="srcnn",
    paper="Image Super-Resolution Using Deep Convolutional Networks, "
    "Dong, Loy, He, Tang 2014, arXiv:1501.00092",
    config=SRCNNConfig,
    build=SRCNN,
    spec=_spec,
    detect=_detect,
    canonicalise=lambda state: renamed(state, _LAYOUTS),
    # the paper counts 8 032 and 57 184, without biases
    parameters=(
        (SRCNNConfig(), 8_129),
        (SRCNNConfig(second=3), 24_513),
        (SRCNNConfig(second=5), 57_281),
        (SRCNNConfig(channels=3), 20_099),
        (SRCNNConfig(channels=3, second=5), 69_251),
    ),
    hinted=("scale", "colour", "luma"),
    scales=lambda _: range(1, LARGEST_SCALE + 1),
)
