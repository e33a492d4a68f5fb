"""What a user may say about the restoring of faces. Free of torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vsr.errors import UsageError

DEFAULT_FACE_MODEL = "GFPGANv1.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceOptions:
    """How faces are restored.

    Attributes:
        model: Name of a restorer in `vsr.faces.catalog`.
        path: A checkpoint of GFPGAN's clean network instead.
        weight: How much of the restored face is taken, from 0 to 1. The networks of releases 1.3
            and 1.4 have no such number of their own: it blends.
        which: `all`, or `centre` for the face that is nearest to the picture's.
        smallest: Shorter side, in pixels of the source, that a face's box must have.

    Raises:
        UsageError: A number out of range.
    """

    model: str = DEFAULT_FACE_MODEL
    path: Path | None = None
    weight: float = 1.0
    which: Literal["all", "centre"] = "all"
    smallest: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            msg = f"the weight of restored faces must lie between 0 and 1, got {self.weight}"
            raise UsageError(msg)
        if self.smallest < 1:
            msg = f"the smallest face must have at least 1 pixel, got {self.smallest}"
            raise UsageError(msg)
