"""The fused ends against the plain route, code by code, in Triton's interpreter.

Triton decides at its import whether it interprets, so that these tests run in a process of their
own: the outer run collects one test that starts it, and what needs no kernel.
"""

import importlib.util
import os
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.interpreter import interpreted_run
from vsr.engine.color import Picture, torch_dtype
from vsr.engine.kernels import interpreted
from vsr.engine.kernels.ends import FusedRoute, LumaEnds, RgbEnds, fits
from vsr.engine.route import Route
from vsr.errors import DeviceError, UnsupportedSourceError, UsageError
from vsr.models._base import InputSpec
from vsr.types import ColorSpec, PixelFormat

INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
CPU = torch.device("cpu")
GRAY, RGB = PixelFormat(family="gray"), PixelFormat(family="rgb")
NV = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
BT709 = ColorSpec(matrix=1, full_range=False, siting=1)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton")
@pytest.mark.skipif(INSIDE, reason="is inside")
def test_in_the_interpreter():
    done = interpreted_run(__file__)
    assert done.returncode == 0, done.stdout + done.stderr


def yuv(bits=8, chroma_w=1, chroma_h=1):
    return PixelFormat(family="yuv", bits=bits, chroma_w=chroma_w, chroma_h=chroma_h)


def pictures(fmt, target=None, size=(13, 3), scale=2, color=BT709):
    source = Picture(width=size[0], height=size[1], format=fmt, color=color)
    width, height = (scale * side for side in size)
    return source, replace(source, width=width, height=height, format=target or fmt)


def random_planes(picture, count=1):
    fmt = picture.format
    return tuple(
        torch.randint(0, 1 << fmt.bits, (count, h, w), dtype=torch.int32).to(torch_dtype(fmt))
        for h, w in fmt.plane_shapes(picture.width, picture.height)
    )


class Whole:
    """A network with its end, as the plain route wants it; the sum in float32 like the kernel's."""

    def __init__(self, detail, scale, channels, *, base=True, shuffle=None):
        self.detail, self.scale, self.base = detail, scale, base
        self.shuffle = shuffle or scale
        self.spec = InputSpec(scale=scale, channels=channels, overlap=1)

    def __call__(self, x):
        y = F.pixel_shuffle(self.detail(x.half()).float(), self.shuffle)
        if not self.base:
            return y
        base = x.half().float() if self.spec.channels == 3 else x
        return y + F.interpolate(base, scale_factor=self.scale, mode="nearest")


def convolution(channels, outputs):
    conv = torch.nn.Conv2d(channels, outputs, 3, padding=1).requires_grad_(requires_grad=False)
    conv.weight *= 0.4
    return lambda x: conv(x.float()).half()


def both(channels, source, target, count=1, **options):
    scale = target.width // source.width
    detail = convolution(channels, channels * scale**2)
    planes = random_planes(source, count)
    kept = [plane.clone() for plane in planes]
    ends = (LumaEnds if channels == 1 else RgbEnds)(source, target, device=CPU, **options)
    ours, health = FusedRoute(detail, ends)(planes)
    plain = Whole(detail, scale, channels, base=options.get("base", True))
    theirs, _ = Route(plain, source, target, options.get("kernel", "bicubic"))(planes)
    assert all(torch.equal(a, b) for a, b in zip(planes, kept, strict=True))
    assert torch.isfinite(health)
    return ours, theirs


def assert_equal_codes(ours, theirs):
    """Equal but where float32 sums straddle the edge of a code, which is rare."""
    assert [(a.shape, a.dtype) for a in ours] == [(b.shape, b.dtype) for b in theirs]
    for a, b in zip(ours, theirs, strict=True):
        difference = (a.int() - b.int()).abs()
        assert difference.max() <= 1
        assert difference.count_nonzero() <= 0.01 * difference.numel()


class TestInterpreted:
    __test__ = INSIDE

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(
        ("fmt", "target"),
        [
            (NV, NV),
            (NV, yuv(10)),
            (yuv(10), NV),
            (yuv(16, 1, 0), yuv(16, 1, 0)),
            (yuv(8, 0, 0), NV),
            (NV, yuv(8, 0, 0)),
            (yuv(8, 2, 2), GRAY),
            (GRAY, PixelFormat(family="gray", bits=12)),
        ],
        ids=str,
    )
    def test_equals_the_route(self, channels, fmt, target):
        color = replace(BT709, full_range=fmt != NV)
        assert_equal_codes(*both(channels, *pictures(fmt, target, color=color)))

    @settings(max_examples=8)
    @given(
        channels=st.sampled_from([1, 3]),
        siting=st.integers(1, 6),
        matrix=st.sampled_from([1, 5, 7, 8, 9]),
        scale=st.integers(1, 3),
        size=st.tuples(st.integers(1, 9), st.integers(1, 4)),
        kernel=st.sampled_from(["nearest", "bilinear", "lanczos"]),
    )
    def test_any_siting_matrix_scale_size_and_kernel(
        self, channels, siting, matrix, scale, size, kernel
    ):
        color = ColorSpec(matrix=matrix, full_range=False, siting=siting)
        source, target = pictures(NV, size=size, scale=scale, color=color)
        assert_equal_codes(*both(channels, source, target, kernel=kernel))

    @pytest.mark.parametrize(
        ("fmt", "target"),
        [(RGB, PixelFormat(family="rgb", bits=16)), (RGB, NV), (NV, RGB), (GRAY, RGB), (RGB, GRAY)],
        ids=str,
    )
    def test_rgb_at_one_end(self, fmt, target):
        source, result = pictures(fmt, target)
        assert_equal_codes(*both(3, source, result))

    def test_tiles_beyond_one(self):
        """A kernel's tile is 4 × 128, of one image."""
        assert_equal_codes(*both(1, *pictures(NV, size=(70, 3)), count=2))
        assert_equal_codes(*both(3, *pictures(NV, size=(70, 3)), count=2))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_network_that_shuffles_itself(self, channels):
        source, target = pictures(NV)
        detail = convolution(channels, 4 * channels)
        planes = random_planes(source)
        ends = (LumaEnds if channels == 1 else RgbEnds)(source, target, device=CPU, base=False)
        ours, _ = FusedRoute(lambda x: F.pixel_shuffle(detail(x), 2), ends)(planes)
        theirs, _ = Route(Whole(detail, 2, channels, base=False), source, target)(planes)
        assert_equal_codes(ours, theirs)

    @pytest.mark.filterwarnings("ignore:invalid value encountered")
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("bad", [float("nan"), -float("inf")])
    def test_health_tells_of_one_bad_sample(self, channels, bad):
        source, target = pictures(NV, size=(46, 2), scale=3)
        ends = (LumaEnds if channels == 1 else RgbEnds)(source, target, device=CPU)
        detail = torch.zeros(2, 9 * channels, 2, 46).half()
        planes = random_planes(source, 2)
        x = ends.open(planes)
        assert torch.isfinite(ends.close(planes, x, detail)[1])
        for place in ((0, 0, 0, 0), (1, 4, 1, 45)):
            spoilt = detail.clone()
            spoilt[place] = bad
            assert not torch.isfinite(ends.close(planes, x, spoilt)[1])

    def test_every_code_of_luma_survives(self):
        """Nothing is clamped before the codes of the format: blacker than black stays."""
        fmt = PixelFormat(family="gray", bits=10)
        source, target = pictures(fmt, size=(64, 16), scale=2)
        planes = (torch.arange(1024, dtype=torch.int32).view(1, 16, 64).to(torch.uint16),)
        ends = LumaEnds(source, target, device=CPU)
        (out,), _ = FusedRoute(lambda x: x.new_zeros(1, 4, 16, 64), ends)(planes)
        expected = planes[0].int().repeat_interleave(2, 1).repeat_interleave(2, 2)
        assert torch.equal(out.int(), expected)

    def test_rounds_to_nearest_and_ties_to_even(self):
        source, target = pictures(GRAY, color=replace(BT709, full_range=True), size=(8, 1), scale=1)
        ends = LumaEnds(source, target, device=CPU, dtype=torch.float32, base=False)
        codes = torch.tensor([0.5, 1.5, 2.49, 2.51, 254.5, -3.0, 300.0, 127.5]).view(1, 1, 1, 8)
        (out,), _ = FusedRoute(lambda _: codes / 255, ends)(random_planes(source, 1))
        assert (
            out.flatten().tolist()
            == (codes / 255 * 255).round().clamp(0, 255).int().flatten().tolist()
        )
        assert out.flatten().tolist()[2:4] == [2, 3]

    def test_the_network_gets_its_dtype_and_layout(self):
        source, target = pictures(NV)
        planes = random_planes(source)
        x = RgbEnds(source, target, device=CPU, dtype=torch.bfloat16).open(planes)
        assert (x.shape, x.dtype) == ((1, 3, 3, 13), torch.bfloat16)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert 0 <= x.min() < x.max() <= 1

    def test_a_wrong_network_is_named(self):
        source, target = pictures(NV)
        ends = LumaEnds(source, target, device=CPU)
        for shape in ((1, 9, 3, 13), (1, 4, 3, 12), (1, 1, 6, 26)):
            with pytest.raises(UsageError, match="before its shuffle"):
                FusedRoute(lambda _, shape=shape: torch.zeros(shape), ends)(random_planes(source))

    def test_a_matrix_without_numbers_is_refused_as_by_the_route(self):
        source, target = pictures(NV, color=replace(BT709, matrix=14))
        with pytest.raises(UnsupportedSourceError, match="14"):
            RgbEnds(source, target, device=CPU).open(random_planes(source))


@pytest.mark.skipif(INSIDE, reason="needs no kernel")
class TestWithoutKernels:
    def test_what_fits(self):
        assert fits(*pictures(NV), 2, 1)
        assert fits(*pictures(NV), 2, 3)
        assert not fits(*pictures(NV), 3, 1)
        assert not fits(*pictures(NV), 2, None)
        assert not fits(*pictures(RGB), 2, 1)
        assert fits(*pictures(RGB), 2, 3)
        alpha = PixelFormat(family="yuv", alpha=True)
        half = PixelFormat(family="gray", bits=16, floating=True)
        assert not fits(*pictures(alpha), 2, 1)
        assert not fits(*pictures(half), 2, 1)
        source, target = pictures(NV)
        other = replace(target, color=replace(BT709, matrix=9))
        assert not fits(source, other, 2, 1)
        assert fits(source, other, 2, 3)

    def test_what_does_not_fit_is_refused(self):
        source, target = pictures(RGB)
        with pytest.raises(UsageError, match="plain route"):
            LumaEnds(source, target, device=CPU)

    @pytest.mark.skipif(interpreted(), reason="the interpreter runs on the CPU")
    def test_the_cpu_has_no_kernels(self):
        with pytest.raises(DeviceError, match="cpu"):
            LumaEnds(*pictures(NV), device=CPU)
