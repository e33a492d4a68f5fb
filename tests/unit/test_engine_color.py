"""Colour on the device against independent arithmetic and against swscale."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation
from hypothesis import given, settings
from hypothesis import strategies as st

from vsr.engine.color import (
    ChromaGrid,
    Picture,
    move_chroma,
    normalise,
    quantise,
    rgb_to_ycc,
    ycc_to_rgb,
)
from vsr.engine.convert import frame_to_rgb
from vsr.errors import UnsupportedSourceError
from vsr.types import ColorSpec, Frame, PixelFormat


def picture(width=8, height=6, siting=1, matrix=1, full=False, **fmt):
    color = ColorSpec(matrix=matrix, full_range=full, siting=siting)
    return Picture(width=width, height=height, format=PixelFormat(**fmt), color=color)


FORMATS = [
    {"family": family, "bits": bits, "chroma_w": w, "chroma_h": h, "alpha": alpha}
    for bits in (8, 10, 12, 16)
    for alpha in (False, True)
    for family, w, h in (
        ("yuv", 1, 1),
        ("yuv", 1, 0),
        ("yuv", 0, 0),
        ("yuv", 0, 1),
        ("gray", 0, 0),
        ("rgb", 0, 0),
    )
]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: "-".join(map(str, f.values())))
def test_every_code_survives_normalise_and_quantise(fmt, full):
    p = picture(width=64, height=16, full=full, **fmt)
    generator = np.random.default_rng(1)
    top = 1 << p.format.bits
    planes = tuple(
        torch.from_numpy(generator.integers(0, top, (2, h, w), dtype=p.format.dtype))
        for h, w in p.format.plane_shapes(p.width, p.height)
    )
    again = quantise(*normalise(planes, p), p)
    assert len(again) == p.format.plane_count
    for before, after in zip(planes, again, strict=True):
        assert after.dtype == before.dtype
        assert torch.equal(after.to(torch.int32), before.to(torch.int32))


FLOATS = [
    {"family": family, "chroma_w": w, "chroma_h": w, "alpha": alpha}
    for family, w in (("yuv", 1), ("yuv", 0), ("gray", 0), ("rgb", 0))
    for alpha in (False, True)
]


def floats(p, low, high, count=2):
    generator = torch.Generator().manual_seed(1)
    return tuple(
        (torch.rand(count, h, w, generator=generator) * (high - low) + low).to(
            torch.from_numpy(np.zeros(0, p.format.dtype)).dtype
        )
        for h, w in p.format.plane_shapes(p.width, p.height)
    )


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("fmt", FLOATS, ids=lambda f: "-".join(map(str, f.values())))
def test_floats_pass_unchanged_whatever_the_range_says(fmt, full, bits):
    p = picture(full=full, bits=bits, floating=True, **fmt)
    planes = floats(p, 0, 1)
    before = [plane.clone() for plane in planes]
    normal = normalise(planes, p)
    again = quantise(*normal, p)
    for a, b in zip(before, again, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    for tensor in normal:
        if tensor is not None:
            tensor.fill_(7)
    assert all(torch.equal(a, b) for a, b in zip(before, planes, strict=True)), "memory is shared"


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda f: "-".join(map(str, f.values())))
def test_rgb_and_alpha_end_within_bounds_and_luma_keeps_its_overshoot(fmt):
    p = picture(bits=32, floating=True, **fmt)
    planes = floats(p, -0.7, 1.7)
    out = quantise(*normalise(planes, p), p)
    for k, (before, after) in enumerate(zip(planes, out, strict=True)):
        bounded = p.format.family == "rgb" or (p.format.alpha and k == len(out) - 1)
        assert torch.equal(after, before.clamp(0, 1) if bounded else before)


@pytest.mark.parametrize("full", [False, True])
def test_floats_mean_what_integers_mean(full):
    """Sixteen-bit codes and their real values are one picture."""
    p = picture(full=full, family="yuv", bits=16, chroma_w=1, chroma_h=1)
    single = replace(p, format=replace(p.format, bits=32, floating=True))
    generator = np.random.default_rng(2)
    planes = tuple(
        torch.from_numpy(generator.integers(4096, 60000, (1, h, w), dtype=np.uint16))
        for h, w in p.format.plane_shapes(p.width, p.height)
    )
    luma, chroma, _ = normalise(planes, p)
    real = quantise(luma.clone(), chroma.clone(), None, single)
    back = quantise(*normalise(real, single), p)
    for a, b in zip(planes, back, strict=True):
        assert torch.equal(a.to(torch.int32), b.to(torch.int32))
    white = torch.full_like(planes[0], 65535 if full else 235 * 256)
    assert torch.allclose(normalise((white, *planes[1:]), p)[0], torch.ones(1), atol=1e-6)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from([1, 4, 5, 6, 7, 8, 9]))
@settings(max_examples=60, deadline=None)
def test_matrices_invert_each_other(r, g, b, code):
    rgb = torch.tensor([r, g, b]).view(1, 3, 1, 1)
    assert torch.allclose(ycc_to_rgb(rgb_to_ycc(rgb, code), code), rgb, atol=1e-5)


def test_white_and_primaries_have_the_codes_of_the_standard():
    p = picture(family="yuv", matrix=1)
    ycc = rgb_to_ycc(torch.tensor([1.0, 1, 1]).view(1, 3, 1, 1), 1)
    y, u, v = quantise(ycc[:, :1], ycc[:, 1:], None, p)
    assert (int(y), int(u), int(v)) == (235, 128, 128)
    ycc = rgb_to_ycc(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), 1)
    y, u, v = quantise(ycc[:, :1], ycc[:, 1:], None, p)
    assert (int(y), int(u), int(v)) == (63, 102, 240)


def test_constant_luminance_is_refused_with_a_remedy():
    with pytest.raises(UnsupportedSourceError, match="luma model"):
        ycc_to_rgb(torch.zeros(1, 3, 1, 1), 10)


@pytest.mark.parametrize("siting", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(("w", "h"), [(1, 1), (1, 0), (0, 1), (2, 0), (2, 2)])
def test_moving_chroma_keeps_a_ramp_in_place(siting, w, h):
    """A linear ramp in luma coordinates must stay that ramp, whatever the grids."""
    source = ChromaGrid.of(picture(64, 48, siting, family="yuv", chroma_w=w, chroma_h=h))
    target = ChromaGrid.of(picture(160, 120, 2, family="yuv", chroma_w=1, chroma_h=1))

    def positions(grid, axis):
        n, ratio, offset = grid.size[1 - axis], grid.ratio[axis], grid.offset[axis]
        return ratio * (torch.arange(n, dtype=torch.float64) + 0.5) + offset

    def ramp(grid, factor):
        x, y = (positions(grid, axis) / factor for axis in (0, 1))
        return (0.01 * x[None, :] + 0.02 * y[:, None]).float()[None, None]

    moved = move_chroma(ramp(source, 1), source, target, "bicubic")
    expected = ramp(target, 2.5)
    inner = (..., slice(12, -12), slice(12, -12))
    assert moved.shape == expected.shape
    assert torch.allclose(moved[inner], expected[inner], atol=1e-5)


def smooth(width, height, fmt, bits):
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    shapes = fmt.plane_shapes(width, height)
    top = 1 << bits
    base = [0.2 + 0.6 * x, 0.35 + 0.3 * y, 0.6 - 0.25 * x * y]
    return tuple(
        (plane[:: height // h, :: width // w][:h, :w] * top).astype(fmt.dtype)
        for plane, (h, w) in zip(base, shapes, strict=True)
    )


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("name", "w", "h"), [("yuv420p", 1, 1), ("yuv422p", 1, 0), ("yuv444p", 0, 0)]
)
def test_rgb_equals_swscale(matrix, full, name, w, h):
    """swscale with accurate flags is an independent implementation; it may round differently."""
    fmt = PixelFormat(family="yuv", chroma_w=w, chroma_h=h)
    planes = smooth(96, 64, fmt, 8)
    color = ColorSpec(matrix=matrix, full_range=full, siting=1)
    frame = Frame(planes=planes, format=fmt, color=color, pts=0, time_base=Fraction(1, 25))
    ours = frame_to_rgb(frame)
    reference = av.VideoFrame(96, 64, name)
    for plane, data in zip(reference.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        rows[:, : data.shape[1]] = data
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
    flags |= Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    theirs = reference.reformat(
        format="rgb24",
        src_colorspace=1 if matrix == 1 else 5,
        src_color_range=2 if full else 1,
        dst_color_range=2,
        interpolation=flags,
    ).to_ndarray()
    inner = (slice(4, -4), slice(4, -4))
    difference = np.abs(ours[inner].astype(int) - theirs[inner].astype(int))
    assert difference.max() <= 2
    assert difference.mean() < 0.6
