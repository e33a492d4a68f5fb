"""Naturalness of a picture without its original: NIQE.

Mittal, Soundararajan, Bovik 2013 ("Making a 'completely blind' image quality analyzer"). Luma is
normalised by its local mean and deviation (eq. 1); in blocks of 96×96, at full and at half size,
asymmetric generalised Gaussians are fitted to the coefficients and to products of neighbours
(eq. 4 to 8), which gives 36 features; the score is the distance between the multivariate Gaussian
of these features and that of natural pictures (eq. 10). Lower is more natural.

The natural pictures' Gaussian that comes with the package is fitted by us (`niqe_fit.md`); the
published one, an `.npz` with `mu_pris_param` and `cov_pris_param`, can be given by path. Scores of
different fits do not compare.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsr.errors import CheckpointError, UsageError
from vsr.judging.filtering import Plane, gaussian, separable

_BLOCK: Final = 96
_WINDOW: Final = gaussian(3, 7 / 6)
_NEIGHBOURS: Final = ((0, 1), (1, 0), (1, 1), (1, -1))
_FEATURES: Final = 36
_SHARP: Final = 0.75
"""Blocks of natural pictures count if they are this sharp beside the picture's sharpest."""
_LARGEST_FILE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Natural:
    """The features of natural pictures as a multivariate Gaussian.

    Attributes:
        mean: Shape (36,).
        covariance: Shape (36, 36).
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@cache
def natural(path: Path | None = None) -> Natural:
    """Reads a fit.

    Args:
        path: An `.npz` in the published layout; ours if None.

    Raises:
        CheckpointError: The file is missing or holds something else.
    """
    path = path or Path(__file__).with_name("niqe_fit.npz")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            msg = f"{path} is too large to be a fit of NIQE: give an .npz of 36 features"
            raise CheckpointError(msg)
        with np.load(path, allow_pickle=False) as file:
            mean = np.asarray(file["mu_pris_param"], np.float64).reshape(-1)
            covariance = np.asarray(file["cov_pris_param"], np.float64)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{path} is no fit of NIQE: an .npz with mu_pris_param and cov_pris_param is expected"
        raise CheckpointError(msg) from error
    if mean.shape != (_FEATURES,) or covariance.shape != (_FEATURES, _FEATURES):
        msg = f"{path} has {mean.size} features, NIQE has {_FEATURES}: give another fit"
        raise CheckpointError(msg)
    return Natural(mean, covariance)


def niqe(luma: Plane, model: Natural) -> float:
    """Scores a picture.

    Args:
        luma: Shape (H, W), 0 to 255, of at least two blocks of 96×96.
        model: What natural pictures look like.

    Returns:
        The distance from them, 0 or more; good photographs lie between 2 and 5.

    Raises:
        UsageError: The picture is too small.
    """
    found, _ = features(luma)
    found = found[np.isfinite(found).all(1)]
    if len(found) < 2:
        return float("nan")  # flat blocks have no statistics
    difference = model.mean - found.mean(0)
    shared = (model.covariance + np.cov(found, rowvar=False)) / 2
    square = float(difference @ np.linalg.pinv(shared) @ difference)
    return math.sqrt(max(0.0, square))


def fit(pictures: Iterable[Plane]) -> Natural:
    """Fits the natural Gaussian to the sharp blocks of pictures, as section 3.2 of the paper does.

    Args:
        pictures: Luma of shape (H, W), 0 to 255.

    Raises:
        UsageError: There are too few blocks for 36 features.
    """
    chosen = []
    for luma in pictures:
        found, sharpness = features(luma)
        keep = np.isfinite(found).all(1) & (sharpness > _SHARP * sharpness.max())
        chosen.append(found[keep])
    blocks = np.concatenate(chosen) if chosen else np.empty((0, _FEATURES))
    if len(blocks) <= 2 * _FEATURES:
        msg = f"{len(blocks)} sharp blocks are too few to fit NIQE: give more pictures"
        raise UsageError(msg)
    return Natural(blocks.mean(0), np.cov(blocks, rowvar=False))


def features(luma: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The features of a picture's blocks, and how sharp each block is.

    Returns:
        Shapes (blocks, 36) and (blocks,); NaN in the features of flat blocks.

    Raises:
        UsageError: There are not two whole blocks.
    """
    rows, columns = (side // _BLOCK for side in luma.shape)
    if rows * columns < 2:
        msg = (
            f"NIQE needs at least {_BLOCK}x{2 * _BLOCK} pixels, got "
            f"{luma.shape[1]}x{luma.shape[0]}: leave niqe out of --metrics"
        )
        raise UsageError(msg)
    picture = luma[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    parts, sharpness = [], np.empty(0)
    for side in (_BLOCK, _BLOCK // 2):
        normal, deviation = _normalised(picture)
        if side == _BLOCK:
            sharpness = _blocks(deviation, side).mean((1, 2))
            picture = _halved(picture)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(_described(_blocks(normal, side)))
    return np.concatenate(parts, axis=1), sharpness


def _halved(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """MATLAB's antialiased bicubic, as the authors' code uses."""
    import torch  # noqa: PLC0415 - keeps a list of measures light

    from vsr.resample import resize  # noqa: PLC0415

    height, width = picture.shape
    half: NDArray[np.float64] = resize(
        torch.from_numpy(picture), height // 2, width // 2, "bicubic"
    ).numpy()
    return half


def _normalised(
    picture: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = separable(picture, _WINDOW, _WINDOW)
    square = separable(picture * picture, _WINDOW, _WINDOW)
    deviation = np.sqrt(np.abs(square - mean * mean))
    return (picture - mean) / (deviation + 1), deviation


def _blocks(plane: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    rows, columns = (length // side for length in plane.shape)
    cut = plane.reshape(rows, side, columns, side).swapaxes(1, 2)
    return np.asarray(cut.reshape(-1, side, side), np.float64)


def _described(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 18 features of one scale: shape and spread, and four of each neighbour's product."""
    shape, left, right = _fitted(blocks)
    columns = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        product = blocks * np.roll(blocks, shift, axis=(1, 2))
        shape, left, right = _fitted(product)
        columns += [shape, (right - left) * _ratio(shape), left, right]
    return np.stack(columns, axis=1)


def _fitted(blocks: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Asymmetric generalised Gaussians by moments (Lasmar et al. 2009): shape, left, right."""
    flat = blocks.reshape(len(blocks), -1)
    square = flat * flat
    left = np.sqrt(_mean(square, flat < 0))
    right = np.sqrt(_mean(square, flat > 0))
    skew = left / right
    rough = np.abs(flat).mean(1) ** 2 / square.mean(1)
    wanted = rough * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, ratios, spreads, _ = _table()
    # The ratio rises with the shape, so the nearest entry is one of two neighbours.
    place = np.searchsorted(ratios, wanted).clip(1, len(ratios) - 1)
    place -= wanted - ratios[place - 1] < ratios[place] - wanted
    bad = ~np.isfinite(wanted)
    shape = np.where(bad, np.nan, shapes[place])
    return shape, left * spreads[place], right * spreads[place]


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray((values * where).sum(1) / where.sum(1))


def _ratio(shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """Γ(2/α) / Γ(1/α)."""
    shapes, _, _, means = _table()
    return np.asarray(np.interp(shape, shapes, means))


@cache
def _table() -> tuple[NDArray[np.float64], ...]:
    """Shapes α from 0.2 to 10 and, of each, the moments' ratio and what spread and mean need."""
    shapes = np.arange(0.2, 10.0005, 0.001)
    one, two, three = (
        np.array([math.lgamma(order / alpha) for alpha in shapes]) for order in (1, 2, 3)
    )
    ratio = np.exp(2 * two - one - three)
    return shapes, ratio, np.exp((one - three) / 2), np.exp(two - one)
