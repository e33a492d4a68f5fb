"""Compact: detection, headers, trained checkpoints."""

import json
from pathlib import Path

import pytest
import torch

from vsr.checkpoints import blend, read_checkpoint
from vsr.errors import CheckpointError
from vsr.models import build, detect
from vsr.models.compact import ARCH, Compact, CompactConfig


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_configuration_from_the_state(channels: int, scale: int, activation: str):
    config = CompactConfig(
        channels=channels, features=5, convs=2, scale=scale, activation=activation
    )
    assert detect(Compact(config).state_dict())[1] == config
    assert ARCH.spec(config).overlap == 4
    assert ARCH.spec(config).channels == channels


def test_header_tells_an_activation_without_weights():
    config = CompactConfig(features=4, convs=1, activation="leakyrelu")
    torch.manual_seed(0)
    network = Compact(config)
    state = network.state_dict()
    settings = {"activation": "leakyrelu", "features": 4}
    header = {"architecture": "compact", "config": json.dumps(settings)}
    x = torch.randn(1, 3, 6, 6)
    with torch.inference_mode():
        assert torch.equal(build(state, header)[0](x), network(x))
        assert not torch.equal(build(state)[0](x), network(x))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"architecture": "rrdb"}, "header says 'rrdb'"),
        ({"config": '{"features": 1000000000}'}, "'features' = '1000000000'"),
        ({"config": '{"colour": 3}'}, "'colour'"),
        ({"config": '{"features": "4"}'}, "'features'"),
        ({"config": '{"activation": "gelu"}'}, "'gelu'"),
        ({"config": "{"}, "not JSON"),
        ({"config": "[" * 100_000}, "not JSON"),
        ({"config": "[]"}, "JSON object"),
    ],
)
def test_lying_headers_are_refused(header: dict[str, str], said: str):
    state = Compact(CompactConfig(features=4, convs=1, activation="relu")).state_dict()
    with pytest.raises(CheckpointError, match=said):
        build(state, {"architecture": "compact", **header})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"body.2.weight": torch.zeros(4, 4, 1, 1)}, "'body.2.weight' has shape 4×4×1×1"),
        ({"body.2.bias": None}, "lacks the tensor 'body.2.bias' of shape 4"),
        ({"body.3.bias": torch.zeros(4)}, "unexpected tensor 'body.3.bias'"),
    ],
)
def test_strict_loading_names_the_first_difference(change: dict, said: str):
    state = Compact(CompactConfig(features=4, convs=1, activation="relu")).state_dict()
    state = {key: v for key, v in (dict(state) | change).items() if v is not None}
    with pytest.raises(CheckpointError, match=said):
        build(state)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "convs"),
    [
        ("realesr-animevideov3", 16),
        ("realesr-general-x4v3_from-ncnn-fp16", 32),
        ("realesr-general-wdn-x4v3_from-ncnn-fp16", 32),
    ],
)
def test_trained_checkpoints_load(name: str, convs: int, shared: Path):
    checkpoint = read_checkpoint(shared / "data" / "weights" / f"{name}.pth")
    network, spec = build(checkpoint.state, checkpoint.metadata)
    assert detect(checkpoint.state)[1] == CompactConfig(convs=convs)
    assert spec.overlap == convs + 2
    flat = torch.full((1, 3, 40, 40), 0.5)
    with torch.inference_mode():
        result = network(flat)[..., 64:-64, 64:-64]
    assert (result - 0.5).abs().max() < 0.06  # an even gray stays nearly even


@pytest.mark.shared
def test_denoising_strength_blends_the_twins(shared: Path):
    folder = shared / "data" / "weights"
    weak, strong = (
        read_checkpoint(folder / f"realesr-general-{name}x4v3_from-ncnn-fp16.pth").state
        for name in ("wdn-", "")
    )
    x = torch.rand(1, 3, 12, 12)
    with torch.inference_mode():
        results = [build(blend(weak, strong, a))[0](x) for a in (0.0, 0.5, 1.0)]
        assert torch.equal(results[0], build(weak)[0](x))
        assert torch.equal(results[2], build(strong)[0](x))
    assert not torch.equal(results[1], results[0])
