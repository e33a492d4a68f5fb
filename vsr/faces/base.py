"""What the parts of face restoration hand to each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

LANDMARKS = 5
"""Left eye, right eye, tip of the nose, left and right corner of the mouth, as the viewer sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """The faces of one picture, in pixels; the centre of the first pixel is at (0, 0).

    Attributes:
        boxes: Left, top, right, bottom: (K, 4), float64 on the CPU.
        scores: Confidence from 0 to 1: (K,), likewise.
        landmarks: (x, y) of the five `LANDMARKS`: (K, 5, 2), likewise.
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor

    @classmethod
    def none(cls) -> Self:
        """A picture without a face."""
        zeros = torch.zeros(0, 5, 2, dtype=torch.float64)
        return cls(boxes=zeros[:, :2].reshape(0, 4), scores=zeros[:, 0, 0], landmarks=zeros)

    def __len__(self) -> int:
        return len(self.scores)

    def pick(self, which: Sequence[int]) -> "Faces":
        """Some of them, in the order of the indices."""
        chosen = torch.tensor(which, dtype=torch.long)
        return Faces(
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            landmarks=self.landmarks[chosen],
        )


class Detector(Protocol):
    """Finds faces."""

    def __call__(self, x: Tensor, /) -> list[Faces]:
        """Maps RGB (N, 3, H, W) in [0, 1] to N `Faces`, the surest face of each first."""
        ...
