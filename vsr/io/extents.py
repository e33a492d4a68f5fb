"""Which bytes of a film are read to decode a few of its frames.

A file of the same size with only these bytes at their places is decoded like the film itself: the
same headers, tags and times, the same key frame found by the same seek. They are told by reading
the packets as `AvSource` does, and watching which bytes that takes.
"""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer

from vsr.errors import SourceError, SourceNotFoundError
from vsr.io.av_source import MARGINS, SEEK_FROM
from vsr.io.color import fraction
from vsr.io.open import WHITELIST

_AHEAD: Final = 64
"""Packets that decoders on any machine may take before they give a frame: 16 threads' worth, 16
that wait for their order, and as many again."""


class _Watched:
    """A file that remembers what was read of it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.read_spans: list[tuple[int, int]] = []
        self._file = path.open("rb", buffering=0)

    def read(self, size: int) -> bytes:
        begin = self._file.tell()
        data = self._file.read(size)
        self.read_spans.append((begin, begin + len(data)))
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def extents(
    path: Path,
    index: int,
    *,
    first: int,
    start: int,
    until: int | None,
    max_pixels: int,
    threads: int | None = None,
) -> list[tuple[int, int]]:
    """Finds the bytes that decoding some frames takes.

    Args:
        path: A local film of a format that can be sought in.
        index: Of the stream.
        first: Time of the film's first frame in ticks.
        start: Of the first frame that is wanted.
        until: Of the frame behind the last one; None for the end.
        max_pixels: Pictures with more pixels are not decoded while probing.
        threads: Of the decoder, if they were asked for.

    Returns:
        Where each read began and ended, in bytes; they overlap.

    Raises:
        SourceError: The film cannot be read.
    """
    ahead = _AHEAD + 2 * (threads or 0)
    spans: list[tuple[int, int]] = []
    try:
        with _opened(path, max_pixels, spans) as container:
            tick = fraction(container.streams[index].time_base) or Fraction(1, 1000)
            early = (start - first) * tick < SEEK_FROM
            _pass(_times(container, index), until if early else first, ahead)
        if early:
            return spans
        for margin in MARGINS:
            with _opened(path, max_pixels, spans) as container:
                stream = container.streams[index]
                container.seek(int(start - margin / tick), stream=stream)
                times = _times(container, index)
                key = next(times, None)
                if key is not None and key <= start:
                    _pass(times, until, ahead)
                    return spans
                _pass(times, key, ahead)
        with _opened(path, max_pixels, spans) as container:
            _pass(_times(container, index), until, ahead)
    except FileNotFoundError as error:
        msg = f"{path} does not exist; check the name"
        raise SourceNotFoundError(msg) from error
    except (OSError, ValueError) as error:  # FFmpeg's errors are among them
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"{path} cannot be read: {reason}"
        raise SourceError(msg) from error
    return spans


@contextlib.contextmanager
def _opened(path: Path, max_pixels: int, spans: list[tuple[int, int]]) -> Iterator[InputContainer]:
    file = _Watched(path)
    options = {"format_whitelist": WHITELIST, "max_pixels": str(max_pixels)}
    try:
        with av.open(file, "r", options=options) as container:
            yield container
    finally:
        spans += file.read_spans
        file.close()


def _times(container: InputContainer, index: int) -> Iterator[int]:
    for packet in container.demux(container.streams[index]):
        if packet.size and packet.pts is not None:
            yield packet.pts


def _pass(times: Iterator[int], until: int | None, ahead: int) -> None:
    """Reads on until so many packets are not before a time."""
    for time in times:
        if until is not None and time >= until:
            ahead -= 1
        if not ahead:
            return
