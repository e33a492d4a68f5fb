"""The directories of TIFF, which are also those of EXIF: read, changed in place, written anew.

Entries are held in little-endian order, whatever the file's own. Layout: TIFF revision 6.0 (Adobe,
1992); the tags of EXIF: CIPA DC-008.
"""

import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

type Buffer = bytes | bytearray | memoryview
"""The bytes of a file, or a part of them."""

ORIENTATION: Final = 0x0112
X_RESOLUTION: Final = 0x011A
Y_RESOLUTION: Final = 0x011B
RESOLUTION_UNIT: Final = 0x0128
ICC: Final = 0x8773
EXIF: Final = 0x8769
_GPS: Final = 0x8825
_INTEROPERABILITY: Final = 0xA005
_SIZE: Final = (0xA002, 0xA003)
"""Width and height of the picture, in the directory of EXIF."""
_POINTERS: Final = frozenset({EXIF, _GPS, _INTEROPERABILITY})
DESCRIPTIVE: Final = frozenset(
    {0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, EXIF, _GPS}
)
"""Tags that speak of the picture and not of how it is stored: names, dates, maker, rights."""

SHORT: Final = 3
LONG: Final = 4
RATIONAL: Final = 5
UNDEFINED: Final = 7
_SAMPLE: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
"""Bytes that belong together when the order is swapped, by type; a rational is two such."""
_SWAPPED: Final = {2: "H", 4: "I", 8: "Q"}
"""Array types of samples."""
_PAIRS: Final = frozenset({RATIONAL, 10})
_MOST_ENTRIES: Final = 4096
_MOST_BYTES: Final = 64 << 20
_DEPTH: Final = 4
_LARGEST: Final = 0xFFFFFFFF
_CM: Final = Fraction(254, 100)
"""Centimetres of an inch."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory.

    Attributes:
        kind: TIFF's type code.
        data: The values in little-endian order.
        inside: The directory that it points to, if it does.
    """

    kind: int
    data: bytes
    inside: "Directory | None" = None

    @property
    def number(self) -> int | None:
        """The first value as an integer, None if it is no integer."""
        form = {1: "<B", 3: "<H", 4: "<I"}.get(self.kind)
        if form is None or len(self.data) < struct.calcsize(form):
            return None
        return int(struct.unpack_from(form, self.data)[0])

    @property
    def ratio(self) -> Fraction | None:
        """The first value as a fraction, None if it is none or divides by 0."""
        if self.kind != RATIONAL or len(self.data) < 8:
            return None
        above, below = struct.unpack_from("<II", self.data)
        return Fraction(above, below) if below else None


type Directory = dict[int, Entry]


def short(value: int) -> Entry:
    """An entry of one 16-bit number."""
    return Entry(SHORT, struct.pack("<H", value))


def rational(value: Fraction) -> Entry:
    """An entry of one fraction that is not negative, rounded to what 32 bits hold."""
    value = min(value, Fraction(_LARGEST))
    below = min(1_000_000, int(_LARGEST / value)) if value else 1
    value = value.limit_denominator(below)
    return Entry(RATIONAL, struct.pack("<II", value.numerator, value.denominator))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Walks directories; places that lie outside the data raise `ValueError`."""

    data: Buffer
    order: str
    seen: set[int] = field(default_factory=set)
    taken: list[int] = field(default_factory=list)

    def numbers(self, form: str, at: int) -> tuple[int, ...]:
        if at < 0 or at + struct.calcsize(form) > len(self.data):
            msg = f"an offset of {at} lies outside"
            raise ValueError(msg)
        return struct.unpack_from(self.order + form, self.data, at)

    def entries(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """(tag, type, length in bytes, place of the values) of a directory."""
        (count,) = self.numbers("H", at)
        if count > _MOST_ENTRIES:
            msg = f"a directory of {count} entries"
            raise ValueError(msg)
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, values = self.numbers("HHI", place)
            sample = _SAMPLE.get(kind)
            if sample is None:
                continue
            length = values * sample * (2 if kind in _PAIRS else 1)
            where = place + 8 if length <= 4 else self.numbers("I", place + 8)[0]
            if where + length > len(self.data) or length > _MOST_BYTES:
                msg = f"tag {tag:#06x} lies outside"
                raise ValueError(msg)
            yield tag, kind, length, where

    def directory(self, at: int, depth: int = 0) -> Directory:
        if at in self.seen or depth > _DEPTH:
            msg = "a directory that contains itself"
            raise ValueError(msg)
        self.seen.add(at)
        found: Directory = {}
        for tag, kind, length, where in self.entries(at):
            self.taken.append(length)  # entries may all point to the same bytes
            if sum(self.taken) > _MOST_BYTES:
                msg = f"entries of more than {_MOST_BYTES} bytes"
                raise ValueError(msg)
            data = self._little(bytes(self.data[where : where + length]), kind)
            entry = Entry(kind, data)
            if tag in _POINTERS and entry.number is not None:
                entry = Entry(LONG, data, self.directory(entry.number, depth + 1))
            found[tag] = entry
        return found

    def _little(self, data: bytes, kind: int) -> bytes:
        sample = _SAMPLE[kind]
        if self.order == "<" or sample == 1:
            return data
        values = array(_SWAPPED[sample], data)
        values.byteswap()
        return values.tobytes()

    def next_after(self, at: int) -> int:
        (count,) = self.numbers("H", at)
        return self.numbers("I", at + 2 + 12 * count)[0]


def _reader(data: Buffer) -> _Reader:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None:
        msg = "no TIFF header"
        raise ValueError(msg)
    return _Reader(data, order)


def read(data: Buffer) -> Directory:
    """Reads the first directory of a TIFF file or an EXIF payload.

    Raises:
        ValueError: No TIFF, or damaged.
    """
    reader = _reader(data)
    return reader.directory(reader.numbers("I", 4)[0])


def write(directory: Mapping[int, Entry], at: int) -> bytes:
    """Serialises a directory that will lie `at` bytes from the start, with all it points to."""
    blob, heads = b"", b""
    rest = at + 2 + 12 * len(directory) + 4
    for tag, entry in sorted(directory.items()):
        count = len(entry.data) // (_SAMPLE[entry.kind] * (2 if entry.kind in _PAIRS else 1))
        if entry.inside is not None:
            inner = write(entry.inside, rest + len(blob))
            value = struct.pack("<I", rest + len(blob))
            blob += inner
            count = 1
        elif len(entry.data) <= 4:
            value = entry.data.ljust(4, b"\0")
        else:
            value = struct.pack("<I", rest + len(blob))
            blob += entry.data + b"\0" * (len(entry.data) % 2)
        heads += struct.pack("<HHI", tag, entry.kind, count) + value
    return struct.pack("<H", len(directory)) + heads + b"\0\0\0\0" + blob


def density(found: Directory) -> tuple[Fraction, Fraction] | None:
    """Dots per inch along x and y as a directory says them."""
    x, y = (found[tag].ratio if tag in found else None for tag in (X_RESOLUTION, Y_RESOLUTION))
    unit = found[RESOLUTION_UNIT].number if RESOLUTION_UNIT in found else 2
    if not x or not y or unit not in {2, 3}:
        return None
    return (x, y) if unit == 2 else (x * _CM, y * _CM)


def orientation(data: Buffer) -> int:
    """How the samples lie, 1 to 8, as a payload says; 1 is upright, from 5 on they lie sideways."""
    entry = read(data).get(ORIENTATION)
    return (entry.number or 1) if entry is not None else 1


def payload(directory: Mapping[int, Entry]) -> bytes:
    """A whole EXIF payload of one directory."""
    return b"II*\0\x08\0\0\0" + write(directory, 8)


def upright(data: bytes, size: tuple[int, int]) -> bytes:
    """Says in an EXIF payload that the picture is upright, and how large it is now.

    Nothing is moved, so that a maker's own notes keep their places.

    Args:
        data: The payload.
        size: Width and height of the picture that it will go with.

    Raises:
        ValueError: The payload is damaged.
    """
    made = bytearray(data)
    reader = _reader(made)
    at = first = reader.numbers("I", 4)[0]
    for _ in range(2):  # the picture's directory and its thumbnail's
        for tag, kind, _length, where in reader.entries(at):
            if tag == ORIENTATION and kind == SHORT:
                struct.pack_into(f"{reader.order}H", made, where, 1)
            if tag == EXIF and at == first:
                _set_size(made, reader, reader.numbers("I", where)[0], size)
        at = reader.next_after(at)
        if at == 0:
            break
    return bytes(made)


def _set_size(made: bytearray, reader: _Reader, at: int, size: tuple[int, int]) -> None:
    for tag, kind, _, where in reader.entries(at):
        if tag in _SIZE and kind in {SHORT, LONG}:
            value = size[_SIZE.index(tag)]
            form, most = ("H", 0xFFFF) if kind == SHORT else ("I", 0xFFFFFFFF)
            struct.pack_into(reader.order + form, made, where, value if value <= most else 0)
