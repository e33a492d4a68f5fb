"""Pictures as bare bytes: plane after plane without padding, at a constant rate, without times."""

import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from vsr.errors import SinkError, SourceError
from vsr.io.ends import ByteReader
from vsr.types import Frame, PixelFormat, Plane

type Order = Literal["little", "big"]


class PlaneReader:
    """Reads the planes of one picture after another, packed tightly.

    Args:
        reader: The stream.
        format: Layout of the planes.
        width: Luma samples in a row.
        height: Rows of luma.
        byteorder: Of samples of more than a byte.
    """

    def __init__(
        self,
        reader: ByteReader,
        format: PixelFormat,  # noqa: A002 - the field's own word
        width: int,
        height: int,
        byteorder: Order = "little",
    ) -> None:
        self._reader, self._format = reader, format
        self._shapes = format.plane_shapes(width, height)
        self.bytes = format.frame_bytes(width, height)
        self._swapped = format.bits > 8 and byteorder != sys.byteorder

    def planes(self, number: int) -> tuple[Plane, ...] | None:
        """The next picture; None where the stream ends before it.

        Raises:
            SourceError: The stream ends inside it.
        """
        buffer = bytearray(self.bytes)
        got = self._reader.fill(memoryview(buffer))
        if got < self.bytes:
            if not got:
                return None
            raise cut(self._reader.name, number, self.bytes - got, self.bytes)
        samples: Plane = (
            np.frombuffer(buffer, np.uint8)
            if self._format.bits == 8
            else np.frombuffer(buffer, np.uint16)
        )
        if self._swapped:
            samples.byteswap(inplace=True)
        planes: list[Plane] = []
        start = 0
        for height, width in self._shapes:
            planes.append(samples[start : start + height * width].reshape(height, width))
            start += height * width
        return tuple(planes)


def cut(name: str, number: int, missing: int, size: int) -> SourceError:
    """The error of a stream that ends inside a frame."""
    before = f"the {number} before it are upscaled" if number else "there is none before it"
    return SourceError(
        f"{name} ends inside frame {number}, {missing} of its {size} bytes are missing: {before}"
    )


def plane_bytes(planes: Sequence[Plane], byteorder: Order) -> Iterator[bytes]:
    """The samples of each plane, packed tightly; views of it where that is what it is."""
    for plane in planes:
        wanted = plane.dtype.newbyteorder("<" if byteorder == "little" else ">")
        yield np.ascontiguousarray(plane, wanted).data  # type: ignore[misc]  # bytes-like


class Beat:
    """Refuses frames that do not come at the constant rate which is all that a format can tell.

    Args:
        format: Its name.
        rate: Frames per second; None accepts any times.
    """

    def __init__(self, format: str, rate: Fraction | None) -> None:  # noqa: A002
        self._format, self._rate = format, rate
        self._first: Fraction | None = None
        self._count = 0

    def check(self, frame: Frame) -> None:
        """Looks at the next frame.

        Raises:
            SinkError: It lies half a frame or more beside its place.
        """
        if self._first is None:
            self._first = frame.seconds
        if self._rate is not None:
            due = self._first + self._count / self._rate
            if 2 * abs(frame.seconds - due) * self._rate >= 1:
                msg = (
                    f"frame {self._count} comes at {float(frame.seconds):.3f} s and not at "
                    f"{float(due):.3f} s, and {self._format} has no times: use -f nut"
                )
                raise SinkError(msg)
        self._count += 1
