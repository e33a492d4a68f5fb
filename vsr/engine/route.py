"""How a picture goes through an upscaler: as RGB, as luma with chroma beside it, or plane by plane.

A luma network leaves chroma in its own grid: it is resampled once, straight to the output's grid,
and the matrix is never applied; so a YUV source stays bit-true in colour. RGB networks get
full-size RGB, clamped to [0, 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vsr.engine.base import PlaneMap, Routed, Upscaler
from vsr.engine.color import (
    ChromaGrid,
    Picture,
    move_chroma,
    normalise,
    quantise,
    rgb_to_ycc,
    ycc_to_rgb,
)
from vsr.resample import Kernel, resize

_FALLBACK_MATRIX = 1


@dataclass(frozen=True, slots=True)
class Content:
    """A normalised picture between the ends.

    Attributes:
        y: Luma, (N, 1, H, W).
        chroma: (N, 2, h, w) on `grid`, None for gray.
        grid: Where the chroma samples lie.
        matrix: H.273 code of luma and chroma.
    """

    y: Tensor
    chroma: Tensor | None
    grid: ChromaGrid
    matrix: int


def route_for(
    upscaler: Upscaler, source: Picture, target: Picture, kernel: Kernel = "bicubic"
) -> PlaneMap:
    """The shortest way between planes that an upscaler knows; see `Route` for the arguments."""
    own = upscaler.route(source, target, kernel) if isinstance(upscaler, Routed) else None
    return own or Route(upscaler, source, target, kernel)


class Route:
    """Maps the planes of a batch to the planes of the upscaled batch.

    Args:
        upscaler: Network or interpolation; its `channels` choose the way.
        source: What comes in.
        target: What goes out; any size, the network's result is resampled to it.
        kernel: For chroma, alpha, and from the network's size to the target's.
    """

    def __init__(
        self, upscaler: Upscaler, source: Picture, target: Picture, kernel: Kernel = "bicubic"
    ) -> None:
        self.upscaler, self.source, self.target, self.kernel = upscaler, source, target, kernel

    def __call__(self, planes: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Upscales a batch.

        Args:
            planes: Of the source's sample type, shape (N, h, w) each, on the upscaler's device.

        Returns:
            The output's planes, and a scalar tensor that is finite if and only if every sample was.
        """
        first, chroma, alpha = normalise(planes, self.source)
        if self.upscaler.spec.channels == 3:
            content, health = self._through_rgb(first, chroma)
        else:
            content, health = self._beside_chroma(first, chroma)
        if alpha is not None:
            alpha = self._fit(alpha) if self.target.format.alpha else None
        return self._finish(content, alpha), health

    def _through_rgb(self, first: Tensor, chroma: Tensor | None) -> tuple[Content | Tensor, Tensor]:
        rgb = self.upscaler(self._as_rgb(first, chroma).clamp_(0, 1))
        health = rgb.sum(dtype=torch.float32)  # before clamping hides infinity
        return self._fit(rgb).clamp_(0, 1), health

    def _as_rgb(self, first: Tensor, chroma: Tensor | None) -> Tensor:
        if self.source.format.family == "rgb":
            return first
        if chroma is None:
            return first.expand(-1, 3, -1, -1).clone()
        grid = ChromaGrid.of(self.source)
        full = move_chroma(chroma, grid, grid.full(), self.kernel)
        return ycc_to_rgb(torch.cat([first, full], 1), self.source.color.matrix)

    def _beside_chroma(
        self, first: Tensor, chroma: Tensor | None
    ) -> tuple[Content | Tensor, Tensor]:
        grid, matrix = ChromaGrid.of(self.source), self.source.color.matrix
        planewise = self.upscaler.spec.channels is None
        if self.source.format.family == "rgb":
            if planewise:
                return self._fit(first).clamp_(0, 1), first.sum()
            ycc = rgb_to_ycc(first, _FALLBACK_MATRIX)
            first, chroma, matrix = ycc[:, :1], ycc[:, 1:], _FALLBACK_MATRIX
        y = first if planewise else self.upscaler(first)
        health = y.sum(dtype=torch.float32)
        return Content(self._fit(y), chroma, grid, matrix), health

    def _fit(self, x: Tensor) -> Tensor:
        return resize(x, self.target.height, self.target.width, self.kernel)

    def _finish(self, content: Content | Tensor, alpha: Tensor | None) -> tuple[Tensor, ...]:
        target = self.target
        if target.format.family == "rgb":
            rgb = content if isinstance(content, Tensor) else self._content_as_rgb(content)
            return quantise(rgb, None, alpha, target)
        grid = ChromaGrid.of(target)
        if isinstance(content, Content) and content.chroma is None:
            return quantise(content.y, None, alpha, target)
        if isinstance(content, Content) and content.matrix == target.color.matrix:
            chroma = content.chroma
            if target.format.family == "yuv" and chroma is not None:
                chroma = move_chroma(chroma, content.grid, grid, self.kernel)
            return quantise(content.y, chroma, alpha, target)
        rgb = content if isinstance(content, Tensor) else self._content_as_rgb(content)
        ycc = rgb_to_ycc(rgb, target.color.matrix)
        chroma = None
        if target.format.family == "yuv":
            chroma = move_chroma(ycc[:, 1:], grid.full(), grid, self.kernel)
        return quantise(ycc[:, :1], chroma, alpha, target)

    def _content_as_rgb(self, content: Content) -> Tensor:
        if content.chroma is None:
            return content.y.expand(-1, 3, -1, -1)
        full = ChromaGrid.of(self.target).full()
        chroma = move_chroma(content.chroma, content.grid, full, self.kernel)
        return ycc_to_rgb(torch.cat([content.y, chroma], 1), content.matrix)
