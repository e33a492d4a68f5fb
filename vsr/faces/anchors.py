"""The geometry of an anchor-based face detector: priors, decoding, suppression of duplicates.

Liu et al., "SSD: Single Shot MultiBox Detector", 2016, arXiv:1512.02325, sections 2.1 and 2.2, with
the sizes and variances of RetinaFace (Deng et al., 2019, arXiv:1905.00641) as facexlib has them.
"""

import math
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

STEPS: Final = (8, 16, 32)
"""Pixels from one cell to the next, for each of the three levels."""
SIDES: Final = ((16, 32), (64, 128), (256, 512))
"""Sides in pixels of the square priors in each cell of a level."""
_CENTRE, _SIZE = 0.1, 0.2
"""The variances that the network's numbers are to be multiplied with."""


@lru_cache(maxsize=8)
def priors(height: int, width: int) -> Tensor:
    """The boxes that the network corrects, level by level, row by row, small before large.

    Args:
        height: Of the picture in pixels.
        width: Likewise.

    Returns:
        Centre x, centre y, width and height as parts of the picture's: (P, 4), float32 on the CPU.
        Equal sizes give the same tensor: do not write to it.
    """
    levels = []
    with torch.inference_mode(mode=False):
        for step, sides in zip(STEPS, SIDES, strict=True):
            rows, columns = math.ceil(height / step), math.ceil(width / step)
            y = (torch.arange(rows, dtype=torch.float64) + 0.5) * step / height
            x = (torch.arange(columns, dtype=torch.float64) + 0.5) * step / width
            level = torch.empty(rows, columns, len(sides), 4, dtype=torch.float64)
            level[..., 0], level[..., 1] = x[None, :, None], y[:, None, None]
            side = torch.tensor(sides, dtype=torch.float64)
            level[..., 2], level[..., 3] = side / width, side / height
            levels.append(level.reshape(-1, 4))
        return torch.cat(levels).float()


def decode_boxes(numbers: Tensor, prior: Tensor) -> Tensor:
    """Corrects priors by what the network says: the inverse of SSD's equation 2.

    Args:
        numbers: (…, 4).
        prior: (…, 4), as `priors` gives them.

    Returns:
        Left, top, right, bottom as parts of the picture: (…, 4).
    """
    centre = prior[..., :2] + numbers[..., :2] * _CENTRE * prior[..., 2:]
    half = prior[..., 2:] * (numbers[..., 2:] * _SIZE).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def decode_landmarks(numbers: Tensor, prior: Tensor) -> Tensor:
    """Places landmarks relative to their prior.

    Args:
        numbers: (…, 10): x and y of each landmark in turn.
        prior: (…, 4), as `priors` gives them.

    Returns:
        (x, y) as parts of the picture: (…, 5, 2).
    """
    points = numbers.reshape(*numbers.shape[:-1], numbers.shape[-1] // 2, 2) * _CENTRE
    return prior[..., None, :2] + points * prior[..., None, 2:]


def overlaps(one: Tensor, other: Tensor, *, pixel: float = 0.0) -> Tensor:
    """Intersection over union of every box with every other.

    Args:
        one: Left, top, right, bottom: (A, 4).
        other: Likewise: (B, 4).
        pixel: What is added to each side; 1 where right and bottom name the last pixel.

    Returns:
        From 0 to 1: (A, B); 0 where both boxes are empty.
    """
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    common = (high - low + pixel).clamp_min(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2] + pixel).clamp_min(0).prod(-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return torch.where(union > 0, common / union.clamp_min(1e-12), torch.zeros_like(union))


def suppress(boxes: Tensor, scores: Tensor, most: float) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes: Left, top, right, bottom in pixels, the last pixels included: (K, 4) on the CPU.
        scores: (K,) on the CPU; of equal ones the first wins.
        most: Largest overlap with a surer box that a box may have.

    Returns:
        Indices of the boxes that stay, the surest first.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    clash = overlaps(boxes[order], boxes[order], pixel=1.0) > most
    kept: list[int] = []
    dropped = torch.zeros(len(order), dtype=torch.bool)
    for rank in range(len(order)):
        if not dropped[rank]:
            kept.append(int(order[rank]))
            dropped |= clash[rank]
    return kept
