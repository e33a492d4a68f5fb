"""PSNR and SSIM as super-resolution papers measure them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vsr.metrics import luma, psnr, ssim


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [  # MATLAB's rgb2ycbcr of uint8, which rounds
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81),
        ((0, 255, 0), 145),
        ((0, 0, 255), 41),
        ((128, 128, 128), 126),
    ],
)
def test_luma_equals_matlab(rgb: tuple[int, int, int], expected: int) -> None:
    assert np.array_equal(
        np.rint(luma(np.full((2, 3, 3), rgb, np.uint8))), np.full((2, 3), expected)
    )


def test_luma_of_gray_is_gray() -> None:
    gray = noise((9, 5))
    assert np.array_equal(luma(gray), gray)


def test_psnr_of_a_known_error() -> None:
    a = np.full((8, 8), 100, np.uint8)
    b = a.copy()
    b[0, 0] = 108  # mean squared error 64 / 64 = 1
    assert psnr(a, b) == pytest.approx(20 * np.log10(255))
    assert psnr(a / 255.0, b / 255.0, peak=1.0) == pytest.approx(20 * np.log10(255))


def test_psnr_does_not_wrap_around_unsigned_bytes() -> None:
    assert psnr(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)) == pytest.approx(0)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert psnr(noise((8, 8, 3)), noise((8, 8, 3))) == float("inf")


def test_cropped_borders_do_not_count() -> None:
    a = noise((20, 24))
    b = a.copy()
    b[:3], b[-3:], b[:, :3], b[:, -3:] = 0, 0, 0, 0
    assert psnr(a, b) < 30
    assert psnr(a, b, crop=3) == float("inf")
    assert ssim(a, b, crop=3) == pytest.approx(1)


def test_ssim_bounds_and_symmetry() -> None:
    a, b = noise((40, 32), 1), noise((40, 32), 2)
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert abs(ssim(a, b)) < 0.1, "independent noise has no common structure"
    assert ssim(a, 255 - a) < -0.8, "an inverted picture has the opposite structure"


def test_ssim_of_two_flat_pictures_is_its_luminance_term() -> None:
    a, b = np.full((16, 16), 50.0), np.full((16, 16), 80.0)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 50 * 80 + c1) / (50**2 + 80**2 + c1))


def test_ssim_equals_the_definition_on_one_window() -> None:
    """One 11×11 window, all moments written out (Wang et al. 2004, eq. 13 to 16)."""
    x, y = noise((11, 11), 3).astype(float), noise((11, 11), 4).astype(float)
    radius = np.arange(-5, 6)
    weight = np.exp(-(radius[:, None] ** 2 + radius**2) / (2 * 1.5**2))
    weight /= weight.sum()
    mx, my = (weight * x).sum(), (weight * y).sum()
    vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
    both = (weight * (x - mx) * (y - my)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(x, y) == pytest.approx(expected)


def test_refuses_pictures_that_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"\(8, 8\) and \(8, 9\)"):
        psnr(noise((8, 8)), noise((8, 9)))
    with pytest.raises(ValueError, match="11×11"):
        ssim(noise((12, 12)), noise((12, 12)), crop=1)
    with pytest.raises(ValueError, match="single-channel"):
        ssim(noise((12, 12, 3)), noise((12, 12, 3)))
