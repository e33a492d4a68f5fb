"""Resampling: zimg's values, batches, precision, differentiability."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vsr.models.interpolation import KERNELS, Interpolation
from vsr.resample import Kernel, resample_axis, resize, taps

SIZES = [
    ((36, 64), (72, 128)),
    ((37, 53), (111, 159)),
    ((37, 53), (55, 80)),
    ((72, 128), (36, 64)),
    ((73, 127), (31, 55)),
    ((45, 80), (180, 320)),
    ((100, 90), (7, 9)),
    ((3, 5), (12, 20)),
    ((1, 7), (2, 14)),
]


def zimg(picture: NDArray[np.float32], height: int, width: int, kernel: Kernel):
    import vapoursynth as vs

    core = vs.core
    blank = core.std.BlankClip(
        width=picture.shape[1], height=picture.shape[0], format=vs.GRAYS, length=1
    )

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:  # noqa: ARG001 - called by name
        frame = f.copy()
        np.asarray(frame[0])[:] = picture
        return frame

    clip = core.std.ModifyFrame(blank, blank, fill)
    functions = {
        "nearest": lambda: core.resize.Point(clip, width, height),
        "bilinear": lambda: core.resize.Bilinear(clip, width, height),
        "bicubic": lambda: core.resize.Bicubic(
            clip, width, height, filter_param_a=0, filter_param_b=0.5
        ),
        "lanczos": lambda: core.resize.Lanczos(clip, width, height, filter_param_a=3),
    }
    return np.asarray(functions[kernel]().get_frame(0)[0]).copy()


@pytest.mark.vapoursynth
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equals_zimg(source: tuple[int, int], target: tuple[int, int], kernel: Kernel):
    picture = np.random.default_rng(0).random(source, dtype=np.float32)
    ours = resize(torch.from_numpy(picture), *target, kernel).numpy()
    np.testing.assert_allclose(ours, zimg(picture, *target, kernel), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_bits_do_not_depend_on_the_batch(
    source: tuple[int, int], target: tuple[int, int], kernel: Kernel
):
    batch = torch.rand(3, 2, *source)
    together = resize(batch, *target, kernel)
    for n in range(3):
        for c in range(2):
            assert torch.equal(resize(batch[n, c].clone(), *target, kernel), together[n, c])


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_flat_stays_flat(source: tuple[int, int], target: tuple[int, int]):
    flat = torch.full((1, *source), 0.7, dtype=torch.float64)
    for kernel in KERNELS:
        assert (resize(flat, *target, KERNELS[kernel]) - 0.7).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precisions_are_computed_in_float32(dtype: torch.dtype):
    x = torch.rand(1, 1, 20, 30).to(dtype)
    assert torch.equal(resize(x, 40, 60), resize(x.float(), 40, 60).to(dtype))


def test_memory_layout_does_not_matter():
    x = torch.rand(2, 3, 9, 11)
    layout = x.to(memory_format=torch.channels_last)
    strided = torch.rand(2, 3, 9, 22)[..., ::2].copy_(x)
    assert torch.equal(resize(layout, 18, 22), resize(x, 18, 22))
    assert torch.equal(resize(strided, 18, 22), resize(x, 18, 22))


def test_is_differentiable_even_after_inference_mode():
    with torch.inference_mode():
        resize(torch.rand(6, 7), 13, 9)
    x = torch.rand(6, 7, requires_grad=True)
    resize(x, 13, 9).sum().backward()
    assert x.grad is not None
    assert torch.isclose(x.grad.sum(), torch.tensor(13.0 * 9))


def test_tap_by_tap_and_by_blocks_agree():
    """Devices other than the CPU go tap by tap."""
    from vsr import resample

    x = torch.rand(2, 37, 53)
    for axis, length in ((1, 37), (2, 53)):
        for target in (2 * length, length // 2, length + 8):
            index, weight = taps(length, target, "bicubic")
            by_taps = resample._by_taps(x, index, weight, vertical=axis == 1)
            torch.testing.assert_close(
                resample_axis(x, axis, index, weight), by_taps, rtol=0, atol=1e-6
            )


def test_shift_moves_the_grid():
    ramp = torch.arange(40, dtype=torch.float64).expand(2, 40)
    index, weight = taps(40, 40, "bicubic", shift=0.25)
    inner = resample_axis(ramp, 1, index, weight)[:, 5:-5]
    torch.testing.assert_close(inner, ramp[:, 5:-5] + 0.25)


@pytest.mark.parametrize("kernel", KERNELS)
def test_interpolation_is_an_upscaler_of_any_planes(kernel: str):
    upscaler = Interpolation(KERNELS[kernel], 3)
    x = torch.rand(2, 5, 9, 7)
    y = upscaler(x)
    assert upscaler.spec.channels is None
    assert upscaler.spec.scale == 3
    assert torch.equal(y, resize(x, 27, 21, KERNELS[kernel]))


@pytest.mark.parametrize("kernel", KERNELS)
def test_interpolation_declares_its_overlap(kernel: str):
    upscaler = Interpolation(KERNELS[kernel], 2)
    x = torch.rand(1, 1, 40, 1, dtype=torch.float64)
    cut = x[:, :, 20 - upscaler.spec.overlap :]
    part = upscaler(cut)[:, :, 2 * upscaler.spec.overlap :]
    torch.testing.assert_close(part, upscaler(x)[:, :, 40:], rtol=0, atol=1e-12)
