"""Optical flow on known motion, and what is measured with it."""

import numpy as np
import pytest

from vsr.errors import UsageError
from vsr.judging.filtering import gaussian, separable
from vsr.judging.flow import flow, inside, warped
from vsr.judging.temporal import Temporal, flicker, visible, warping_error


def texture(height=120, width=144, seed=0):
    """Noise at several scales, so that every level of a pyramid has something to hold on to."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for radius in (2, 6, 14):
        taps = gaussian(radius, radius / 2)
        layer = separable(random.normal(0, 1, (height, width)), taps, taps)
        total += layer / layer.std()
    return (128 + 30 * total).clip(0, 255)


def moved(picture, dx, dy):
    """What a picture shows after it went to the right by dx and down by dy."""
    back = np.zeros((*picture.shape, 2), np.float32)
    back[..., 0], back[..., 1] = -dx, -dy
    return warped(picture, back).astype(np.float64)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, -2), (0.5, 0.25), (3.5, -1.25), (9, 6)])
def test_flow_finds_a_known_motion(dx, dy):
    picture = texture()
    found = flow(picture, moved(picture, dx, dy))[20:-20, 20:-20]
    error = np.hypot(found[..., 0] - dx, found[..., 1] - dy)
    assert np.median(error) < 0.1
    assert error.mean() < 0.15


def test_flow_finds_a_rotation():
    picture = texture()
    y, x = np.mgrid[:120, :144].astype(np.float32)
    angle = np.deg2rad(2.0)
    back = np.stack(
        [
            (np.cos(angle) - 1) * (x - 71.5) + np.sin(angle) * (y - 59.5),
            -np.sin(angle) * (x - 71.5) + (np.cos(angle) - 1) * (y - 59.5),
        ],
        -1,
    ).astype(np.float32)
    # `turned` shows at p what `picture` shows at p + back, so its flow to `picture` is `back`.
    found = flow(warped(picture, back).astype(np.float64), picture)
    error = np.linalg.norm(found - back, axis=-1)[16:-16, 16:-16]
    assert np.median(error) < 0.1


def test_flow_of_a_flat_picture_stands_still():
    assert not flow(np.full((48, 48), 90.0), np.full((48, 48), 90.0)).any()


def test_flow_refuses_what_it_cannot_use():
    with pytest.raises(UsageError, match="at least 24 pixels a side, got 40x23"):
        flow(np.zeros((23, 40)), np.zeros((23, 40)))
    with pytest.raises(ValueError, match="one shape"):
        flow(np.zeros((30, 40)), np.zeros((30, 41)))


def test_warping_by_whole_pixels_copies():
    picture = texture(30, 40)
    motion = np.zeros((30, 40, 2), np.float32)
    motion[..., 0], motion[..., 1] = 3, -2
    assert np.allclose(warped(picture, motion)[2:, :-3], picture[:-2, 3:], atol=1e-4)
    assert inside(motion)[2:, :-3].all()
    assert not inside(motion)[:2].any()
    assert not inside(motion)[:, -3:].any()


def test_hidden_points_are_not_visible():
    motion = np.zeros((40, 40, 2), np.float32)
    motion[..., 0] = 4
    assert visible(motion, -motion)[:, :-4].all()
    assert not visible(motion, np.zeros_like(motion)).any()


def test_a_perfect_result_has_no_error():
    sitting, picture = Temporal(("tof", "warp", "static")), texture()
    first = sitting.push(picture, picture)
    assert all(np.isnan(value) for value in first.values())
    second = sitting.push(moved(picture, 2, 1), moved(picture, 2, 1))
    assert second["tof"] == 0
    assert second["warp"] < 2, "interpolation of a moved picture leaves a little"
    assert np.isnan(second["static"]), "all of it moves"


def test_flicker_and_wobble_are_told_apart():
    picture, random = texture(), np.random.default_rng(1)
    steady = Temporal(("static", "warp"))
    steady.push(picture, picture)
    noisy = picture + random.normal(0, 5, picture.shape)
    found = steady.push(picture, noisy)
    assert found["static"] == pytest.approx(5, rel=0.05)
    assert found["warp"] == pytest.approx(5, rel=0.05)
    wobbling = Temporal(("tof",))
    wobbling.push(picture, picture)
    assert wobbling.push(picture, moved(picture, 1, 0))["tof"] == pytest.approx(1, abs=0.1)


def test_static_deviation_looks_only_where_the_original_stands_still():
    before = texture()
    now = before.copy()
    now[:, 72:] = texture(seed=5)[:, 72:]
    result = now.copy()
    result[:, 90:] += 50  # in the part that moves anyway
    assert flicker((before, before), (now, result)) == 0
    result[:, :60] += 4
    assert flicker((before, before), (now, result)) > 3


def test_a_cut_is_no_motion():
    sitting = Temporal(("tof", "warp"))
    sitting.push(texture(seed=1), texture(seed=1))
    random = np.random.default_rng(0)
    other = random.integers(0, 256, (120, 144)).astype(float)
    assert all(np.isnan(value) for value in sitting.push(other, other).values())


def test_warping_error_is_measured_only_where_something_is_seen():
    motion = np.zeros((40, 40, 2), np.float32)
    still = np.full((40, 40), 100.0)
    assert warping_error(still, still + 3, motion, motion) == pytest.approx(3)
    away = motion + 100
    assert np.isnan(warping_error(still, still, away, -away))
