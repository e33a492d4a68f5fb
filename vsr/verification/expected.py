"""What was to become of a source: what the user asked for, and what the container forces."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vsr.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The changes that were planned; everything else must be as it was.

    Attributes:
        scale: Output pixels per input pixel along each axis; any if neither it nor a size is known.
        width: Of the output as shown, instead of a scale; with only one the aspect must be kept.
        height: Of the output as shown.
        start: The output begins so many seconds after the source's first frame.
        end: It ends before this, likewise.
        audio: Whether sound was to be kept.
        subtitles: Whether subtitles were to be kept.
        audio_codec: Sound was to be encoded anew with this encoder.
        color: The matrix that was asked for.
        stream: Index of the source's video; None for the one that players choose.
        frames: How many frames the job wrote, where that is known.
        allow_url: Whether the source may be an address.

    Raises:
        UsageError: An end that is not after the start, or both a scale and a size.
    """

    scale: Fraction | None = None
    width: int | None = None
    height: int | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    audio: bool = True
    subtitles: bool = True
    audio_codec: str | None = None
    color: Literal["keep", "bt601", "bt709"] = "keep"
    stream: int | None = None
    frames: int | None = None
    allow_url: bool = False

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= (self.start or 0):
            msg = (
                f"the excerpt ends at {float(self.end):g} s, not after its start; give a later end"
            )
            raise UsageError(msg)
        if self.scale is not None and (self.width or self.height):
            msg = "give either a scale or a width and height, not both"
            raise UsageError(msg)

    @property
    def trimmed(self) -> bool:
        """Whether the output is an excerpt."""
        return bool(self.start) or self.end is not None
