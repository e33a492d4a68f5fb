"""GFPGAN's network: equality with the official code, detection, damaged checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vsr.errors import CheckpointError
from vsr.faces.gfpgan import GFPGANClean, GFPGANConfig, detect

TINY = GFPGANConfig(unet=(4, 4, 2), decoder=(8, 8, 4), style=6, latents=6)


def tiny(**change: object) -> tuple[GFPGANClean, dict[str, Tensor]]:
    torch.manual_seed(0)
    network = GFPGANClean(replace(TINY, **change)).eval()
    return network, dict(network.state_dict())


@pytest.mark.shared
def test_equals_the_official_network(shared: Path):
    with safe_open(shared / "data" / "golden" / "gfpgan_v1clean_32.safetensors", "pt") as file:
        given = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}
    network = GFPGANClean.from_state(state)
    assert network.config.side == 32
    with torch.inference_mode():
        image, pictures = network.restore(given["input"])
        assert torch.equal(network(given["input"]), image)
    torch.testing.assert_close(image, given["output"], rtol=0, atol=1e-5)
    for k, picture in enumerate(pictures):
        torch.testing.assert_close(picture, given[f"rgb{k}"], rtol=0, atol=1e-5)


def test_has_the_published_parameter_count():
    """The official count has the mapping network of eight layers too."""
    with torch.device("meta"):
        network = GFPGANClean(GFPGANConfig())
    assert network.config.side == 512
    mapping = 8 * (512 * 512 + 512)
    assert sum(p.numel() for p in network.parameters()) + mapping == 86_444_252


@pytest.mark.parametrize("change", [{}, {"half": False}, {"latents": 1}, {"unet": (4, 6, 2)}])
def test_configuration_from_the_state(change: dict):
    network, state = tiny(**change)
    assert detect(state) == network.config
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(GFPGANClean.from_state(state)(x), network(x))


def test_a_face_is_restored_alike_each_time_and_by_itself():
    network, _ = tiny()
    for conv in network.stylegan_decoder.style_convs:
        torch.nn.init.ones_(conv.weight)  # noise, which the checkpoint brings
    x = torch.rand(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(network(x), network(x))
        torch.testing.assert_close(network(x)[1:], network(x[1:]))


def test_the_mapping_network_is_dropped():
    _, state = tiny()
    state["stylegan_decoder.style_mlp.1.weight"] = torch.zeros(6, 6)
    GFPGANClean.from_state(state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"final_conv.bias": None}, r"'final_conv.bias' has the shape None, expected \(4,\)"),
        ({"toRGB.0.weight": torch.zeros(3, 4, 3, 3)}, r"\(3, 4, 3, 3\), expected \(3, 4, 1, 1\)"),
        ({"more": torch.zeros(1)}, "'more' has the shape .* expected None"),
        ({"final_linear.weight": torch.zeros(35, 64)}, "not GFPGAN's clean network"),
        ({"final_conv.weight": None}, "not GFPGAN's clean network"),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(change: dict, said: str):
    _, state = tiny()
    state = {key: v for key, v in (state | change).items() if v is not None}
    with pytest.raises(CheckpointError, match=said) as caught:
        GFPGANClean.from_state(state)
    assert "\n" not in str(caught.value)


def test_odd_shapes_are_no_surprise():
    _, state = tiny()
    told = ("final_", "conv_body_up", "condition_scale.0", "decoder.style_conv")
    for key in (k for k in state if any(name in k for name in told)):
        for odd in (torch.zeros(()), torch.zeros(0, 0)):
            with pytest.raises(CheckpointError):
                GFPGANClean.from_state(state | {key: odd})


def test_nothing_else_is_taken_for_it():
    assert detect({}) is None
    assert detect({"final_conv.weight": torch.zeros(4, 4, 3, 3)}) is None
