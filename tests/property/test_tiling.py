"""Tiles: their geometry, and that a network on tiles equals the network on the whole picture."""

from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.errors import UsageError
from vsr.models import build
from vsr.tiling import smallest_tile, spans

LENGTHS = st.integers(1, 3000)
TILES = st.integers(1, 700)
OVERLAPS = st.integers(0, 60)
MULTIPLES = st.sampled_from([1, 2, 4, 8])


@given(LENGTHS, TILES, OVERLAPS, MULTIPLES)
def test_spans_cover_every_pixel_once(length: int, tile: int, overlap: int, multiple: int):
    length, tile = length + -length % multiple, tile + -tile % multiple
    assume(tile >= min(length, smallest_tile(overlap, multiple)))
    cuts = spans(length, tile, overlap, multiple)
    kept = [pixel for cut in cuts for pixel in range(*cut.keep)]
    assert kept == list(range(length))
    for cut in cuts:
        (begin, end), (first, last) = cut.read, cut.keep
        assert 0 <= begin <= first < last <= end <= length
        assert begin % multiple == 0
        assert end - begin == min(tile, length)
        assert begin == 0 or first - begin >= overlap
        assert end == length or end - last >= overlap


@given(LENGTHS, OVERLAPS, MULTIPLES)
def test_too_small_tiles_are_refused(length: int, overlap: int, multiple: int):
    tile = smallest_tile(overlap, multiple) - multiple
    length += -length % multiple
    assume(0 < tile < length)
    with pytest.raises(UsageError, match=str(smallest_tile(overlap, multiple))):
        spans(length, tile, overlap, multiple)


@given(OVERLAPS, MULTIPLES)
def test_smallest_tile_works(overlap: int, multiple: int):
    tile = smallest_tile(overlap, multiple)
    cuts = spans(4 * tile, tile, overlap, multiple)
    assert len({cut.read[1] - cut.read[0] for cut in cuts}) == 1


def natural(height: int, width: int) -> Tensor:
    """Edges, gradients and texture, so that the network has something to look at."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    random = torch.Generator().manual_seed(7)
    texture = 0.1 * torch.rand(3, height, width, generator=random, dtype=torch.float64)
    lines = ((x + 2 * y) % 23 < 4).double() * 0.5 + 0.3 * torch.sin(x / 5.0) * torch.cos(y / 7.0)
    return (lines + 0.3 + texture).clamp(0, 1)[None]


GRID = 2.0**-28


def snapped(values: Tensor, grid: float = GRID) -> Tensor:
    return (values / grid).round() * grid


@pytest.fixture(scope="module")
def trained(shared: Path) -> nn.Module:
    """realesr-animevideov3 in float64, on numbers so round that its sums are exact.

    Weights are multiples of 2⁻¹⁴, what each layer gives is one of 2⁻²⁸, and no sum reaches 2¹¹: 53
    bits hold all of it, so the order in which a processor adds up does not matter.
    """
    checkpoint = read_checkpoint(shared / "data" / "weights" / "realesr-animevideov3.pth")
    network = build(checkpoint.state)[0].double().requires_grad_(False)
    for layer in network.body:
        for values in layer.parameters():
            values.copy_(snapped(values, 2.0**-14))
        layer.register_forward_hook(lambda _layer, _given, made: snapped(made))
    return network


def on_tiles(network: nn.Module, x: Tensor, tile: int, overlap: int) -> Tensor:
    height, width = x.shape[2:]
    out = x.new_empty(1, 3, height * 4, width * 4)
    for row in spans(height, tile, overlap):
        for column in spans(width, tile, overlap):
            part = network(x[..., slice(*row.read), slice(*column.read)])
            top, left = (4 * (s.keep[0] - s.read[0]) for s in (row, column))
            rows, columns = (slice(4 * s.keep[0], 4 * s.keep[1]) for s in (row, column))
            high, wide = rows.stop - rows.start, columns.stop - columns.start
            out[..., rows, columns] = part[..., top : top + high, left : left + wide]
    return out


@pytest.mark.shared
@given(st.integers(38, 70), st.integers(38, 70), st.integers(37, 60))
@settings(max_examples=6)
def test_tiled_equals_whole_at_the_receptive_field(
    trained: nn.Module, height: int, width: int, tile: int
):
    x = snapped(natural(height, width))
    with torch.inference_mode():
        difference = (on_tiles(trained, x, tile, 18) - trained(x)).abs().max()
    assert difference == 0


@pytest.mark.shared
def test_one_pixel_short_of_the_field_shows(trained: nn.Module):
    x = snapped(natural(96, 40))
    with torch.inference_mode():
        whole, whole_again = trained(x), trained(x)
        exact, short = (trained(x[..., : 48 + overlap, :])[..., :192, :] for overlap in (18, 17))
    assert torch.equal(whole, whole_again)
    assert torch.equal(exact, whole[..., :192, :])
    assert (short - whole[..., :192, :]).abs().max() > 0
