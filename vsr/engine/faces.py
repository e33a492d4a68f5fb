"""Faces restored in finished frames, whichever network made them and whichever door they leave by.

A frame is finished here one at a time and in order, after it is known that it need not be computed
again: so faces can be followed, and a batch that is redone for want of memory or precision shows
nothing twice. The source is what faces are found in. What is restored is blended with the planes of
the result as they are: RGB is a linear map of luma and chroma, so blending commutes with it, and
all samples outside of faces keep their bits, chroma of a luma network included.

Faces are looked for in the picture as a player shows it: where a tag says that it must be turned,
it is turned for the detector and the restorer alone, and the faces are blended with the planes as
they are stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vsr.checkpoints import ensure, read_checkpoint
from vsr.checkpoints.cache import Remote
from vsr.engine.color import ChromaGrid, Picture, move_chroma, normalise, quantise, rgb_to_ycc
from vsr.engine.route import Route
from vsr.engine.staging import Layout, Planes
from vsr.engine.surfaces import host_planes
from vsr.faces.alignment import chained, enlargement, placed, quarter_turns, region
from vsr.faces.catalog import find_face_checkpoint
from vsr.faces.enhance import FaceEnhancer, Restored
from vsr.faces.gfpgan import GFPGANClean
from vsr.faces.options import FaceOptions
from vsr.faces.retinaface import DetectorOptions, RetinaFace, RetinaFaceDetector
from vsr.faces.tracking import Calm
from vsr.models.interpolation import Interpolation
from vsr.types import ColorSpec, Frame, PixelFormat, Plane

_DETECTOR = "detection_Resnet50_Final"
_FOLLOWED = 0.8
"""Confidence at which a face that was there before is still one; see `vsr.faces.tracking`."""
_LONGEST_STEP = Fraction(1)
"""Seconds after which a frame is taken not to follow the last one."""

type Area = tuple[int, int, int, int]
"""Top, bottom, left and right of a part of a picture, the ends excluded."""


@dataclass(frozen=True, slots=True)
class FaceModel:
    """The networks that restore faces, in memory, not yet on a device.

    Attributes:
        detector: In float32 on the CPU.
        restorer: Likewise.
        options: Which faces, and how strongly.
    """

    detector: RetinaFace
    restorer: GFPGANClean
    options: FaceOptions

    def on(
        self, device: torch.device, source: Picture, target: Picture, rotation: int = 0
    ) -> "FaceFinish":
        """Puts the networks on a device, for frames of one size and format.

        Args:
            device: Where.
            source: What comes in.
            target: What the upscaler gives.
            rotation: Degrees anticlockwise by which a player turns both, see `VideoInfo`.
        """
        detector = RetinaFaceDetector(self.detector.to(device), DetectorOptions(sure=_FOLLOWED))
        restorer = self.restorer.to(device)
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        side = restorer.config.side
        enhancer = FaceEnhancer(detector, restorer, side, self.options, calm=Calm())
        return FaceFinish(enhancer, device, source, target, rotation)


def find_faces(
    options: FaceOptions,
    *,
    offline: bool = False,
    confirm: Callable[[str], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FaceModel:
    """Loads the networks that restore faces.

    Args:
        options: Which, among others.
        offline: Never download.
        confirm: Asked before a file without a pinned digest is downloaded.
        progress: Told (bytes so far, bytes in all) of a download.

    Raises:
        ModelError: No such model, or a checkpoint cannot be used.
    """

    def fetched(entry: Remote) -> Path:
        return ensure(entry, offline=offline, confirm=confirm, progress=progress)

    path = options.path
    if path is None:
        path = fetched(find_face_checkpoint(options.model, "restorer"))
    restorer = GFPGANClean.from_state(read_checkpoint(path).state)
    found = fetched(find_face_checkpoint(_DETECTOR, "detector"))
    detector = RetinaFace.from_state(read_checkpoint(found).state)
    return FaceModel(
        detector.requires_grad_(requires_grad=False),
        restorer.requires_grad_(requires_grad=False),
        options,
    )


def finish_for(
    faces: FaceModel | None,
    device: torch.device,
    source: Picture,
    target: Picture,
    rotation: int = 0,
) -> "FaceFinish | None":
    """As `FaceModel.on`, where faces shall be restored."""
    return None if faces is None else faces.on(device, source, target, rotation)


class FaceFinish:
    """Restores the faces of upscaled frames; a `vsr.engine.stream.Finish`.

    Args:
        enhancer: With its networks on the device.
        device: Where.
        source: Every frame's size and format; a frame's own colour tags go before the colour here.
        target: What the upscaler gives.
        rotation: Degrees anticlockwise by which a player turns both: 0, 90, 180 or 270.
    """

    def __init__(
        self,
        enhancer: FaceEnhancer,
        device: torch.device,
        source: Picture,
        target: Picture,
        rotation: int = 0,
    ) -> None:
        self._enhancer, self._device = enhancer, device
        self._turns = rotation // 90 % 4
        self._upright = quarter_turns(self._turns, source.width, source.height)
        self._source, self._target = source, target
        self._routes: dict[ColorSpec, Route] = {}
        self._layout = Layout(source, 1)
        self._buffer = torch.empty(self._layout.bytes, dtype=torch.uint8)
        self._last: Fraction | None = None

    def restart(self) -> None:
        """Forgets the frames so far."""
        self._last = None

    def __call__(self, frame: Frame, planes: Planes) -> Planes:
        """Restores the faces of the next frame.

        Args:
            frame: Of the source.
            planes: What the upscaler made of it; they stay as they are.

        Returns:
            The same planes where there is no face, else copies that differ where there is one.

        Raises:
            NonFiniteError: A network gives NaN or infinity.
            OutOfMemoryError: Even one face does not fit.
        """
        if self._enhancer.options.weight <= 0:
            return planes
        if self._last is None or not 0 < frame.seconds - self._last <= _LONGEST_STEP:
            self._enhancer.reset()
        self._last = frame.seconds
        with torch.inference_mode():
            picture = self._as_rgb(frame).rot90(self._turns, (2, 3))
            faces = self._enhancer.find(picture)
            if not len(faces):
                return planes
            result = tuple(plane.copy() for plane in planes)
            for restored in self._enhancer.restored(picture, faces):
                self._blend(result, restored)
        return result

    def _as_rgb(self, frame: Frame) -> Tensor:
        """The source as (1, 3, h, w) in [0, 1] on the device."""
        views = self._layout.views(self._buffer, 1)
        for view, plane in zip(views, host_planes(frame), strict=True):
            np.copyto(view.numpy()[0], plane)
        route = self._route(frame.color)
        (green, blue, red), _ = route(tuple(view.to(self._device) for view in views))
        return torch.stack([red, green, blue], 1)

    def _route(self, color: ColorSpec) -> Route:
        if color not in self._routes:
            source = self._source
            resolved = color.resolved(source.width, source.height, source.format.family)
            source = replace(source, color=resolved)
            rgb = PixelFormat(family="rgb", bits=32, floating=True)
            seen = replace(source, format=rgb, color=ColorSpec(matrix=0, full_range=True))
            self._routes[color] = Route(Interpolation("bicubic", 1), source, seen)
        return self._routes[color]

    def _blend(self, planes: Planes, restored: Restored) -> None:
        """Blends a face with the planes, in place."""
        target = self._target
        sizes = [(end.width, end.height) for end in (target, self._source)]
        matrix = chained(enlargement(*sizes), chained(self._upright, restored.matrix))
        area = region(matrix, target.height, target.width, self._enhancer.side)
        if area is None:
            return
        area = _on_chroma_grid(area, target)
        top, bottom, left, right = area
        part = replace(
            target,
            width=right - left,
            height=bottom - top,
            format=replace(target.format, alpha=False),
        )
        face, mask = placed(restored.face, matrix, area)
        cuts = [_cut(plane, k, area, target) for k, plane in enumerate(planes)]
        cuts = cuts[: part.format.plane_count]
        old = tuple(torch.from_numpy(cut.copy())[None].to(self._device) for cut in cuts)
        new, masks = _mixed(old, face, mask * self._enhancer.options.weight, part)
        for cut, before, after, soft in zip(cuts, old, new, masks, strict=True):
            np.copyto(cut, torch.where(soft > 0, after, before)[0].cpu().numpy())


def _mixed(
    planes: tuple[Tensor, ...], face: Tensor, mask: Tensor, part: Picture
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Planes with a face, and what its share in each plane is, (1, h, w)."""
    first, chroma, _ = normalise(planes, part)
    if part.format.family == "rgb":
        mixed = torch.lerp(first, face, mask)
        return quantise(mixed, None, None, part), [mask[:, 0]] * 3
    ycc = rgb_to_ycc(face, part.color.matrix)
    first = torch.lerp(first, ycc[:, :1], mask)
    if chroma is None:
        return quantise(first, None, None, part), [mask[:, 0]]
    grid = ChromaGrid.of(part)
    colour = move_chroma(ycc[:, 1:], grid.full(), grid, "bicubic")
    soft = move_chroma(mask, grid.full(), grid, "bilinear").clamp(0, 1)
    chroma = torch.lerp(chroma, colour, soft)
    return quantise(first, chroma, None, part), [mask[:, 0], soft[:, 0], soft[:, 0]]


def _on_chroma_grid(area: Area, picture: Picture) -> Area:
    """An area widened to whole chroma samples."""
    top, bottom, left, right = area
    down, across = 1 << picture.format.chroma_h, 1 << picture.format.chroma_w
    return (
        top - top % down,
        min(bottom + -bottom % down, picture.height),
        left - left % across,
        min(right + -right % across, picture.width),
    )


def _cut(plane: Plane, index: int, area: Area, picture: Picture) -> Plane:
    """The view of a plane that an area is."""
    top, bottom, left, right = area
    is_chroma = picture.format.family == "yuv" and index in {1, 2}
    down, across = (picture.format.chroma_h, picture.format.chroma_w) if is_chroma else (0, 0)
    return plane[top >> down : -(-bottom >> down), left >> across : -(-right >> across)]
