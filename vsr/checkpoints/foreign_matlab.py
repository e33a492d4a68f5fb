"""Numeric arrays of a MATLAB 5 file (`.mat`, as `save -v6` and `-v7` write it). Free of torch.

"MAT-File Format", The MathWorks: a header of 128 bytes, then elements of a type, a length and a
content that is padded to eight bytes. Cells, structures, texts and functions are passed over. Files
of `save -v7.3` are HDF5 and are refused by name.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from vsr.checkpoints.containers import shortened, whole
from vsr.errors import CheckpointError

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_FLOATING_CLASSES = {6, 7}
_COMPLEX = 0x800
_MOST_GROWTH = 32
_MOST_DIMENSIONS = 8

type Order = Literal["<", ">"]


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    content: bytes


def read_matlab(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """Reads the real floating-point arrays of a file.

    Args:
        file: At its start; is left at its end.

    Returns:
        Arrays by name, with MATLAB's shape and two dimensions at least.

    Raises:
        CheckpointError: The file is cut or damaged, or of version 7.3.
    """
    data = whole(file)
    if data.startswith(b"MATLAB 7.3"):
        msg = "is a MATLAB 7.3 file, which is HDF5: save it with `save -v7`"
        raise CheckpointError(msg)
    marks: dict[bytes, Order] = {b"IM": "<", b"MI": ">"}
    order = marks.get(data[126:128])
    if len(data) < _HEADER or order is None:
        raise _damaged()
    arrays: dict[str, NDArray[Any]] = {}
    room = left = _MOST_GROWTH * len(data)
    for element in _elements(data[_HEADER:], order):
        inner = [element]
        if element.kind == _COMPRESSED:
            unpacked = _inflated(element.content, room, len(data))
            room -= len(unpacked)
            inner = list(_elements(unpacked, order))
        for matrix in inner:
            if matrix.kind == _MATRIX:
                found = _array(matrix.content, order)
                left -= sum(array.nbytes for array in found.values())
                if left < 0:  # bytes that become numbers of eight bytes each
                    raise _too_large(len(data))
                arrays |= found
    return arrays


def _damaged() -> CheckpointError:
    return CheckpointError("is a cut or damaged MATLAB file: download it again")


def _too_large(size: int) -> CheckpointError:
    return CheckpointError(f"unpacks to more than {_MOST_GROWTH} times its {size} bytes: refused")


def _elements(data: bytes, order: Order) -> Iterator[_Element]:
    position = 0
    while position + 8 <= len(data):
        kind, length = (int(n) for n in np.frombuffer(data, f"{order}u4", 2, position))
        start = position + 8
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, length, start = kind & 0xFFFF, kind >> 16, position + 4
            step = 8
        else:
            # compressed elements are not padded
            step = 8 + length + (0 if kind == _COMPRESSED else -length % 8)
        if length > len(data) - start:
            raise _damaged()
        yield _Element(kind, data[start : start + length])
        position += step


def _inflated(data: bytes, room: int, size: int) -> bytes:
    """What is packed, if it takes no more bytes than there is room left; size is the file's."""
    machine = zlib.decompressobj()
    try:
        result = machine.decompress(data, room + 1)
    except zlib.error as error:
        raise _damaged() from error
    if len(result) > room:
        raise _too_large(size)
    return result


def _array(data: bytes, order: Order) -> dict[str, NDArray[Any]]:
    """The array of a matrix element, or nothing if it is no real floating-point one."""
    parts = list(_elements(data, order))
    if len(parts) < 4 or len(parts[0].content) != 8:
        return {}
    flags = int(np.frombuffer(parts[0].content, f"{order}u4")[0])
    if flags & 0xFF not in _FLOATING_CLASSES or flags & _COMPLEX:
        return {}
    sides = parts[1].content
    if len(sides) % 4 or not 2 <= len(sides) // 4 <= _MOST_DIMENSIONS:
        raise _damaged()
    shape = tuple(int(n) for n in np.frombuffer(sides, f"{order}i4"))
    name = parts[2].content.decode("latin-1")
    kind = _NUMBERS.get(parts[3].kind)  # whole numbers are stored in fewer bytes
    values = parts[3].content
    count = math.prod(shape)
    if kind is None or min(shape, default=-1) < 0 or len(values) != count * int(kind[1]):
        msg = f"has an array {shortened(name)} whose values do not fit its shape"
        raise CheckpointError(msg)
    numbers = np.frombuffer(values, order + kind).astype(np.float64)
    return {name: numbers.reshape(shape, order="F")}
