"""Restores the faces of pictures: detect in the source, restore each, paste into the large one.

The way of GFPGAN's `GFPGANer` (arXiv:2101.04061): faces are found and taken from the source, not
from the upscaled picture, whose network has already invented something. What is between the faces
keeps its bits, and so does a picture without a face.

Deviations: a face ends in a soft square (`vsr.faces.alignment`), where the authors' program also
asks a second network which pixels are skin; landmarks are calm in a video (`vsr.faces.tracking`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vsr.errors import NonFiniteError, OutOfMemoryError
from vsr.faces.alignment import chained, crop, enlargement, paste, similarity, template
from vsr.faces.base import Detector, Faces
from vsr.faces.options import FaceOptions
from vsr.faces.tracking import Calm

_CLOSEST_EYES = 5
"""Pixels between the eyes below which GFPGAN's authors skip a face: from the side, or too small."""

type Restorer = Callable[[Tensor], Tensor]
"""Maps upright faces (N, 3, S, S) in [-1, 1] to the same, restored; `GFPGANClean` is one."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A face that has been restored.

    Attributes:
        face: (1, 3, S, S) in [0, 1].
        matrix: From the source's pixels to the square's: (2, 3), float64.
    """

    face: Tensor
    matrix: Tensor


class FaceEnhancer:
    """Restores the faces of upscaled frames.

    Args:
        detector: Finds faces.
        restorer: The network.
        side: Height and width of the squares that it restores.
        options: Which faces, and how strongly; the defaults if None.
        calm: Follows faces through a video; None if the pictures have nothing to do with each
            other.
        batch: Most faces that go through the network together; it is halved if they do not fit.
    """

    def __init__(
        self,
        detector: Detector,
        restorer: Restorer,
        side: int = 512,
        options: FaceOptions | None = None,
        *,
        calm: Calm | None = None,
        batch: int = 4,
    ) -> None:
        self.options, self.side, self.batch = options or FaceOptions(), side, max(1, batch)
        self._detector, self._restorer, self._calm = detector, restorer, calm
        self._template = template(side)

    def reset(self) -> None:
        """Tells that the next frame does not follow the last one."""
        if self._calm is not None:
            self._calm.reset()

    def __call__(self, source: Tensor, upscaled: Tensor) -> Tensor:
        """Restores the faces of frames in order.

        Args:
            source: RGB (N, 3, h, w) in [0, 1], on the networks' device.
            upscaled: The same frames in any size, (N, 3, H, W) in [0, 1], on the same device.

        Returns:
            Like `upscaled`, which stays; outside of faces, its bits.

        Raises:
            NonFiniteError: A network gives NaN or infinity.
            OutOfMemoryError: Even one face does not fit.
        """
        if self.options.weight <= 0:
            return upscaled
        results = []
        for n in range(len(upscaled)):
            picture, large = source[n : n + 1], upscaled[n : n + 1]
            result = large
            sizes = [(x.shape[3], x.shape[2]) for x in (large, picture)]
            for one in self.restored(picture, self.find(picture)):
                matrix = chained(enlargement(*sizes), one.matrix)
                result = paste(result, one.face, matrix, self.options.weight)
            results.append(result)
        return torch.cat(results)

    @torch.inference_mode()
    def find(self, x: Tensor) -> Faces:
        """Finds the faces of the next frame that shall be restored, the largest last.

        Args:
            x: RGB (1, 3, h, w) in [0, 1].
        """
        faces = self._detector(x)[0]
        faces = faces.pick([k for k in range(len(faces)) if self._is_large(faces, k)])
        if self._calm is not None:
            faces = self._calm(x, faces)
        sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).clamp_min(0)
        order = sides.prod(1).argsort(stable=True).tolist()
        if self.options.which == "centre" and order:
            middle = torch.tensor([x.shape[3] - 1, x.shape[2] - 1], dtype=torch.float64) / 2
            away = (faces.boxes[:, 2:] + faces.boxes[:, :2]) / 2 - middle
            order = [int(away.square().sum(1).argmin())]
        return faces.pick(order)

    def _is_large(self, faces: Faces, k: int) -> bool:
        box, eyes = faces.boxes[k], faces.landmarks[k, :2]
        shorter, apart = (box[2:] - box[:2]).min(), (eyes[0] - eyes[1]).norm()
        return bool(shorter >= self.options.smallest and apart >= _CLOSEST_EYES)

    def restored(self, x: Tensor, faces: Faces) -> Iterator[Restored]:
        """Restores faces, a bounded number at a time.

        Args:
            x: RGB (1, 3, h, w) in [0, 1].
            faces: Where they are.

        Yields:
            One for each face, in order.

        Raises:
            NonFiniteError: The network gives NaN or infinity.
            OutOfMemoryError: Even one face does not fit.
        """
        matrices = list(similarity(faces.landmarks, self._template)) if len(faces) else []
        while matrices:
            part = matrices[: self.batch]
            squares = self._attempt(x, part)
            if squares is not None:
                matrices = matrices[len(part) :]
                for k, matrix in enumerate(part):
                    yield Restored(squares[k : k + 1], matrix)

    @torch.inference_mode()
    def _attempt(self, x: Tensor, matrices: list[Tensor]) -> Tensor | None:
        """Restored squares, (K, 3, S, S) in [0, 1]; None if they did not fit and fewer may."""
        try:
            squares = torch.cat([crop(x, matrix, self.side) for matrix in matrices])
            squares = self._restorer(squares.float() * 2 - 1)
        except torch.OutOfMemoryError as error:
            if len(matrices) == 1:
                msg = f"out of memory on {x.device} with one face: use --device cpu"
                raise OutOfMemoryError(msg) from error
            self.batch = len(matrices) // 2
            torch.cuda.empty_cache()
            return None
        if not bool(squares.isfinite().all()):
            msg = "the face network gave NaN or infinity: its checkpoint is damaged"
            raise NonFiniteError(msg)
        return ((squares + 1) / 2).clamp(0, 1)
