"""The seams of `vsr.io`: where frames come from and where they go."""

from collections.abc import Iterator
from typing import Protocol

from vsr.types import Frame, VideoInfo


class FrameSource(Protocol):
    """Yields every presented frame once, in presentation order, with exact times."""

    @property
    def info(self) -> VideoInfo:
        """What is known before the first frame."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Decodes from the start; one pass only."""
        ...

    def close(self) -> None:
        """Frees everything; safe to call twice."""
        ...


class FrameSink(Protocol):
    """Takes frames in presentation order; nothing appears under the final name before `finish`."""

    def write(self, frame: Frame) -> None:
        """Encodes one frame."""
        ...

    def finish(self) -> None:
        """Flushes, and commits the result under its final name."""
        ...

    def abort(self) -> None:
        """Leaves nothing behind; safe after any failure and after `finish`."""
        ...
