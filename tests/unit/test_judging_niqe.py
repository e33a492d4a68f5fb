"""NIQE: against the published parameters, and with our own fit."""

import numpy as np
import pytest

from vsr.errors import CheckpointError, UsageError
from vsr.judging.niqe import _fitted, features, fit, natural, niqe
from vsr.judging.viewing import read_view
from vsr.metrics import luma


@pytest.mark.shared
def test_baboon_scores_as_elsewhere(shared):
    """MMEditing's tests with the published parameters: 5.72957 on Y, 5.62525 on the B channel."""
    model = natural(shared / "data/weights/niqe_pris_params.npz")
    rgb = read_view(shared / "data/images/set14/HR/baboon.png").rgb
    assert niqe(np.rint(luma(rgb)), model) == pytest.approx(5.72957, abs=1e-4)
    assert niqe(rgb[..., 2], model) == pytest.approx(5.62525, abs=1e-4)


@pytest.mark.shared
def test_our_fit_prefers_the_picture_to_its_spoilt_copies(shared):
    picture = np.rint(luma(read_view(shared / "data/images/set14/HR/face.png").rgb))
    noisy = (picture + np.random.default_rng(0).normal(0, 25, picture.shape)).clip(0, 255)
    coarse = picture[::4, ::4].repeat(4, 0).repeat(4, 1)
    model = natural()
    score = niqe(picture, model)
    assert 2 < score < 7
    assert score < niqe(noisy, model)
    assert score < niqe(coarse, model)


def gaussian_noise(blocks=2, seed=0):
    random = np.random.default_rng(seed)
    return 128 + 40 * random.normal(0, 1, (96, 96 * blocks))


def test_features_of_white_noise():
    found, sharpness = features(gaussian_noise(3))
    assert found.shape == (3, 36)
    assert sharpness.shape == (3,)
    assert np.isfinite(found).all()
    # Divided by the deviation that it makes itself, noise loses its tails; neighbours are products
    # of independent values, which have no mean but that of the window's.
    assert ((found[:, 0] > 2.5) & (found[:, 0] < 4)).all()
    assert np.abs(found[:, 3]).max() < 0.2


@pytest.mark.parametrize(("name", "shape"), [("normal", 2.0), ("laplace", 1.0)])
def test_moments_give_the_shape_and_sides_of_a_distribution(name, shape):
    drawn = getattr(np.random.default_rng(0), name)(0, 1, (4, 200, 200))
    drawn[drawn > 0] *= 1.5
    found, left, right = _fitted(drawn)
    assert found == pytest.approx(np.full(4, shape), rel=0.1)
    assert right / left == pytest.approx(np.full(4, 1.5), rel=0.05)


def test_flat_blocks_have_no_features():
    picture = gaussian_noise(3)
    picture[:, :96] = 70
    found, _ = features(picture)
    assert not np.isfinite(found[0]).all()
    assert np.isfinite(found[2]).all()
    assert np.isnan(niqe(np.full((96, 288), 70.0), natural()))


def test_a_fit_is_at_home_with_what_it_was_fitted_to(tmp_path):
    model = fit(gaussian_noise(25, seed) for seed in range(4))
    ours = niqe(gaussian_noise(25, 9), model)
    assert ours < 2
    ramp = np.linspace(0, 255, 96 * 25) + gaussian_noise(25, 3) / 20
    assert niqe(ramp, model) > 3 * ours
    path = tmp_path / "fit.npz"
    np.savez(path, mu_pris_param=model.mean[None], cov_pris_param=model.covariance)
    assert np.array_equal(natural(path).covariance, model.covariance)


def test_refuses_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="at least 96x192 pixels, got 191x100"):
        features(np.zeros((100, 191)))
    with pytest.raises(UsageError, match="too few to fit"):
        fit([gaussian_noise()])
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="no fit of NIQE"):
        natural(bad)
    np.savez(bad, mu_pris_param=np.zeros(5), cov_pris_param=np.zeros((5, 5)))
    with pytest.raises(CheckpointError, match="5 features"):
        natural(bad)
