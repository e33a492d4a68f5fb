"""What a limit of memory does to batch, workers and tile; which shapes tiles and batches have."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vsr.engine import stream
from vsr.engine.assembly import Wishes, frame_upscaler
from vsr.engine.color import Picture
from vsr.engine.loading import find_model
from vsr.engine.memory import activation_bytes, bounded
from vsr.engine.stream import Settings
from vsr.engine.tiled import FixedBatch, Tiled, even_tile
from vsr.errors import UsageError
from vsr.models._base import InputSpec
from vsr.tiling import smallest_tile, spans
from vsr.types import ColorSpec, PixelFormat

MIB = 1 << 20
SPEC = InputSpec(scale=2, channels=1, overlap=10)
SIZE = (640, 360)
ENDS = 24 * 640 * 360 * 5
"""Of one frame, in bytes."""
PIXELS = 640 * 360
COLOR = ColorSpec(matrix=1, full_range=False, siting=1)
FORMAT = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)


def within(limit, *, per_pixel=100.0, **settings):
    given_ = Settings(max_memory=limit, **settings)
    return bounded(given_, SPEC, SIZE, per_pixel=per_pixel, weights=MIB)


def test_without_a_limit_nothing_changes():
    settings = Settings(batch=64, workers=9)
    assert bounded(settings, SPEC, SIZE, per_pixel=1e9) is settings


ONE = ENDS + 100 * PIXELS


@pytest.mark.parametrize(
    ("frames", "batch", "workers"), [(8, 4, 2), (7, 3, 2), (3, 1, 2), (2, 1, 2), (1, 1, 1)]
)
def test_frames_at_a_time_follow_the_limit(frames, batch, workers):
    found = within(MIB + frames * ONE, batch=4, workers=2)
    assert (found.batch, found.workers, found.tile) == (batch, workers, 0)


def test_what_fits_stays():
    settings = Settings(batch=4, tile=128, max_memory=1 << 40)
    assert bounded(settings, SPEC, SIZE, per_pixel=100) == settings


@pytest.mark.parametrize(("side", "tile"), [(300, 288), (128, 128), (22, 21)])
def test_then_tiles(side, tile):
    found = within(MIB + ENDS + 100 * side**2, batch=4)
    assert (found.batch, found.workers, found.tile) == (1, 1, tile)


def test_too_little_is_one_clear_line():
    with pytest.raises(UsageError, match=r"--max-memory 3 MiB is too little .* at least 28 MiB"):
        within(3 * MIB)
    whole = replace(SPEC, tiling="none")
    with pytest.raises(UsageError, match="too little"):
        bounded(Settings(max_memory=MIB + ENDS), whole, SIZE, per_pixel=100)


def test_a_job_keeps_within_its_limit():
    """By the estimate; and the result is that of no limit, since tiles are exact."""
    model = find_model(factor=Fraction(2))
    source = Picture(width=96, height=64, format=FORMAT, color=COLOR)
    target = replace(source, width=192, height=128)
    wishes = Wishes(device="cpu", precision="fp32", engine="torch", frames=None)
    free = frame_upscaler(model, source, target, wishes)
    per_pixel = activation_bytes(model.module, model.spec, "fp32")
    limit = int(24 * 96 * 64 * 5 + per_pixel * 50**2) + 4 * sum(
        p.numel() for p in model.module.parameters()
    )
    bound = frame_upscaler(model, source, target, replace(wishes, max_memory=limit))
    assert 0 < bound.settings.tile <= 50
    assert (bound.settings.batch, bound.settings.workers) == (1, 1)
    x = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        assert torch.allclose(bound._upscaler(x), free._upscaler(x), atol=1e-5)


def test_the_allocator_of_a_gpu_is_capped(monkeypatch):
    seen = []
    facts = type("Facts", (), {"total_memory": 8 << 30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: facts)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *a: seen.append(a))
    gpu = torch.device("cuda", 0)
    stream._limit(gpu, 2 << 30)
    stream._limit(gpu, 80 << 30)
    stream._limit(gpu, None)
    stream._limit(torch.device("cpu"), 1)
    assert seen == [(0.25, gpu), (1.0, gpu)]


class Nearest:
    def __init__(self, overlap=0, multiple_of=1):
        self.spec = InputSpec(scale=2, overlap=overlap, multiple_of=multiple_of)
        self.shapes = []

    def __call__(self, x):
        self.shapes.append(tuple(x.shape))
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_an_engine_sees_one_size_of_batch(count):
    network = Nearest()
    x = torch.rand(count, 3, 4, 5)
    assert torch.equal(FixedBatch(network, 3)(x), Nearest()(x))
    assert network.shapes == [(max(3, count), 3, 4, 5)]


def test_tiles_are_even():
    """1280 pixels in tiles of at most 1024 are two of 656, not two of 1024."""
    network = Nearest(overlap=16)
    x = torch.rand(1, 3, 40, 1280)
    assert torch.equal(Tiled(network, 1024)(x), Nearest()(x))
    assert network.shapes == [(1, 3, 40, 656)] * 2


@given(
    length=st.integers(1, 700),
    tile=st.integers(1, 400),
    overlap=st.integers(0, 40),
    multiple_of=st.sampled_from([1, 2, 8, 24]),
)
def test_an_even_tile_cuts_as_few_pieces_and_no_longer_ones(length, tile, overlap, multiple_of):
    length += -length % multiple_of
    tile = max(tile + -tile % multiple_of, smallest_tile(overlap, multiple_of))
    found = even_tile(length, tile, overlap, multiple_of)
    assert smallest_tile(overlap, multiple_of) <= found <= tile
    assert found % multiple_of == 0
    pieces = spans(length, found, overlap, multiple_of)
    assert len(pieces) <= len(spans(length, tile, overlap, multiple_of))
    assert len({span.read[1] - span.read[0] for span in pieces}) == 1
