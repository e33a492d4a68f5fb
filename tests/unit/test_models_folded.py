"""The compact network behind a pixel-unshuffle: layout, detection, sizes that do not divide."""

import pytest
import torch

import vsr
from vsr.checkpoints import save_checkpoint
from vsr.models import build, detect
from vsr.models.compact import Compact, CompactConfig
from vsr.models.folded import Folded, FoldedConfig

CONFIGS = [
    FoldedConfig(features=6, convs=0),
    FoldedConfig(features=8, convs=3, scale=4),
    FoldedConfig(channels=3, features=8, convs=1, scale=3),
    FoldedConfig(channels=3, features=8, convs=2, fold=4, scale=1),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_its_layout_tells_everything(config: FoldedConfig) -> None:
    arch, found, _ = detect(Folded(config).state_dict())
    assert (arch.id, found) == ("folded", config)


def test_compact_layouts_are_still_compact() -> None:
    arch, _, _ = detect(Compact(CompactConfig(features=8, convs=2)).state_dict())
    assert arch.id == "compact"


def test_weights_of_one_pixel_make_it_the_nearest_neighbour_and_a_known_detail() -> None:
    """What lands where: folded channels and sub-pixels follow `pixel_shuffle`."""
    network = Folded(FoldedConfig(features=4, convs=0, scale=2))
    for parameter in network.parameters():
        parameter.data.zero_()
    for pixel in range(4):
        network.body[0].weight.data[pixel, pixel, 1, 1] = 1
        y, x = divmod(pixel, 2)
        network.body[2].weight.data[2 * y * 4 + 2 * x, pixel, 1, 1] = 1
    picture = torch.rand(1, 1, 6, 4)
    made = network(picture) - picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = torch.zeros_like(made)
    expected[..., ::2, ::2] = picture
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (12, 5)])
def test_any_size_is_enlarged(tmp_path, size: tuple[int, int]) -> None:
    config = FoldedConfig(features=8, convs=1, scale=2)
    path = tmp_path / "folded.safetensors"
    save_checkpoint(path, Folded(config).state_dict(), "folded", config)
    upscaler = vsr.load_model(path, device="cpu", precision="fp32")
    picture = torch.rand(1, 3, *size)
    whole = upscaler(picture)
    assert whole.shape == (1, 3, 2 * size[0], 2 * size[1])


def test_its_overlap_is_the_radius_of_what_a_folded_pixel_sees() -> None:
    config = FoldedConfig(features=4, convs=2)
    network, spec = build(Folded(config).state_dict())
    assert (spec.overlap, spec.multiple_of, spec.scale) == (8, 2, 2)
    for parameter in network.double().parameters():
        parameter.data.fill_(0.01)
    x = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    flat = network(x)
    for pixel in (20, 21):
        lit = x.clone()
        lit[..., 20, pixel] = 1
        columns = (network(lit) - flat).abs().amax((0, 1, 2)).nonzero().flatten() // spec.scale
        assert (int(columns.min()), int(columns.max())) == (20 - spec.overlap, 21 + spec.overlap)
