"""Writes into a finished Matroska file what PyAV cannot tell FFmpeg's muxer.

The muxer takes the display size, HDR metadata and a copied stream's codec delay from fields of
AVStream that PyAV does not set. So while muxing, the track's title is padded (`placeholder`), and
afterwards `amend` rewrites that one track
entry: the padding goes, the missing elements come, and a Void element fills the rest. No size
    outside the entry
changes, so no position in the file does.

Element ids and their meaning: RFC 9559.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

from vsr.errors import SinkError
from vsr.io.encoders._hdr import Mastering, unpack_mastering
from vsr.types import Hdr

_SEGMENT: Final = 0x18538067
_TRACKS: Final = 0x1654AE6B
_TRACK_ENTRY: Final = 0xAE
_NAME: Final = 0x536E
_CODEC_DELAY: Final = 0x56AA
_VIDEO: Final = 0xE0
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_COLOUR: Final = 0x55B0
_MAX_CLL, _MAX_FALL, _MASTERING = 0x55BC, 0x55BD, 0x55D0
_CLUSTER: Final = 0x1F43B675
_CRC, _VOID = 0xBF, 0xEC
_MARK: Final = "vsr:reserved:"
_ROOM: Final = 240
"""More than the longest amendment: ten 8-byte floats of mastering metadata, and the rest."""


class _File(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...
    def write(self, data: bytes, /) -> int: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackExtras:
    """What to add to a track.

    Attributes:
        title: The track's real title, None if it has none.
        display: Width and height at which the picture is to be shown, in the proportion of the
            sample aspect.
        hdr: Static HDR metadata.
        codec_delay: By how many nanoseconds the track's times were moved forward to be above zero.
    """

    title: str | None = None
    display: tuple[int, int] | None = None
    hdr: Hdr | None = None
    codec_delay: int = 0

    @property
    def needed(self) -> bool:
        """Whether there is anything to add."""
        return self.display is not None or self.hdr is not None or self.codec_delay > 0


def placeholder(number: int, title: str | None) -> str:
    """The title under which track `number` is muxed, to make room for `amend`."""
    return f"{_MARK}{number:04d}:".ljust(_ROOM + len((title or "").encode()), ".")


def display_size(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """A display size of exactly the right proportion near the stored size, else a rounded one."""
    shape = Fraction(width, height) * sample_aspect
    times = round(Fraction(height, shape.denominator))
    if times >= 1:
        return shape.numerator * times, shape.denominator * times
    if sample_aspect >= 1:
        return round(width * sample_aspect), height
    return width, round(height / sample_aspect)


def amend(file: _File, extras: Mapping[int, TrackExtras]) -> None:
    """Rewrites the track entries that were muxed under a `placeholder`.

    Args:
        file: The complete file, readable, writable and seekable.
        extras: By the number given to `placeholder`.

    Raises:
        SinkError: The muxer wrote something else than expected.
    """
    start, size = _find_tracks(file)
    file.seek(start)
    tracks = bytearray(file.read(size))
    position = 0
    while position < size:
        ident, length, head = _head(tracks, position)
        begin, end = position + head, position + head + length
        if ident == _TRACK_ENTRY:
            tracks[begin:end] = _amended(bytes(tracks[begin:end]), extras)
        position = end
    if tracks[0] == _CRC:
        # the checksum comes first and covers what follows it
        tracks[2:6] = struct.pack("<I", zlib.crc32(tracks[6:]))
    if len(tracks) != size:
        got = f"the Matroska track list came out {len(tracks)} bytes long, expected {size}"
        msg = f"{got}: please report"
        raise SinkError(msg)
    file.seek(start)
    file.write(bytes(tracks))


def _find_tracks(file: _File) -> tuple[int, int]:
    position, end = 0, 1 << 62
    while position < end:
        file.seek(position)
        ident, size, head = _head(file.read(12), 0)
        if ident == _TRACKS:
            return position + head, size
        position += head if ident == _SEGMENT else head + size
        if ident == _CLUSTER:
            break
    msg = "the Matroska file has no track list before its first cluster: please report"
    raise SinkError(msg)


def _amended(entry: bytes, extras: Mapping[int, TrackExtras]) -> bytes:
    children = _children(entry)
    names = [data.decode() for ident, data in children if ident == _NAME]
    place = next((int(n[len(_MARK) :][:4]) for n in names if n.startswith(_MARK)), None)
    if place is None:
        return entry
    extra = extras.get(place, TrackExtras())
    out = []
    for ident, data in children:
        if ident == _NAME:
            if extra.title is not None:
                out.append((ident, extra.title.encode()))
            if extra.codec_delay:
                out.append((_CODEC_DELAY, number(extra.codec_delay)))
        elif ident == _VIDEO:
            out.append((ident, _video(data, extra)))
        elif ident != _VOID and not (ident == _CODEC_DELAY and extra.codec_delay):
            out.append((ident, data))
    body = b"".join(element(ident, data) for ident, data in out)
    return body + _void(len(entry) - len(body))


def _video(data: bytes, extra: TrackExtras) -> bytes:
    children = _children(data)
    if extra.display is not None:
        children = _without(children, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
        children.append((_DISPLAY_WIDTH, number(extra.display[0])))
        children.append((_DISPLAY_HEIGHT, number(extra.display[1])))
    if extra.hdr is not None:
        colour = next((payload for ident, payload in children if ident == _COLOUR), b"")
        children = _without(children, _COLOUR)
        children.append((_COLOUR, _colour(colour, extra.hdr)))
    return b"".join(element(ident, payload) for ident, payload in children)


def _colour(data: bytes, hdr: Hdr) -> bytes:
    children = _without(_children(data), _MAX_CLL, _MAX_FALL, _MASTERING)
    if hdr.light_level is not None:
        children.append((_MAX_CLL, number(hdr.light_level[0])))
        children.append((_MAX_FALL, number(hdr.light_level[1])))
    if hdr.mastering is not None:
        children.append((_MASTERING, _mastering(unpack_mastering(hdr.mastering))))
    return b"".join(element(ident, payload) for ident, payload in children)


def _mastering(display: Mastering) -> bytes:
    points = (display.red, display.green, display.blue, display.white)
    values = [value for point in points for value in point or (None, None)]
    numbers = zip(range(0x55D1, 0x55DB), [*values, display.high, display.low], strict=True)
    return b"".join(
        element(ident, struct.pack(">d", float(value)))
        for ident, value in numbers
        if value is not None
    )


def _without(children: list[tuple[int, bytes]], *idents: int) -> list[tuple[int, bytes]]:
    return [(ident, data) for ident, data in children if ident not in idents]


def _children(data: bytes) -> list[tuple[int, bytes]]:
    found, position = [], 0
    while position < len(data):
        ident, size, head = _head(data, position)
        start = position + head
        found.append((ident, data[start : start + size]))
        position = start + size
    return found


def _head(data: bytes | bytearray, position: int) -> tuple[int, int, int]:
    """Id, payload size and length of the head of the element at a position."""
    first = data[position]
    id_length = 9 - first.bit_length()
    ident = int.from_bytes(data[position : position + id_length])
    at = position + id_length
    length = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
    return ident, size, id_length + length


def element(ident: int, data: bytes) -> bytes:
    """An EBML element with a size as short as possible (RFC 8794)."""
    length = next(n for n in range(1, 9) if len(data) < (1 << 7 * n) - 1)
    return _ident(ident) + _sized(len(data), length) + data


def _void(total: int) -> bytes:
    """A Void element of exactly `total` bytes, head included."""
    if total == 0:
        return b""
    length = 8 if total >= 9 else 1
    payload = total - 1 - length
    if payload < 0:
        msg = "not enough room was reserved in the Matroska track entry: please report"
        raise SinkError(msg)
    return _ident(_VOID) + _sized(payload, length) + bytes(payload)


def _ident(ident: int) -> bytes:
    return ident.to_bytes((ident.bit_length() + 7) // 8)


def _sized(size: int, length: int) -> bytes:
    return (size | 1 << 7 * length).to_bytes(length)


def number(value: int) -> bytes:
    """Payload of an unsigned integer element."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8))
