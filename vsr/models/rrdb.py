"""RRDBNet: the network of ESRGAN, Real-ESRGAN and BSRGAN.

Wang, Yu, Wu, Gu, Liu, Dong, Qiao, Loy, "ESRGAN: Enhanced Super-Resolution Generative Adversarial
Networks", 2018, arXiv:1809.00219. New there: residual-in-residual dense blocks without batch norm,
residuals scaled by 0.2. Real-ESRGAN (2021, arXiv:2107.10833) puts a pixel-unshuffle in front for
x2 and x1, so that the trunk always runs at a quarter of the output's size.

    x              (N, C, H, W)
    unshuffle u    (N, C·u², H/u, W/u)          u = 1, 2 or 4
    conv_first     (N, F, H/u, W/u)             3×3
    body           (N, F, H/u, W/u)             `blocks` RRDBs of 3 dense blocks of 5 convolutions
    conv_body      (N, F, H/u, W/u)             3×3, + conv_first's
    conv_up1…      (N, F, 2^ups·H/u, …)         nearest ×2, 3×3, LeakyReLU, `ups` times
    conv_hr        (N, F, s·H, s·W)             3×3, LeakyReLU;  s = 2^ups / u
    conv_last      (N, C, s·H, s·W)             3×3

Layouts that are read: BasicSR's own (`body.N.rdbM.convK`), the ESRGAN repository's and KAIR's
(`RRDB_trunk.N.RDBM.convK`), the sequential one of 2018 and KAIR (`model.1.sub.N.RDBM.convK.0`), and
Lornatang's (`trunk.N.rdbM.convK`, `upsampling1.0`), each with 0 to 4 upsampling steps, as community
models have them.

Deviations: none. Tiling: an output pixel can depend on 15·blocks + 4 trunk pixels to each side.
Up to seven blocks tiles overlap by all of these and are exact. Beyond that the far ones hardly
count, and tiles overlap by a compromise (see `_APPROXIMATE`).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.models._base import Architecture, InputSpec, StateDict

_EXACT_BLOCKS = 7
_APPROXIMATE = 64
"""Trunk pixels by which tiles of deep networks overlap; Real-ESRGAN's own script takes 10.

With He-initialised weights and 23 blocks the error at 16 is already float32 noise (5e-4 of 255).
Trained weights look farther: of a trained compact network with a radius of 34 the error was 38, 8,
1.3 and 0.002 of 255 at 8, 16, 24 and 32. Whoever needs the last bit uses no tiles.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RRDBConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 3 for RGB and 1 for luma.
        features: Channels of the trunk.
        growth: Channels that each convolution adds within a dense block.
        blocks: Residual-in-residual dense blocks.
        ups: Doublings after the trunk.
        unshuffle: Factor by which the picture is folded into channels before the trunk.
    """

    channels: Literal[1, 3] = 3
    features: int = 64
    growth: int = 32
    blocks: int = 23
    ups: int = 2
    unshuffle: int = 1

    @property
    def scale(self) -> int:
        """Output pixels per input pixel."""
        return int(2**self.ups) // self.unshuffle


class DenseBlock(nn.Module):
    """Five 3×3 convolutions, each of which sees all before it; (N, F, H, W) to the same."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(features + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(features + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(features + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Adds a fifth of what the convolutions make."""
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, _leaky(conv(seen))], 1)
        return torch.add(x, self.conv5(seen), alpha=0.2)


class RRDB(nn.Module):
    """Three dense blocks in a residual of their own; (N, F, H, W) to the same."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Adds a fifth of what the dense blocks make."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=0.2)


class RRDBNet(nn.Module):
    """The network; keys equal those of BasicSR's `RRDBNet`."""

    full_precision: tuple[str, ...] = ("conv_last",)

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        channels, features = config.channels, config.features
        self.unshuffle = config.unshuffle
        self.conv_first = nn.Conv2d(channels * config.unshuffle**2, features, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(features, config.growth) for _ in range(config.blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        self.up_names = tuple(f"conv_up{k + 1}" for k in range(config.ups))
        for name in self.up_names:
            self.add_module(name, nn.Conv2d(features, features, 3, padding=1))
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for name in self.up_names:
            x = _leaky(self.get_submodule(name)(F.interpolate(x, scale_factor=2, mode="nearest")))
        return cast("Tensor", self.conv_last(_leaky(self.conv_hr(x))))


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


def receptive_radius(config: RRDBConfig) -> int:
    """Input pixels to each side that an output pixel depends on at most."""
    reach = 2
    for _ in range(config.ups):
        reach = math.ceil((reach + 1) / 2)
    return (reach + 1 + 15 * config.blocks + 1) * config.unshuffle


def _spec(config: RRDBConfig) -> InputSpec:
    exact = config.blocks <= _EXACT_BLOCKS
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        multiple_of=config.unshuffle,
        minimum=config.unshuffle,
        overlap=receptive_radius(config) if exact else _APPROXIMATE * config.unshuffle,
        tiling="exact" if exact else "approximate",
    )


def _detect(state: StateDict) -> RRDBConfig | None:
    marks = ("conv_first", "conv_last", "body.0.rdb1.conv1")
    first, last, grow = (state.get(f"{mark}.weight") for mark in marks)
    if first is None or last is None or grow is None or {first.ndim, last.ndim, grow.ndim} != {4}:
        return None
    channels = last.shape[0]
    unshuffle = math.isqrt(first.shape[1] // max(1, channels))
    ups = len({key.split(".")[0] for key in state if re.match(r"conv_up\d\.", key)})
    if channels not in (1, 3) or unshuffle not in (1, 2, 4) or 2**ups % unshuffle or ups > 4:
        return None
    return RRDBConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        growth=grow.shape[0],
        blocks=len({key.split(".")[1] for key in state if key.startswith("body.")}),
        ups=ups,
        unshuffle=unshuffle,
    )


def _canonicalise(state: StateDict) -> StateDict:
    if "conv_first.weight" in state and any(key.startswith("RRDB_trunk.") for key in state):
        return {_from_esrgan(key): value for key, value in state.items()}
    if "conv4.weight" in state and "trunk.0.rdb1.conv1.weight" in state:
        return {_from_lornatang(key): value for key, value in state.items()}
    if "model.0.weight" in state and any(key.startswith("model.1.sub.") for key in state):
        return dict(_from_sequential(state))
    return state


def _from_esrgan(key: str) -> str:
    """Names of the ESRGAN repository since 2020 and of KAIR's `network_rrdbnet`."""
    key = re.sub(r"^RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2.", key)
    key = re.sub(r"^upconv(\d)\.", r"conv_up\1.", key)
    return key.replace("trunk_conv.", "conv_body.").replace("HRconv.", "conv_hr.")


def _from_lornatang(key: str) -> str:
    """Names of Lornatang's `ESRGAN-PyTorch`, `BSRGAN-PyTorch` and `Real_ESRGAN-PyTorch`."""
    key = re.sub(r"^trunk\.(\d+)\.", r"body.\1.", key)
    key = re.sub(r"^upsampling(\d)\.0\.", r"conv_up\1.", key)
    key = re.sub(r"^conv1\.", "conv_first.", re.sub(r"^conv2\.", "conv_body.", key))
    return re.sub(r"^conv3\.0\.", "conv_hr.", re.sub(r"^conv4\.", "conv_last.", key))


def _from_sequential(state: StateDict) -> Iterator[tuple[str, Tensor]]:
    """Numbers of the 2018 release (`*_old_arch`) and of KAIR's `network_rrdb`.

    After the trunk, whose last entry is the convolution that closes it, come the doublings, then
    conv_hr and conv_last, with numbers that depend on the activations between them.
    """
    numbers = sorted({int(k.split(".")[1]) for k in state if re.match(r"model\.\d+\.", k)})
    tail = [n for n in numbers if n > 1]
    names = [f"conv_up{k + 1}" for k in range(len(tail) - 2)] + ["conv_hr", "conv_last"]
    homes = {
        f"model.{n}": name for n, name in zip(tail, names[len(names) - len(tail) :], strict=True)
    }
    homes["model.0"] = "conv_first"
    for key, value in state.items():
        block = re.match(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.(?:0\.)?(\w+)$", key)
        closing = re.match(r"model\.1\.sub\.\d+\.(weight|bias)$", key)
        stem, _, kind = key.rpartition(".")
        if block:
            yield "body.{}.rdb{}.conv{}.{}".format(*block.groups()), value
        elif closing:
            yield f"conv_body.{closing[1]}", value
        else:
            yield f"{homes.get(stem, stem)}.{kind}", value


ARCH = Architecture(
    id="rrdb",
    paper="ESRGAN, Wang et al. 2018, arXiv:1809.00219; Real-ESRGAN, 2021, arXiv:2107.10833",
    config=RRDBConfig,
    build=RRDBNet,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    parameters=(
        (RRDBConfig(), 16_697_987),
        (RRDBConfig(unshuffle=2), 16_703_171),
        (RRDBConfig(unshuffle=4), 16_723_907),
        (RRDBConfig(blocks=6), 4_467_779),
    ),
)
