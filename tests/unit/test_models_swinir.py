"""SwinIR: tails, receptive field, tiles on the window's grid, any size, settings of a header."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vsr.engine.tiled import Padded, Tiled
from vsr.models import build, detect
from vsr.models.swinir import ARCH, SwinIR, SwinIRConfig, receptive_radius

TINY = SwinIRConfig(embed=8, depths=(2,), heads=(2,), hidden=12, window=4)
TAILS = [
    ("pixelshuffle", 2),
    ("pixelshuffle", 3),
    ("pixelshuffle", 8),
    ("pixelshuffledirect", 3),
    ("nearest+conv", 2),
    ("nearest+conv", 4),
    ("none", 1),
]


def network(config: SwinIRConfig) -> SwinIR:
    """Weights large enough for attention to look far."""
    torch.manual_seed(0)
    made = SwinIR(config).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made.requires_grad_(requires_grad=False)


class AsUpscaler:
    def __init__(self, made: SwinIR) -> None:
        self.made, self.spec = made, ARCH.spec(made.config)

    def __call__(self, x: Tensor, /) -> Tensor:
        return self.made(x)


@pytest.mark.parametrize(("upsampler", "scale"), TAILS)
@pytest.mark.parametrize("residual", ["1conv", "3conv"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_tail_is_read_from_the_state(upsampler, scale: int, residual, channels):
    config = replace(
        TINY,
        upsampler=upsampler,
        scale=scale,
        residual=residual,
        channels=channels,
        depths=(2, 1),
        heads=(2, 4),
    )
    state = SwinIR(config).state_dict()
    assert detect(state)[1] == config
    with torch.inference_mode():
        assert build(state)[0](torch.rand(2, channels, 5, 9)).shape == (
            2,
            channels,
            5 * scale,
            9 * scale,
        )


@pytest.mark.parametrize(
    ("change", "radius"),
    [
        ({"upsampler": "pixelshuffledirect", "depths": (6,) * 4, "scale": 2}, 103),
        ({}, 153),
        ({"upsampler": "nearest+conv", "depths": (6,) * 9, "residual": "3conv"}, 227),
    ],
)
def test_receptive_radius_of_the_published_sizes(change: dict, radius: int):
    assert receptive_radius(replace(SwinIRConfig(), **change)) == radius


@pytest.mark.parametrize(("upsampler", "scale"), [t for t in TAILS if t[1] < 8])
@pytest.mark.parametrize(("residual", "window", "depth"), [("1conv", 4, 2), ("3conv", 5, 3)])
def test_receptive_radius_is_exact(upsampler, scale: int, residual, window: int, depth: int):
    """The farthest input with a gradient, over all positions of an output pixel in a window."""
    config = replace(
        TINY, upsampler=upsampler, scale=scale, residual=residual, window=window, depths=(depth,)
    )
    made, radius = network(config), receptive_radius(config)
    middle = (radius // window + 2) * window
    x = torch.rand(1, 3, 2 * middle, window, dtype=torch.float64, requires_grad=True)
    rows = made(x).sum((1, 3)).flatten()
    farthest = 0
    for index in range(middle * scale, (middle + window) * scale):
        (gradient,) = torch.autograd.grad(rows[index], x, retain_graph=True)
        seen = gradient.abs().sum((1, 3)).flatten().nonzero().flatten()
        here = index // scale
        farthest = max(farthest, here - int(seen.min()), int(seen.max()) - here)
    assert farthest == radius


def test_tiles_on_the_grid_give_the_whole_picture():
    made = AsUpscaler(network(replace(TINY, upsampler="pixelshuffledirect", scale=2)))
    x = torch.rand(1, 3, 64, 48, dtype=torch.float64)
    with torch.inference_mode():
        whole = made(x)
        tiled = Tiled(made, 2 * made.spec.overlap + 4)
        assert tiled.tile < 48
        torch.testing.assert_close(tiled(x), whole, rtol=0, atol=1e-12)
        short = Tiled(made, tiled.tile, overlap=made.spec.overlap - 4)
        assert (short(x) - whole).abs().max() > 1e-9
        beside = made(x[..., 1:])[..., 2 * made.spec.overlap : -2 * made.spec.overlap]
        inner = whole[..., 2 * made.spec.overlap + 2 : -2 * made.spec.overlap]
        assert (beside - inner).abs().max() > 1e-3  # off the grid the windows are others


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (7, 8), (13, 6)])
def test_any_size_is_mirrored_to_the_window(height: int, width: int):
    made = AsUpscaler(network(TINY))
    x = torch.rand(1, 3, height, width, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.equal(made(x), Padded(made)(x))


def test_batch_entries_do_not_meet():
    made = network(TINY)
    x = torch.rand(3, 3, 12, 8, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(made(x), torch.cat([made(one[None]) for one in x]))


def test_range_of_the_jpeg_checkpoints():
    """Their window of 7 tells them apart; a header can say otherwise."""
    config = replace(TINY, window=7, upsampler="none", scale=1, img_range=255.0)
    made = network(config).float()
    state = made.state_dict()
    assert detect(state)[1].img_range == 255
    x = torch.rand(1, 3, 14, 14)
    header = {"architecture": "swinir", "config": json.dumps({"img_range": 1.0})}
    with torch.inference_mode():
        assert torch.equal(build(state)[0](x), made(x))
        assert (build(state, header)[0](x) - made(x)).abs().max() > 1e-3


def test_stored_masks_and_indices_are_dropped():
    state = dict(SwinIR(TINY).state_dict())
    block = "layers.0.residual_group.blocks.1"
    state[f"{block}.attn_mask"] = torch.zeros(9, 16, 16)
    state[f"{block}.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    assert detect(state)[1] == TINY
    assert build(state)[1].scale == 4


def test_a_window_that_would_fill_memory_is_refused():
    state = dict(SwinIR(TINY).state_dict())
    key = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
    state[key] = torch.empty(1).expand(1999**2, 2)
    assert ARCH.detect(ARCH.canonicalise(state)) is None


def test_half_precision_is_refused_and_norms_stay_exact():
    made = SwinIR(TINY)
    assert not ARCH.spec(TINY).half
    assert {"norm", "patch_embed.norm", "conv_last"} < set(made.full_precision)
    assert "layers.0.residual_group.blocks.1.norm2" in made.full_precision
