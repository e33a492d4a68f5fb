"""GFPGAN's network: equality with the official code, detection, damaged checkpoints."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError
from vsr.faces.catalog import find_face_checkpoint
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


type Shapes = Iterator[tuple[str, tuple[int, ...]]]


def conv(name: str, inputs: int, outputs: int, side: int, *, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, side, side)
    if bias:
        yield f"{name}.bias", (outputs,)


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def modulated(name: str, inputs: int, outputs: int, side: int, style: int) -> Shapes:
    yield f"{name}.bias", (1, outputs, 1, 1)
    yield f"{name}.modulated_conv.weight", (1, outputs, inputs, side, side)
    yield from linear(f"{name}.modulated_conv.modulation", style, inputs)
    if side == 3:  # the strength of the noise
        yield f"{name}.weight", (1,)


def unet(widths: Sequence[int], decoder: Sequence[int], style: int) -> Shapes:
    """What the constructor of gfpganv1_clean_arch.py says; widths from side 4 on."""
    yield from conv("conv_body_first", 3, widths[-1], 1)
    downs, ups = list(pairwise(widths[::-1])), list(pairwise(widths))
    for way, steps in (("down", downs), ("up", ups)):
        for k, (low, high) in enumerate(steps):
            yield from conv(f"conv_body_{way}.{k}.conv1", low, low, 3)
            yield from conv(f"conv_body_{way}.{k}.conv2", low, high, 3)
            yield from conv(f"conv_body_{way}.{k}.skip", low, high, 1, bias=False)
    yield from conv("final_conv", widths[0], widths[0], 3)
    yield from linear("final_linear", widths[0] * 16, 2 * len(widths) * style)
    for k, width in enumerate(widths[1:]):
        yield from conv(f"toRGB.{k}", width, 3, 1)
        for name in ("condition_scale", "condition_shift"):
            yield from conv(f"{name}.{k}.0", width, width, 3)
            yield from conv(f"{name}.{k}.2", width, decoder[k + 1] // 2, 3)


def generator(widths: Sequence[int], style: int) -> Shapes:
    """What the constructor of stylegan2_clean_arch.py says, the mapping network included."""
    for layer in range(1, 16, 2):
        yield from linear(f"style_mlp.{layer}", style, style)
    yield "constant_input.weight", (1, widths[0], 4, 4)
    yield from modulated("style_conv1", widths[0], widths[0], 3, style)
    yield from modulated("to_rgb1", widths[0], 3, 1, style)
    for k, (low, high) in enumerate(pairwise(widths)):
        yield from modulated(f"style_convs.{2 * k}", low, high, 3, style)
        yield from modulated(f"style_convs.{2 * k + 1}", high, high, 3, style)
        yield from modulated(f"to_rgbs.{k}", high, 3, 1, style)
    sides = [4, *(2**power for power in range(3, len(widths) + 2) for _ in range(2))]
    for layer, side in enumerate(sides):
        yield f"noises.noise{layer}", (1, 1, side, side)


def published(config: GFPGANConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' files."""
    parts = list(unet(config.unet, config.decoder, config.style))
    decoder = generator(config.decoder, config.style)
    parts += [(f"stylegan_decoder.{name}", shape) for name, shape in decoder]
    shapes = dict(parts)
    assert len(shapes) == len(parts)
    return shapes


# widths of 512, 512, 512, 512, 512, 256, 128, 64 for sides 4 to 512, and half of them: the
# constructor's, with channel_multiplier 2 and narrow 1, as inference_gfpgan.py sets them
OFFICIAL = GFPGANConfig(
    unet=(256, 256, 256, 256, 256, 128, 64, 32),
    decoder=(512, 512, 512, 512, 512, 256, 128, 64),
    style=512,
    latents=16,
    half=True,
)


@pytest.mark.parametrize("name", ["GFPGANv1.3", "GFPGANv1.4"])
def test_layout_is_that_of_the_published_files(name: str):
    shapes = published(OFFICIAL)
    trained = sum(prod(shape) for key, shape in shapes.items() if ".noises." not in key)
    assert trained == 86_444_252  # as the official code counts its parameters
    numbers = 4 * sum(map(prod, shapes.values()))
    names = (find_face_checkpoint(name).size or 0) - numbers
    assert 0 < names < 256 * len(shapes)  # names and headers are all that is left of the file


def test_a_full_size_state_loads_key_for_key():
    one = torch.ones(1)
    state = {key: one.expand(shape) for key, shape in published(OFFICIAL).items()}
    assert detect(state) == OFFICIAL == GFPGANConfig()
    network = GFPGANClean.from_state(state)
    assert network.config.side == 512
    loaded = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert loaded == {k: shape for k, shape in published(OFFICIAL).items() if "style_mlp" not in k}
    assert all(bool((value == 1).all()) for value in network.state_dict().values())
    for key in ("stylegan_decoder.to_rgbs.6.bias", "stylegan_decoder.noises.noise14"):
        with pytest.raises(CheckpointError, match=key):
            GFPGANClean.from_state({k: v for k, v in state.items() if k != key})


def test_loads_a_file_as_it_is_published(tmp_path: Path):
    torch.manual_seed(0)
    state = {key: torch.randn(shape) for key, shape in published(TINY).items()}
    torch.save({"params_ema": state}, tmp_path / "GFPGANv1.4.pth")
    network = GFPGANClean.from_state(read_checkpoint(tmp_path / "GFPGANv1.4.pth").state)
    assert network.config == TINY
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_network_shares_no_memory_with_what_it_was_made_of():
    _, state = tiny()
    made = GFPGANClean.from_state(state)
    state["final_conv.bias"].fill_(7)
    assert not made.final_conv.bias.eq(7).any()
    assert not any(value.is_meta for value in made.state_dict().values())


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
