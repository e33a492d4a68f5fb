"""Checkpoints of other people's code: their names are read, and their networks computed.

Where a layout is of another network, what it computes is written down here a second time, as
plainly as possible, from the code that the docstrings of `vsr.models` name.
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models import architecture, build, detect
from vsr.models.edsr import EDSR, EDSRConfig
from vsr.models.lapsrn import LapSRNConfig
from vsr.models.msrresnet import MSRResNetConfig
from vsr.models.rcan import RCAN, RCANConfig
from vsr.models.rrdb import RRDBConfig, RRDBNet
from vsr.models.srresnet import SRResNet, SRResNetConfig
from vsr.models.wdsr import WDSR, WDSRConfig

type State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def conv(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[2] // 2)


def output(state: State, x: Tensor) -> Tensor:
    with torch.inference_mode():
        result: Tensor = build(state)[0](x)
    return result


def shaken(network: nn.Module) -> nn.Module:
    """Running statistics and slopes that are not the initial ones."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.ndim <= 1:
            value.add_(torch.rand_like(value) * (1.0 if "var" in name else 0.2))
    return network.eval()


def renamed(state: Mapping[str, Tensor], *rules: tuple[str, str]) -> State:
    """Applies all rules to all names; a tensor whose name becomes empty is left out."""
    result = {}
    for old, value in state.items():
        key = old
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        if key:
            result[key] = value
    return result


@pytest.mark.parametrize("version", ["old", "new"])
@pytest.mark.parametrize("scale", [2, 4])
def test_srresnet_of_lornatang(version: str, scale: int):
    """Its convolutions before a norm have no biases; ours are zeros then."""
    config = SRResNetConfig(features=8, blocks=2, scale=scale)
    network = shaken(SRResNet(config))
    own = network.state_dict()
    for key in own:
        if re.fullmatch(r"(body\.\d\.conv\d|merge\.0)\.bias", key):
            own[key].zero_()
    end = "_block" if version == "old" else ""
    theirs = renamed(
        own,
        (r"^(body\.\d\.conv\d|merge\.0)\.bias$", ""),
        (r"^head\.", f"conv{end}1."),
        (r"^merge\.", f"conv{end}2."),
        (r"^tail\.", f"conv{end}3."),
        (r"^body\.(\d)\.conv1\.", r"trunk.\1.rcb.0."),
        (r"^body\.(\d)\.norm1\.", r"trunk.\1.rcb.1."),
        (r"^body\.(\d)\.act\.", r"trunk.\1.rcb.2."),
        (r"^body\.(\d)\.conv2\.", r"trunk.\1.rcb.3."),
        (r"^body\.(\d)\.norm2\.", r"trunk.\1.rcb.4."),
        (r"^upsample\.(\d)\.", r"upsampling.\1.upsample_block."),
    )
    assert not {"body", "head", "tail"} & {key.split(".")[0] for key in theirs}
    x = torch.rand(1, 3, 9, 8)
    assert detect(theirs)[1] == config
    assert torch.equal(output(theirs, x), output(own, x))


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_rcan_of_lornatang(scale: int, with_mean: bool):
    config = RCANConfig(features=8, groups=2, blocks=2, squeezed=2, scale=scale, white=1.0)
    own = RCAN(config).state_dict()
    theirs = renamed(
        own,
        (r"^(sub|add)_mean.*", ""),
        (r"^head\.0\.", "conv1."),
        (r"^body\.2\.", "conv2."),
        (r"^tail\.1\.", "conv3."),
        (r"^body\.(\d)\.body\.(\d)\.body\.(\d)", r"trunk.\1.residual_group.\2.RCAB.\3"),
        (r"^body\.(\d)\.body\.2\.", r"trunk.\1.residual_group.2."),
        (r"RCAB", "residual_channel_attention_block"),
        (r"\.conv_du\.0\.", ".channel_attention_layer.1."),
        (r"\.conv_du\.2\.", ".channel_attention_layer.3."),
        (r"^tail\.0\.0\.", "upsampling.0.upsample_block.0."),
        (r"^tail\.0\.2\.", "upsampling.1.upsample_block.0."),
    )
    if with_mean:
        theirs["mean"] = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
    x = torch.rand(1, 3, 9, 8)
    assert detect(theirs)[1] == config
    torch.testing.assert_close(output(theirs, x), output(own, x))


@pytest.mark.parametrize("version", ["old", "new"])
def test_edsr_of_lornatang(version: str):
    """The mean that the file holds is the one that is subtracted."""
    config = EDSRConfig(features=8, blocks=2, scale=4, white=1.0)
    own = EDSR(config).state_dict()
    inner = (r"trunk.\1.conv1.", r"trunk.\1.conv2.")
    up = (r"upsampling.\1.", 2)
    if version == "new":
        inner = (r"trunk.\1.rcb.0.", r"trunk.\1.rcb.2.")
        up = (r"upsampling.\1.upsample_block.0.", 1)
    theirs = renamed(
        own,
        (r"^(sub|add)_mean.*", ""),
        (r"^head\.0\.", "conv1."),
        (r"^body\.2\.", "conv2."),
        (r"^tail\.1\.", "conv3."),
        (r"^body\.(\d)\.body\.0\.", inner[0]),
        (r"^body\.(\d)\.body\.2\.", inner[1]),
        (r"^tail\.0\.2\.", f"tail.0.{up[1]}."),
        (r"^tail\.0\.(\d)\.", up[0]),
    )
    mean = torch.tensor([0.1, 0.2, 0.3])
    theirs |= {"mean": mean.view(1, 3, 1, 1), "std": torch.ones(1, 3, 1, 1)}
    own["sub_mean.bias"], own["add_mean.bias"] = -mean, mean
    x = torch.rand(1, 3, 9, 8)
    assert detect(theirs)[1] == config
    torch.testing.assert_close(output(theirs, x), output(own, x))


def test_esrgan_of_lornatang():
    config = RRDBConfig(features=8, growth=4, blocks=2)
    own = RRDBNet(config).state_dict()
    theirs = renamed(
        own,
        (r"^body\.", "trunk."),
        (r"^conv_first\.", "conv1."),
        (r"^conv_body\.", "conv2."),
        (r"^conv_up(\d)\.", r"upsampling\1.0."),
        (r"^conv_hr\.", "conv3.0."),
        (r"^conv_last\.", "conv4."),
    )
    x = torch.rand(1, 3, 9, 8)
    assert theirs.keys().isdisjoint(own)
    assert detect(theirs)[1] == config
    assert torch.equal(output(theirs, x), output(own, x))


def pyramid(levels: int) -> State:
    """Lornatang's LapSRN of eight features, with biases where his code has them."""
    name, state = "laplacian_pyramid_conv", {}

    def layer(key: str, *shape: int, bias: int = 0) -> None:
        state[f"{key}.weight"] = torch.randn(shape) * 0.2
        if bias:
            state[f"{key}.bias"] = torch.randn(bias) * 0.2

    layer("conv1.0", 8, 1, 3, 3, bias=8)
    for level in range(levels):
        for k in range(10):
            layer(f"{name}{3 * level + 1}.{k}.cl.0", 8, 8, 3, 3)
        layer(f"{name}{3 * level + 1}.10", 8, 8, 4, 4, bias=8)
        layer(f"{name}{3 * level + 2}", 1, 1, 4, 4, bias=1)
        layer(f"{name}{3 * level + 3}", 1, 8, 3, 3, bias=1)
    return state


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_lapsrn_of_lornatang(levels: int):
    state, name = pyramid(levels), "laplacian_pyramid_conv"
    x = torch.rand(1, 1, 7, 6)

    def doubled(y: Tensor, key: str) -> Tensor:
        weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
        return F.conv_transpose2d(y, weight, bias, stride=2, padding=1)

    picture, features = x, F.leaky_relu(conv(x, state, "conv1.0"), 0.2)
    for level in range(levels):
        for k in range(10):
            features = F.leaky_relu(conv(features, state, f"{name}{3 * level + 1}.{k}.cl.0"), 0.2)
        features = F.leaky_relu(doubled(features, f"{name}{3 * level + 1}.10"), 0.2)
        residual = conv(features, state, f"{name}{3 * level + 3}")
        picture = doubled(picture, f"{name}{3 * level + 2}") + residual
    config = LapSRNConfig(features=8, kernel=4, scale=2**levels)
    assert detect(state)[1] == config
    torch.testing.assert_close(output(state, x), picture, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("levels", [1, 2])
def test_lapsrn_of_opencv_pads_as_tensorflow_does(levels: int):
    config = LapSRNConfig(features=6, kernel=4, opencv=True, scale=2**levels, luma="full")
    state = architecture("lapsrn").build(config).state_dict()
    x = torch.rand(1, 1, 7, 6)

    def doubled(y: Tensor, key: str) -> Tensor:
        """A convolution of 4×4 at the places 0 - 1, 1 - 1 … of zeros, then pixels from channels."""
        weight = state[f"{key}.weight"]
        height, width = y.shape[2:]
        wide = F.pad(y, (4, 4, 4, 4))
        full = F.conv2d(wide, weight)[:, :, 3 : 3 + height, 3 : 3 + width]
        result = torch.empty(1, 1, 2 * height, 2 * width)
        for channel in range(4):
            result[:, 0, channel // 2 :: 2, channel % 2 :: 2] = full[:, channel]
        return result

    detail = picture = x
    for level in range(levels):
        for k in range(10):
            detail = F.leaky_relu(conv(detail, state, f"levels.{level}.convs.{k}"), 0.2)
        detail = F.leaky_relu(doubled(detail, f"levels.{level}.detail"), 0.2)
        picture = F.leaky_relu(doubled(picture, f"levels.{level}.enlarge") + detail, 0.2)
    assert detect(state)[0].id == "lapsrn"
    torch.testing.assert_close(output(state, x), picture, rtol=1e-4, atol=1e-5)


def normalised(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.rand(shape[0], 1, 1, 1) + 0.5, torch.randn(shape)


@pytest.mark.parametrize("scale", [2, 3])
def test_wdsr_of_2019(scale: int):
    """f(x - 0.5) + 0.5 of one sequence, every convolution with normalised weights."""
    features, wide, blocks, pixels = 4, 12, 3, 3 * scale**2
    shapes = {"body.0": (features, 3, 3, 3), f"body.{blocks + 1}": (pixels, features, 3, 3)}
    shapes["skip.0"] = (pixels, 3, 5, 5)
    for k in range(1, blocks + 1):
        shapes[f"body.{k}.body.0"] = (wide, features, 3, 3)
        shapes[f"body.{k}.body.2"] = (features, wide, 3, 3)
    state: State = {}
    plain: State = {}
    for name, shape in shapes.items():
        length, direction = normalised(*shape)
        bias = torch.randn(shape[0]) * 0.1
        state |= {f"{name}.bias": bias, f"{name}.weight_g": length, f"{name}.weight_v": direction}
        norm = direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        plain |= {f"{name}.weight": direction * length / norm, f"{name}.bias": bias}
    x = torch.rand(1, 3, 9, 8)
    inner = x - 0.5
    y = conv(inner, plain, "body.0")
    for k in range(1, blocks + 1):
        y = y + conv(F.relu(conv(y, plain, f"body.{k}.body.0")), plain, f"body.{k}.body.2")
    y = conv(y, plain, f"body.{blocks + 1}") + conv(inner, plain, "skip.0")
    expected = F.pixel_shuffle(y, scale) + 0.5
    arch, config, _ = detect(state)
    assert arch.id == "wdsr"
    assert config == WDSRConfig(
        features=features, expanded=wide, blocks=blocks, scale=scale, stored_mean=True
    )
    torch.testing.assert_close(output(state, x), expected, rtol=1e-4, atol=1e-5)


def test_wdsr_of_yjn870():
    own = WDSR(WDSRConfig(features=4, expanded=8, blocks=2, scale=2)).state_dict()
    theirs: State = {}
    for key, value in renamed(own, (r"^(body\.\d)\.body\.", r"\1.module.")).items():
        if key.endswith(".bias"):
            theirs[key] = value
        else:
            norm = value.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            theirs |= {f"{key}_g": norm, f"{key}_v": value * 3}
    x = torch.rand(1, 3, 9, 8)
    torch.testing.assert_close(output(theirs, x), output(own, x))


class Inner(nn.Module):
    """A shortcut around a sequence, under the name that KAIR gives it."""

    def __init__(self, name: str, body: nn.Sequential) -> None:
        super().__init__()
        setattr(self, name, body)
        self.body = [body]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body[0](x)


def kair(way: str, factors: tuple[int, ...]) -> nn.Module:
    """KAIR's MSRResNet0 of eight features and two blocks."""

    def plain(after: int = 8) -> nn.Module:
        return nn.Conv2d(8, after, 3, padding=1)

    blocks = (Inner("res", nn.Sequential(plain(), nn.ReLU(), plain())) for _ in range(2))
    layers = [nn.Conv2d(3, 8, 3, padding=1), Inner("sub", nn.Sequential(*blocks, plain()))]
    for factor in factors:
        layers += {
            "nearest": [nn.Upsample(scale_factor=factor, mode="nearest"), plain()],
            "shuffle": [plain(8 * factor**2), nn.PixelShuffle(factor)],
            "transposed": [nn.ConvTranspose2d(8, 8, factor, factor)],
        }[way]
        layers.append(nn.ReLU())
    layers += [plain(), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1, bias=False)]
    return nn.ModuleDict({"model": nn.Sequential(*layers)})


@pytest.mark.parametrize(
    ("way", "factors"),
    [
        *[(way, f) for way in ("nearest", "shuffle", "transposed") for f in ((2,), (2, 2))],
        ("shuffle", (3,)),
        ("transposed", (3,)),
        ("shuffle", (2, 2, 2)),
    ],
)
def test_msrresnet0_of_kair(way: Any, factors: tuple[int, ...]):
    network = kair(way, factors)
    x = torch.rand(1, 3, 9, 8)
    with torch.inference_mode():
        expected = network["model"](x)
    state = network.state_dict()
    scale = 3 if factors == (3,) else 2 ** len(factors)
    config = MSRResNetConfig(features=8, blocks=2, scale=scale, sequential=True, upsampling=way)
    assert detect(state)[1] == config
    torch.testing.assert_close(output(state, x), expected)


def test_msrresnet0_is_told_what_tensors_cannot_tell():
    network = kair("nearest", (3,))
    header = {"architecture": "msrresnet", "config": '{"scale": 3, "activation": "relu"}'}
    x = torch.rand(1, 3, 9, 8)
    with torch.inference_mode():
        expected = network["model"](x)
        module, spec = build(network.state_dict(), header)
        torch.testing.assert_close(module(x), expected)
        leaky = build(network.state_dict(), {**header, "config": '{"activation": "leakyrelu"}'})[0]
    assert spec.scale == 3
    assert leaky.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *[
            ("msrresnet", MSRResNetConfig(features=4, blocks=1, sequential=True, upsampling=way))
            for way in ("nearest", "shuffle", "transposed")
        ],
        ("lapsrn", LapSRNConfig(features=4, depth=3, kernel=4, opencv=True, scale=8, luma="full")),
        ("lapsrn", LapSRNConfig(features=4, depth=3, kernel=4, opencv=True, scale=2, luma="full")),
    ],
)
def test_declared_field_is_enough_and_needed(name: str, config: Any):
    """Changing what lies beyond the overlap changes nothing; one pixel less would not do."""
    arch = architecture(name)
    network, spec = arch.build(config).double().eval(), arch.spec(config)
    side, changes = 2 * spec.overlap + 8, {}
    x = torch.rand(1, spec.channels or 3, side, side, dtype=torch.float64)
    for less in (0, 1):
        outcomes = []
        for axis in (2, 3):
            for end in (False, True):
                changed = x.clone()
                edge = side // 2 - spec.overlap + less
                part = changed.flip(axis) if end else changed
                part.narrow(axis, 0, edge).add_(1)
                changed = part.flip(axis) if end else part
                with torch.inference_mode():
                    a, b = network(x), network(changed)
                half = side // 2 * spec.scale
                kept = (0, side * spec.scale - half) if end else (half, side * spec.scale - half)
                outcomes.append(torch.equal(a.narrow(axis, *kept), b.narrow(axis, *kept)))
        changes[less] = outcomes
    assert all(changes[0])
    assert not all(changes[1])


def test_a_layout_that_is_almost_known_is_refused():
    """Nothing is dropped in silence: a tensor that has no place here is named."""
    state = RRDBNet(RRDBConfig(features=8, growth=4, blocks=1)).state_dict()
    state["surplus.weight"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"unexpected tensor 'surplus\.weight'"):
        build(state)
