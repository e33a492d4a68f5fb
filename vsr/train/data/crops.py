"""Cuts, turns and flips."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vsr.resample import resize

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a picture, and where in it the crop lies that is wanted.

    Attributes:
        picture: (C, H, W).
        top: First row of the crop.
        left: First column.
        side: Rows and columns of the crop.
    """

    picture: Tensor
    top: int
    left: int
    side: int

    def out_of(self, picture: Tensor, scale: int = 1) -> Tensor:
        """The crop out of `picture`, or out of one of the same place, `scale` times smaller."""
        top, left, side = (n // scale for n in (self.top, self.left, self.side))
        return picture[..., top : top + side, left : left + side]

    def turned(self, turns: int, flip: bool) -> "Window":
        """Turns by so many right angles, anticlockwise, and then flips left to right."""
        (height, width), top, left = self.picture.shape[-2:], self.top, self.left
        for _ in range(turns):
            top, left = width - left - self.side, top
            height, width = width, height
        if flip:
            left = width - left - self.side
        return Window(turned(self.picture, turns, flip), top, left, self.side)


def turned(x: Tensor, turns: int, flip: bool) -> Tensor:
    """Turns (…, H, W) by so many right angles, anticlockwise, and then flips left to right."""
    x = torch.rot90(x, turns, (-2, -1))
    return (x.flip(-1) if flip else x).contiguous()


def drawn_window(
    picture: Tensor, side: int, scale: int, margin: int, factor: float, random: np.random.Generator
) -> Window:
    """Draws a crop with what lies around it.

    The crop begins at a multiple of the scale, counted from the corner of the picture, so that the
    low resolution's pixels are those of the reduced picture as a whole.

    Args:
        picture: uint8 (C, H, W).
        side: Of the crop, a multiple of the scale.
        scale: High-resolution pixels per low-resolution pixel.
        margin: Low-resolution pixels around it, where the picture has them.
        factor: By which the picture is reduced before.
        random: Where the place is drawn from.

    Returns:
        Float picture in [0, 1], sides multiples of the scale.
    """
    cells = [int(extent / factor) // scale for extent in picture.shape[-2:]]
    places = [int(random.integers(count - side // scale + 1)) for count in cells]
    first = [max(0, place - margin) * scale for place in places]
    last = [
        min(count, place + side // scale + margin) * scale
        for count, place in zip(cells, places, strict=True)
    ]
    top, left = (place * scale - start for place, start in zip(places, first, strict=True))
    window = _reduced_piece(picture, first, last, factor)
    return Window(window, top, left, side)


def _reduced_piece(picture: Tensor, first: list[int], last: list[int], factor: float) -> Tensor:
    if factor == 1:
        return picture[:, first[0] : last[0], first[1] : last[1]].float() / 255
    rows, columns = (
        slice(int(start * factor), int(stop * factor))
        for start, stop in zip(first, last, strict=True)
    )
    piece = picture[:, rows, columns].float()
    height, width = (stop - start for start, stop in zip(first, last, strict=True))
    return resize(piece, height, width, "bicubic").round().clamp(0, 255) / 255


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma in full range, (1, H, W), of (3, H, W)."""
    return torch.einsum("chw,c->hw", rgb, rgb.new_tensor(_LUMA))[None]
