"""SRResNet, which is also SRGAN's generator: residual blocks with normalisation, pixel shuffle.

Ledig, Theis, Huszár, Caballero, Cunningham, Acosta, Aitken, Tejani, Totz, Wang, Shi,
"Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2016,
arXiv:1609.04802. New there: a deep residual network at low resolution that ends in sub-pixel
convolutions, trained for fidelity (SRResNet) or against a discriminator (SRGAN).

    x             (N, 3, H, W)          in [0, 1]
    head          (N, F, H, W)          9×9, activation
    body[k]       (N, F, H, W)          3×3, norm, activation, 3×3, norm, + input; `blocks` times
    merge         (N, F, H, W)          3×3, norm, + head's
    upsample[k]   (N, F, 2·H, 2·W) …    3×3, shuffle ×2 (or ×3 once), activation
    tail          (N, 3, s·H, s·W)      9×9

Layouts that are read: leftthomas' SRGAN (`block1.0` … `block8.2`), whose end is (tanh + 1) / 2 and
in whose `merge` an activation took the place of the norm until 2019, twtygqyy's SRResNet
(`conv_input`, `residual.0.conv1`), without biases, with LeakyReLU(0.2) and batch or instance norm,
and both versions of Lornatang's (`conv1.0` or `conv_block1.0`, `trunk.N.rcb`).

Deviations: the paper maps to [-1, 1]; the networks that exist map to [0, 1]. Where the end is a
tanh, a constant `middle` says so, which the foreign layout tells only by its names. Instance norm
takes its statistics from the whole picture, so tiles would differ in brightness: that variant
cannot be tiled.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict
from vsr.models._blocks_residual import factors, reach, scale_of

_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_KEY = re.compile(
    rf"head\.0\.(?:weight|bias)|head\.1\.weight|body\.\d{{1,4}}\.(?:conv[12]\.(?:weight|bias)|"
    rf"norm[12]\.{_NORM}|act\.weight)|merge\.0\.(?:weight|bias)|merge\.1\.{_NORM}|"
    r"upsample\.\d\.(?:0\.(?:weight|bias)|2\.weight)|tail\.(?:weight|bias)|middle"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SRResNetConfig:
    """Hyperparameters.

    Attributes:
        features: Channels of the trunk.
        blocks: Residual blocks.
        scale: Upscaling factor: 2, 3, 4 or 8.
        norm: What normalises the features.
        activation: `prelu` with one slope per layer, or `leakyrelu` with 0.2.
        merge: What follows the convolution that closes the trunk.
        bias: Whether convolutions have biases.
        output: `linear`, or `tanh` brought from [-1, 1] to [0, 1].
    """

    features: int = 64
    blocks: int = 16
    scale: int = 4
    norm: Literal["batch", "instance"] = "batch"
    activation: Literal["prelu", "leakyrelu"] = "prelu"
    merge: Literal["norm", "activation"] = "norm"
    bias: bool = True
    output: Literal["linear", "tanh"] = "linear"


def _norm(config: SRResNetConfig) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm2d(config.features)
    return nn.InstanceNorm2d(config.features, affine=True)


def _activation(config: SRResNetConfig) -> nn.Module:
    return nn.PReLU() if config.activation == "prelu" else nn.LeakyReLU(0.2, inplace=True)


def _conv(config: SRResNetConfig, into: int, out: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=config.bias)


class Block(nn.Module):
    """Two normalised convolutions around a skip; (N, F, H, W) to the same."""

    def __init__(self, config: SRResNetConfig) -> None:
        super().__init__()
        self.conv1 = _conv(config, config.features, config.features)
        self.norm1 = _norm(config)
        self.act = _activation(config)
        self.conv2 = _conv(config, config.features, config.features)
        self.norm2 = _norm(config)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the residual."""
        y: Tensor = self.act(self.norm1(self.conv1(x)))
        return x + cast("Tensor", self.norm2(self.conv2(y)))


class SRResNet(nn.Module):
    """The network.

    In bfloat16 the ends and the norms keep float32: the picture itself runs through the trunk.
    """

    middle: Tensor | None

    def __init__(self, config: SRResNetConfig) -> None:
        super().__init__()
        features = config.features
        middle = torch.tensor(0.5) if config.output == "tanh" else None
        self.register_buffer("middle", middle)
        self.head = nn.Sequential(_conv(config, 3, features, 9), _activation(config))
        self.body = nn.Sequential(*(Block(config) for _ in range(config.blocks)))
        last = _norm(config) if config.merge == "norm" else _activation(config)
        self.merge = nn.Sequential(_conv(config, features, features), last)
        self.upsample = nn.Sequential(
            *(
                nn.Sequential(
                    _conv(config, features, features * factor**2),
                    nn.PixelShuffle(factor),
                    _activation(config),
                )
                for factor in factors(config.scale)
            )
        )
        self.tail = _conv(config, features, 3, 9)
        norms = (nn.BatchNorm2d, nn.InstanceNorm2d)
        kept = (name for name, layer in self.named_modules() if isinstance(layer, norms))
        self.full_precision: tuple[str, ...] = ("head.0", "head.1", *kept, "tail")

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) in [0, 1] to (N, 3, s·H, s·W)."""
        first = self.head(x)
        y: Tensor = self.tail(self.upsample(first + self.merge(self.body(first))))
        return y if self.middle is None else (torch.tanh(y) + 1) * self.middle


def _spec(config: SRResNetConfig) -> InputSpec:
    radius = 4 + 2 * config.blocks + 1 + reach(4, config.scale)
    if config.norm == "instance":
        return InputSpec(scale=config.scale, overlap=radius, minimum=2, tiling="none")
    return InputSpec(scale=config.scale, overlap=radius)


def _detect(state: StateDict) -> SRResNetConfig | None:
    marks = ("head.0", "body.0.conv1", "body.0.norm1", "merge.0", "upsample.0.0", "tail")
    if not all(f"{mark}.weight" in state for mark in marks) or not all(map(_KEY.fullmatch, state)):
        return None
    first = state["head.0.weight"]
    scale = scale_of(state, r"upsample\.\d\.0\.weight", first.shape[0]) if first.ndim == 4 else None
    if scale is None:
        return None
    return SRResNetConfig(
        features=first.shape[0],
        blocks=sum(key.endswith(".conv1.weight") for key in state),
        scale=scale,
        norm="batch" if "body.0.norm1.running_mean" in state else "instance",
        activation="prelu" if "head.1.weight" in state else "leakyrelu",
        merge="norm" if "merge.1.bias" in state else "activation",
        bias="tail.bias" in state,
        output="tanh" if "middle" in state else "linear",
    )


def _canonicalise(state: StateDict) -> StateDict:
    if "block1.0.weight" in state and "block2.conv1.weight" in state:
        return _with_counters({**dict(_from_leftthomas(state)), "middle": torch.tensor(0.5)})
    if "trunk.0.rcb.0.weight" in state and "upsampling.0.upsample_block.0.weight" in state:
        return dict(_from_lornatang(state))
    if "conv_input.weight" in state and "residual.0.conv1.weight" in state:
        return _with_counters(dict(_from_twtygqyy(state)))
    return state


def _from_lornatang(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """Both versions' names; convolutions before a norm lack the bias that the others have."""
    places = {"0": "conv1", "1": "norm1", "2": "act", "3": "conv2", "4": "norm2"}
    for key, value in state.items():
        name = re.sub(r"^conv(?:_block)?1\.", "head.", key)
        name = re.sub(r"^conv(?:_block)?2\.", "merge.", name)
        name = re.sub(r"^conv(?:_block)?3\.", "tail.", name)
        name = re.sub(
            r"^trunk\.(\d{1,4})\.rcb\.([0-4])\.", lambda m: f"body.{m[1]}.{places[m[2]]}.", name
        )
        name = re.sub(r"^upsampling\.(\d)\.upsample_block\.", r"upsample.\1.", name)
        yield name, value
        if re.fullmatch(r"(?:body\.\d{1,4}\.conv[12]|merge\.0)\.weight", name):
            yield name.replace("weight", "bias"), value.new_zeros(value.shape[:1])


def _from_leftthomas(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """The second last numbered block is `merge`, the last one all that follows."""
    numbers = {int(m[1]) for m in (re.match(r"block(\d{1,4})\.", key) for key in state) if m}
    final = max(numbers)
    steps = {int(m[1]) for m in (re.match(rf"block{final}\.(\d)\.", key) for key in state) if m}
    for key, value in state.items():
        name = re.sub(r"^block1\.", "head.", key)
        name = re.sub(rf"^block{final - 1}\.(?=\d)", "merge.", name)
        name = re.sub(rf"^block{final}\.{max(steps, default=0)}\.", "tail.", name)
        name = re.sub(rf"^block{final}\.(\d)\.conv\.", r"upsample.\1.0.", name)
        name = re.sub(rf"^block{final}\.(\d)\.prelu\.", r"upsample.\1.2.", name)
        name = re.sub(
            r"^block(\d{1,4})\.(?=conv|bn|prelu)", lambda m: f"body.{int(m[1]) - 2}.", name
        )
        yield re.sub(r"\.bn([12])\.", r".norm\1.", name).replace(".prelu.", ".act."), value


def _from_twtygqyy(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """`upscale4x.0` and `.3` are convolutions with a shuffle and an activation after each."""
    for key, value in state.items():
        name = re.sub(r"^conv_input\.", "head.0.", key)
        name = re.sub(r"^residual\.(\d{1,4})\.(?:bn|in)([12])\.", r"body.\1.norm\2.", name)
        name = re.sub(r"^residual\.", "body.", name)
        name = re.sub(r"^conv_mid\.", "merge.0.", name)
        name = re.sub(r"^bn_mid\.", "merge.1.", name)
        name = re.sub(r"^upscale\dx\.(\d)\.", lambda m: f"upsample.{int(m[1]) // 3}.0.", name)
        yield re.sub(r"^conv_output\.", "tail.", name), value


def _with_counters(state: dict[str, Tensor]) -> StateDict:
    """Adds the batch counters that PyTorch before 0.4.1 did not save."""
    for key in [key for key in state if key.endswith(".running_mean")]:
        state.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return state


ARCH = Architecture(
    id="srresnet",
    paper="SRGAN, Ledig et al. 2016, arXiv:1609.04802 (SRResNet)",
    config=SRResNetConfig,
    build=SRResNet,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (SRResNetConfig(blocks=5, merge="activation", output="tanh"), 734_092),
        (
            SRResNetConfig(norm="instance", activation="leakyrelu", bias=False),
            1_546_752,
        ),
    ),
)
