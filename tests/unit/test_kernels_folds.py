"""Folded resampling against the operations written out, in float64."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vsr.engine.kernels.folds import PhaseConv2d, fold_area, phase_weights, reduced
from vsr.errors import UsageError
from vsr.models.compact import Compact, CompactConfig

sides = st.integers(1, 9)


def enlarged(x, conv):
    return conv(F.interpolate(x, scale_factor=2, mode="nearest"))


@given(n=st.integers(1, 2), h=sides, w=sides, cin=st.integers(1, 5), cout=st.integers(1, 5))
def test_four_phases_equal_nearest_and_convolution(n, h, w, cin, cout):
    conv = nn.Conv2d(cin, cout, 3, padding=1).double()
    x = torch.randn(n, cin, h, w, dtype=torch.float64)
    with torch.inference_mode():
        y = PhaseConv2d(conv)(x)
        assert y.shape == (n, cout, 2 * h, 2 * w)
        assert torch.allclose(y, enlarged(x, conv), rtol=0, atol=1e-12)


def test_phases_keep_dtype_and_memory_format():
    conv = nn.Conv2d(8, 8, 3, padding=1, bias=False).bfloat16()
    x = torch.randn(1, 8, 6, 5).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        y, expected = PhaseConv2d(conv)(x), enlarged(x.float(), conv.float())
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y.float(), expected, atol=2e-2)


def test_one_phase_is_a_two_by_two_kernel_at_its_place():
    """The statement in the docstring, taken literally."""
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64)
    full = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    phases = phase_weights(weight)
    for p in (0, 1):
        for q in (0, 1):
            padded = F.pad(x, (1 - q, q, 1 - p, p))
            one = F.conv2d(padded, phases[p, q])
            assert torch.allclose(one, full[:, :, p::2, q::2], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_what_does_not_fold_is_refused(conv):
    with pytest.raises(UsageError, match="leave it"):
        PhaseConv2d(conv)
    with pytest.raises(UsageError, match="3×3 kernel"):
        phase_weights(torch.zeros(1, 1, 5, 5))


@given(
    scales=st.sampled_from([(4, 2), (4, 4), (2, 2), (3, 3), (4, 1), (8, 2), (6, 3)]),
    channels=st.integers(1, 3),
    bias=st.booleans(),
)
def test_an_average_after_the_shuffle_moves_into_the_weights(scales, channels, bias):
    scale, factor = scales
    conv = nn.Conv2d(4, channels * scale**2, 3, padding=1, bias=bias).double()
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    with torch.inference_mode():
        expected = F.avg_pool2d(F.pixel_shuffle(conv(x), scale), factor)
        y = F.pixel_shuffle(fold_area(conv, scale, factor)(x), scale // factor)
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_compact_network_reduced_is_a_smaller_one(factor):
    network = Compact(CompactConfig(channels=1, features=8, convs=2, scale=4)).double().eval()
    before = network.body[-1].weight.clone()
    x = torch.rand(1, 1, 6, 7, dtype=torch.float64)
    with torch.inference_mode():
        y = reduced(network, factor)(x)
        assert torch.allclose(y, F.avg_pool2d(network(x), factor), rtol=0, atol=1e-12)
    assert network.scale == 4
    assert torch.equal(network.body[-1].weight, before)


@pytest.mark.parametrize(("scale", "factor"), [(3, 2), (2, 4), (4, 0)])
def test_a_factor_that_does_not_divide_is_refused(scale, factor):
    with pytest.raises(UsageError, match="must divide"):
        fold_area(nn.Conv2d(4, scale**2, 3), scale, factor)
    with pytest.raises(UsageError, match="must divide"):
        reduced(Compact(CompactConfig(features=8, convs=1, scale=4)), 3)
