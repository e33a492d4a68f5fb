"""RRDBNet: layouts, variants, receptive field."""

import re

import pytest
import torch
from torch import Tensor, nn

from vsr.models import build, detect
from vsr.models.rrdb import ARCH, RRDBConfig, RRDBNet, receptive_radius

TINY = {"features": 4, "growth": 3, "blocks": 1}


def to_esrgan(state: dict[str, Tensor]) -> dict[str, Tensor]:
    pairs = [
        (r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2"),
        (r"^conv_body", "trunk_conv"),
        (r"^conv_up", "upconv"),
        (r"^conv_hr", "HRconv"),
    ]
    renamed = {}
    for old, value in state.items():
        key = old
        for pattern, new in pairs:
            key = re.sub(pattern, new, key)
        renamed[key] = value
    return renamed


def to_sequential(state: dict[str, Tensor], config: RRDBConfig) -> dict[str, Tensor]:
    """The layout of the 2018 release: convolution k after the trunk is number 3k, and so on."""
    homes = {"conv_first": "model.0", "conv_body": f"model.1.sub.{config.blocks}"}
    homes |= {f"conv_up{k + 1}": f"model.{3 * k + 3}" for k in range(config.ups)}
    homes |= {"conv_hr": f"model.{3 * config.ups + 2}", "conv_last": f"model.{3 * config.ups + 4}"}
    renamed = {}
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        block = re.sub(r"^body\.(\d+)\.rdb(\d)\.conv(\d)", r"model.1.sub.\1.RDB\2.conv\3.0", stem)
        renamed[f"{homes.get(stem, block)}.{kind}"] = value
    return renamed


@pytest.mark.parametrize(
    ("ups", "unshuffle", "scale"),
    [(2, 1, 4), (2, 2, 2), (2, 4, 1), (1, 1, 2), (0, 1, 1), (3, 1, 8), (4, 1, 16)],
)
def test_every_variant_in_every_layout(ups: int, unshuffle: int, scale: int):
    torch.manual_seed(0)
    config = RRDBConfig(**TINY, ups=ups, unshuffle=unshuffle)
    network = RRDBNet(config).eval()
    state = network.state_dict()
    x = torch.rand(1, 3, 8, 12)
    with torch.inference_mode():
        expected = network(x)
        assert expected.shape == (1, 3, 8 * scale, 12 * scale)
        for layout in (state, to_esrgan(state), to_sequential(state, config)):
            assert detect(layout)[1] == config
            assert torch.equal(build(layout)[0](x), expected)


def test_unshuffled_variants_ask_for_multiples():
    assert ARCH.spec(RRDBConfig(unshuffle=2)).multiple_of == 2
    assert ARCH.spec(RRDBConfig(unshuffle=4)).multiple_of == 4


def test_receptive_radius_of_the_published_sizes():
    assert receptive_radius(RRDBConfig(blocks=6)) == 94
    assert receptive_radius(RRDBConfig(blocks=23)) == 349
    assert receptive_radius(RRDBConfig(blocks=23, unshuffle=2)) == 698
    assert receptive_radius(RRDBConfig(blocks=23, unshuffle=4)) == 1396


@pytest.mark.parametrize(("ups", "unshuffle"), [(2, 1), (2, 2), (2, 4), (1, 1), (0, 1), (3, 1)])
def test_receptive_radius_is_exact(ups: int, unshuffle: int):
    """Positive weights let nothing cancel: the farthest input with a gradient is the radius."""
    config = RRDBConfig(channels=1, features=1, growth=1, blocks=1, ups=ups, unshuffle=unshuffle)
    network = RRDBNet(config).double()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    radius = receptive_radius(config)
    side = 2 * radius + 4 * unshuffle + 8
    side += -side % unshuffle
    x = torch.ones(1, 1, side, unshuffle, dtype=torch.float64, requires_grad=True)
    y = network(x).sum(3).flatten()
    farthest = 0
    middle = side // 2 // unshuffle * unshuffle
    period = max(1, 2**ups)
    for offset in range(period):  # every position of an output pixel within a trunk pixel
        index = middle * config.scale + offset
        (gradient,) = torch.autograd.grad(y[index], x, retain_graph=True)
        rows = gradient.sum(3).flatten().nonzero().flatten()
        here = index // config.scale if config.scale else index
        farthest = max(farthest, int(here - rows.min()), int(rows.max()) - here)
    assert farthest == radius


def test_deep_networks_are_tiled_approximately():
    assert ARCH.spec(RRDBConfig(blocks=6)).tiling == "exact"
    assert ARCH.spec(RRDBConfig(blocks=6)).overlap == 94
    deep = ARCH.spec(RRDBConfig(blocks=23))
    assert deep.tiling == "approximate"
    assert deep.overlap < 94


def test_last_convolution_keeps_float32():
    assert RRDBNet.full_precision == ("conv_last",)


def test_foreign_sequential_networks_are_not_claimed():
    state = {"model.0.weight": torch.zeros(4, 3, 3, 3), "model.1.sub.0.weight": torch.zeros(4)}
    assert ARCH.detect(ARCH.canonicalise(state)) is None
