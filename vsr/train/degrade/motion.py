"""Short clips out of stills: a camera that pans, zooms and turns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Constant motion of a camera.

    Attributes:
        right: Pixels that the content moves right in a frame.
        down: Pixels that it moves down.
        zoom: Natural logarithm of its growth in a frame.
        turn: Radians that it turns anticlockwise in a frame.
    """

    right: float = 0.0
    down: float = 0.0
    zoom: float = 0.0
    turn: float = 0.0


def moved(x: Tensor, motion: Motion, moments: Sequence[float]) -> Tensor:
    """Makes the pictures of a still at some moments.

    Args:
        x: (C, H, W) in [0, 1].
        motion: Of the content.
        moments: In frames; at 0 the picture is `x` itself, to the bit.

    Returns:
        (moments, C, H, W) in [0, 1]; what comes in from beyond the edges is mirrored.
    """
    pictures = [
        x if moment == 0 or motion == Motion() else _at(x, motion, moment) for moment in moments
    ]
    return torch.stack(pictures)


def _at(x: Tensor, motion: Motion, moment: float) -> Tensor:
    height, width = x.shape[-2:]
    rows = torch.arange(height, dtype=x.dtype) - (height - 1) / 2 - motion.down * moment
    columns = torch.arange(width, dtype=x.dtype) - (width - 1) / 2 - motion.right * moment
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    shrink, angle = math.exp(-motion.zoom * moment), motion.turn * moment
    cosine, sine = shrink * math.cos(angle), shrink * math.sin(angle)
    across, down = cosine * u - sine * v, sine * u + cosine * v
    grid = torch.stack([across * 2 / width, down * 2 / height], -1)[None]
    picture = functional.grid_sample(
        x[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return picture[0].clamp(0, 1)
