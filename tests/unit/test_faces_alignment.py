"""Alignment: least squares, exact maps, what is warped comes back, no seams."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vsr.errors import UsageError
from vsr.faces.alignment import (
    FEATHER,
    TEMPLATE,
    apply,
    chained,
    crop,
    enlargement,
    inverse,
    mask,
    paste,
    region,
    sample,
    similarity,
    template,
)
from vsr.resample import resize


def turned(factor: float, angle: float, x: float, y: float) -> Tensor:
    c, s = factor * math.cos(angle), factor * math.sin(angle)
    return torch.tensor([[c, -s, x], [s, c, y]], dtype=torch.float64)


def umeyama(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Equations 38 to 42 of the paper, with the singular values."""
    a, b = p - p.mean(0), q - q.mean(0)
    u, d, vt = np.linalg.svd(b.T @ a / len(p))
    s = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    r = u @ s @ vt
    c = np.trace(np.diag(d) @ s) / (a**2).sum(1).mean()
    return np.concatenate([c * r, (q.mean(0) - c * r @ p.mean(0))[:, None]], 1)


@pytest.mark.parametrize("seed", range(20))
def test_similarity_is_umeyamas(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.normal(size=(2, 5, 2))
    q = q * [1, -1] if seed % 2 else q  # near mirrors too: none is ever taken
    found = similarity(torch.from_numpy(p), torch.from_numpy(q))
    np.testing.assert_allclose(found.numpy(), umeyama(p, q), atol=1e-9)
    assert torch.linalg.det(found[:, :2]) > 0


def test_known_place_of_a_face_is_recovered():
    places = [turned(0.37, 0.4, 103.3, 20.7), turned(2.5, -2.9, -5.01, 7.77)]
    points = torch.stack([apply(place, template(512)) for place in places])
    for found, place in zip(similarity(points, template(512)), places, strict=True):
        torch.testing.assert_close(found, inverse(place), rtol=0, atol=1e-6)
    np.testing.assert_allclose(template(512).numpy(), TEMPLATE)


@pytest.mark.parametrize("points", [torch.ones(5, 2), torch.full((5, 2), math.nan)])
def test_landmarks_that_say_nothing_are_refused(points):
    with pytest.raises(UsageError, match="not all in one place"):
        similarity(points, template(512))


def test_maps_compose_and_invert():
    a, b = turned(1.7, 0.3, 3, 4), turned(0.2, -1, -8, 2)
    points = torch.rand(7, 2).double()
    torch.testing.assert_close(apply(chained(a, b), points), apply(b, apply(a, points)))
    torch.testing.assert_close(apply(inverse(a), apply(a, points)), points)


def test_enlargement_is_that_of_the_resampling():
    """A ramp of x, resized, holds for each pixel where in the source it lies."""
    ramp = torch.arange(20).double().expand(1, 1, 6, 20)
    large = resize(ramp, 12, 50, "bilinear")[0, 0, 0]
    back = inverse(enlargement((20, 6), (50, 12)))
    places = apply(back, torch.stack([torch.arange(50), torch.zeros(50)], 1))[:, 0]
    inside = (places > 0) & (places < 19)
    torch.testing.assert_close(large[inside], places[inside])


def ramps(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x / width, y / height, (x + 2 * y) / 500])[None].double()


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_sampling_is_exact_below_a_pixel(kernel):
    x, place = ramps(60, 90), turned(0.83, 0.31, 21.37, 9.61)
    found = sample(x, place, 20, 40, kernel=kernel)
    y, column = torch.meshgrid(torch.arange(20), torch.arange(40), indexing="ij")
    at = apply(place, torch.stack([column, y], -1).reshape(-1, 2)).reshape(20, 40, 2)
    expected = [at[..., 0] / 90, at[..., 1] / 60, (at[..., 0] + 2 * at[..., 1]) / 500]
    torch.testing.assert_close(found[0], torch.stack(expected), rtol=0, atol=1e-6)


def test_whole_steps_keep_every_sample():
    x = torch.rand(1, 3, 30, 40).double()
    quarter = torch.tensor([[0, 1, 3], [-1, 0, 25]], dtype=torch.float64)
    found = sample(x, quarter, 20, 12)  # x' = y + 3, y' = 25 - x
    expected = x[:, :, 25 - 11 : 26, 3:23].rot90(1, (2, 3)).flip((2, 3))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def waves(height: int, width: int, period: float) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phases = [x + 0.3 * y, y - 0.4 * x, 0.6 * (x + y)]
    return torch.stack([0.5 + 0.4 * (2 * math.pi * p / period).sin() for p in phases])[None]


@pytest.mark.parametrize("factor", [0.45, 1.0, 2.2])
def test_warped_there_and_back_is_itself_inside(factor):
    x = waves(80, 80, 30)
    there = chained(turned(factor, 0.37, 0, 0), turned(1, 0, 30, 10))
    side = math.ceil(80 * factor * 1.5) + 60
    away = sample(x, inverse(there), side, side, kernel="bicubic")
    back = sample(away, there, 80, 80, kernel="bicubic")
    whole = slice(28, 52)
    assert (back - x)[:, :, whole, whole].abs().max() < 0.02
    assert (sample(x, turned(1, 0, 0, 0), 80, 80) - x).abs().max() < 1e-5


def test_what_gets_smaller_is_low_passed():
    """Stripes finer than the new pixels become grey instead of a false pattern."""
    x = (torch.arange(200) % 2).float().expand(1, 1, 200, 200)
    small = sample(x, turned(5.3, 0.2, 5, -10), 30, 30)
    assert (small[:, :, 8:-8, 8:-8] - 0.5).abs().max() < 0.03


def test_beyond_the_picture_is_grey_for_the_network():
    x = torch.ones(1, 3, 64, 64)
    face = crop(x, turned(1, 0, 20, 0), 64)
    assert face[0, :, 30, 5].tolist() == pytest.approx([132 / 255, 133 / 255, 135 / 255])
    torch.testing.assert_close(face[..., 18:], torch.ones(1, 3, 64, 46))
    assert face[..., :17].std((0, 2, 3)).max() < 1e-6
    beside = crop(x, turned(1, 0, 500, 0), 64)
    assert beside.std((0, 2, 3)).max() < 1e-6


def test_mask_is_one_inside_and_fades_without_a_jump():
    side = 100
    soft = mask(turned(1, 0, 0, 0), side, side, side, torch.device("cpu"))[0, 0]
    edge = math.ceil(FEATHER * side)
    assert torch.equal(soft[edge:-edge, edge:-edge], torch.ones(80, 80))
    assert soft[0].max() < 0.01
    assert soft.diff(dim=0).abs().max() <= 1.5 / (FEATHER * side) + 1e-6  # smoothstep's steepest
    assert soft.diff(dim=0).diff(dim=0).abs().max() <= 6 / (FEATHER * side) ** 2 + 1e-6
    torch.testing.assert_close(soft, soft.flip(0))
    torch.testing.assert_close(soft, soft.T)


def test_mask_is_zero_outside_the_region():
    place = turned(1.3, 0.7, 12.2, -40)
    top, bottom, left, right = region(place, 120, 150, 64) or (0, 0, 0, 0)
    soft = mask(place, 120, 150, 64, torch.device("cpu"))[0, 0]
    inside = torch.zeros(120, 150, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert soft[~inside].max() == 0
    assert soft.max() > 0
    assert region(turned(1, 0, 900, 0), 120, 150, 64) is None


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_a_pasted_face_is_there_and_nowhere_else(weight):
    x, face, place = torch.rand(1, 3, 90, 120), waves(64, 64, 25), turned(1.1, 0.5, 8, -45)
    before = x.clone()
    result = paste(x, face, place, weight)
    assert torch.equal(x, before)
    soft = mask(place, 90, 120, 64, x.device)[0, 0]
    outside, full = soft == 0, soft == 1
    assert torch.equal(result[..., outside], x[..., outside])
    expected = sample(face, place, 90, 120, kernel="bicubic").clamp(0, 1)
    torch.testing.assert_close(
        result[..., full], torch.lerp(x, expected, weight)[..., full], rtol=0, atol=1e-5
    )
    assert torch.equal(paste(x, face, place, 0.0), x)


def test_a_face_pasted_where_it_was_taken_changes_nothing_to_be_seen():
    x = waves(150, 150, 40)
    for factor in (0.7, 2.0):
        place = turned(factor, 0.2, -20 * factor, -30 * factor)
        again = paste(x, crop(x, place, 96), place)
        assert (again - x).abs().max() < 0.03
