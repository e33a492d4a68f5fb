"""The CUDA lane: equal pixels, no synchronisation, nothing lost to memory or overflow."""

import logging
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from tests.gpu.steady import count_unsynchronised
from vsr.engine.color import Picture
from vsr.engine.network import Network
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.engine.tiled import Padded, Tiled
from vsr.models._base import InputSpec
from vsr.models.compact import ARCH, Compact, CompactConfig
from vsr.types import ColorSpec, Frame, PixelFormat

pytestmark = pytest.mark.gpu

SIZE = (96, 64)


def make_frames(count, fmt, seed=0, size=SIZE):
    generator = np.random.default_rng(seed)
    color = ColorSpec(matrix=1, full_range=False, siting=1)
    return [
        Frame(
            planes=tuple(
                generator.integers(0, 1 << fmt.bits, shape, dtype=fmt.dtype)
                for shape in fmt.plane_shapes(*size)
            ),
            format=fmt,
            color=color,
            pts=n,
            time_base=Fraction(1, 25),
        )
        for n in range(count)
    ]


def network(channels=3, scale=2):
    torch.manual_seed(7)
    config = CompactConfig(features=32, convs=4, scale=scale, channels=channels)
    return Compact(config).eval(), ARCH.spec(config)


def run(device, precision, fmt, frames, *, channels=3, settings=None, size=SIZE):
    module, spec = network(channels)
    color = ColorSpec(matrix=1, full_range=False, siting=1)
    source = Picture(width=size[0], height=size[1], format=fmt, color=color)
    target = Picture(width=2 * size[0], height=2 * size[1], format=fmt, color=color)
    where = torch.device(device)

    def make(settings):
        inner = Network(module, spec, where, settings.precision)
        return Padded(Tiled(inner, settings.tile) if settings.tile else inner)

    settings = settings or Settings(precision=precision, batch=2)
    upscaler = FrameUpscaler(make, where, source, target, settings)
    return upscaler, upscaler(frames)


FORMATS = [
    PixelFormat(family="yuv", chroma_w=1, chroma_h=1),
    PixelFormat(family="yuv", chroma_w=1, chroma_h=1, bits=10),
    PixelFormat(family="yuv", chroma_w=1, bits=16, alpha=True),
    PixelFormat(family="gray", bits=12),
    PixelFormat(family="rgb", alpha=True),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize(("precision", "codes"), [("fp32", 1), ("fp16", 2), ("bf16", 6)])
def test_cuda_equals_cpu(fmt, precision, codes, channels):
    """Within `codes` steps of an 8-bit sample; fp32 differs by rounding alone."""
    frames = make_frames(5, fmt)
    ours = list(run("cuda", precision, fmt, frames, channels=channels)[1])
    reference = list(run("cpu", "fp32", fmt, frames, channels=channels)[1])
    assert [f.pts for f in ours] == [f.pts for f in frames]
    for a, b in zip(ours, reference, strict=True):
        for p, q in zip(a.planes, b.planes, strict=True):
            difference = np.abs(p.astype(np.int64) - q.astype(np.int64)).max()
            assert difference <= codes << (fmt.bits - 8)


def test_slots_of_the_ring_never_mix():
    fmt = FORMATS[0]
    frames = make_frames(64, fmt, seed=11)
    ours = list(run("cuda", "fp32", fmt, frames)[1])
    for n in (0, 1, 2, 3, 17, 40, 63):
        (alone,) = run("cuda", "fp32", fmt, [frames[n]])[1]
        for p, q in zip(ours[n].planes, alone.planes, strict=True):
            assert np.abs(p.astype(int) - q.astype(int)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_the_steady_state_does_not_synchronise(channels):
    fmt = FORMATS[0]
    _, results = run("cuda", "fp16", fmt, make_frames(40, fmt), channels=channels)
    assert count_unsynchronised(results) == 28


def test_out_of_memory_is_survived(caplog):
    """The allocator is capped so that the first settings cannot work."""
    fmt, size = FORMATS[0], (1024, 1024)
    frames = make_frames(4, fmt, size=size)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    used = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((used + 700e6) / total)
    try:
        start = Settings(precision="fp32", batch=4)
        with caplog.at_level(logging.WARNING, "vsr"):
            upscaler, results = run("cuda", "fp32", fmt, frames, settings=start, size=size)
            ours = list(results)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert (upscaler.settings.batch, upscaler.settings.tile) != (4, 0)
    assert any("out of memory" in r.message for r in caplog.records)
    reference = list(run("cuda", "fp32", fmt, frames, size=size)[1])
    for a, b in zip(ours, reference, strict=True):
        for p, q in zip(a.planes, b.planes, strict=True):
            assert np.abs(p.astype(int) - q.astype(int)).max() <= 1


class Overflowing(nn.Module):
    """Exceeds 65504 inside, and is harmless in fp32."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.conv.weight, 60_000.0)

    def forward(self, x):
        y = self.conv(x + 1) / 60_000.0 - 1
        return y.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_overflow_is_redone_in_fp32(caplog):
    fmt = FORMATS[0]
    color = ColorSpec(matrix=1, full_range=False, siting=1)
    source = Picture(width=SIZE[0], height=SIZE[1], format=fmt, color=color)
    target = Picture(width=2 * SIZE[0], height=2 * SIZE[1], format=fmt, color=color)
    spec, device = InputSpec(scale=2, channels=1, overlap=0), torch.device("cuda")

    def make(settings):
        return Network(Overflowing(), spec, device, settings.precision)

    upscaler = FrameUpscaler(make, device, source, target, Settings(precision="fp16", batch=2))
    frames = make_frames(8, fmt)
    with caplog.at_level(logging.WARNING, "vsr"):
        results = list(upscaler(frames))
    assert upscaler.settings.precision == "fp32"
    assert len(caplog.records) == 1
    for a, b in zip(results, frames, strict=True):
        expected = b.planes[0].repeat(2, 0).repeat(2, 1)
        assert np.abs(a.planes[0].astype(int) - expected.astype(int)).max() <= 1
