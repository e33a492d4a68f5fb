"""The constants and operations of a frozen TensorFlow graph (`.pb`), without TensorFlow.

A graph is a protocol buffer: nested records of numbered fields. Only what networks need is read
(`tensorflow/core/framework/graph.proto`, `node_def.proto`, `tensor.proto`); the rest is skipped.
Free of torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vsr.checkpoints.containers import shortened, whole
from vsr.errors import CheckpointError

_FLOAT = 1
_MOST_NODES = 1 << 14
_LONGEST_VARINT = 10
_MOST_DIMENSIONS = 8
_MOST_GROWTH = 8
"""How much larger than the file its constants may be: few of them are one value for all."""

type Field = int | bytes


@dataclass(frozen=True, slots=True)
class Graph:
    """What is read of a graph.

    Attributes:
        constants: float32 arrays by the name of their node.
        operations: Kind of every node, in the file's order.
    """

    constants: dict[str, NDArray[np.float32]]
    operations: tuple[str, ...]


def is_graph(start: bytes) -> bool:
    """Whether a file begins with a node that begins with its name.

    Args:
        start: At least the first 16 bytes, less only if the file is shorter.
    """
    if start[:1] != b"\x0a":
        return False
    try:
        length, position = _varint(start, 1)
    except CheckpointError:
        return False
    return length > 2 and start[position : position + 1] == b"\x0a"


def read_graph(file: BinaryIO) -> Graph:
    """Reads a frozen graph.

    Args:
        file: At its start; is left at its end.

    Raises:
        CheckpointError: It is cut, damaged, or no graph.
    """
    constants: dict[str, NDArray[np.float32]] = {}
    operations: list[str] = []
    data = whole(file)
    room = _MOST_GROWTH * len(data)
    for number, node in _fields(data):
        if number != 1 or not isinstance(node, bytes):
            continue
        if len(operations) == _MOST_NODES:
            msg = f"is a TensorFlow graph of more than {_MOST_NODES} nodes: too large to read"
            raise CheckpointError(msg)
        name, operation, value = _node(node, room)
        operations.append(operation)
        room -= 0 if value is None else value.nbytes
        if operation == "Const" and value is not None:
            constants[name] = value
    return Graph(constants, tuple(operations))


def _node(data: bytes, room: int) -> tuple[str, str, NDArray[np.float32] | None]:
    """Name, kind and, of a constant, its value, if that takes no more than so many bytes."""
    name = operation = ""
    value = None
    for number, field in _fields(data):
        if not isinstance(field, bytes):
            continue
        if number == 1:
            name = _text(field)
        elif number == 2:
            operation = _text(field)
        elif number == 5:
            entry = dict(_fields(field))
            attribute = entry.get(2)
            if entry.get(1) == b"value" and isinstance(attribute, bytes):
                tensor = dict(_fields(attribute)).get(8)
                value = _tensor(tensor, name, room) if isinstance(tensor, bytes) else None
    return name, operation, value


def _tensor(data: bytes, name: str, room: int) -> NDArray[np.float32] | None:
    """A TensorProto of floats; None for one of integers, such as the order of a transposition."""
    shape: tuple[int, ...] = ()
    content, kind = b"", 0
    for number, field in _fields(data):
        if number == 1 and isinstance(field, int):
            kind = field
        elif number == 2 and isinstance(field, bytes):
            shape = tuple(_dimension(entry) for n, entry in _fields(field) if n == 2)
        elif number in {4, 5} and isinstance(field, bytes):  # as bytes, or as repeated floats
            content += field
    if kind != _FLOAT:
        return None
    if len(shape) > _MOST_DIMENSIONS:
        msg = f"has {shortened(name)} with {len(shape)} dimensions, at most {_MOST_DIMENSIONS}"
        raise CheckpointError(msg)
    count = math.prod(shape)
    if 4 * count > room:
        msg = f"has constants of more than {_MOST_GROWTH} times its own bytes: refused"
        raise CheckpointError(msg)
    if len(content) == 4 < 4 * count:  # one value stands for all
        return np.full(shape, np.frombuffer(content, "<f4")[0], np.float32)
    if len(content) != 4 * count:
        msg = f"has {len(content)} bytes in {shortened(name)}, whose shape needs {4 * count}"
        raise CheckpointError(msg)
    return np.frombuffer(content, "<f4").reshape(shape)


def _dimension(data: Field) -> int:
    size = dict(_fields(data)).get(1, 0) if isinstance(data, bytes) else -1
    if not isinstance(size, int) or not 0 <= size < 1 << 32:
        msg = "has a TensorFlow constant of unknown size"
        raise CheckpointError(msg)
    return size


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yields number and content of a record's fields: an int, or the bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind, length = key & 7, 0
        if kind == 0:
            number, position = _varint(data, position)
            yield key >> 3, number
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in {1, 5}:
            length = 8 if kind == 1 else 4
        if kind not in {1, 2, 5} or length > len(data) - position:
            msg = "is a cut or damaged TensorFlow graph: download it again"
            raise CheckpointError(msg)
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the lowest first, and where the next thing begins."""
    value = 0
    for count, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    msg = "is a cut or damaged TensorFlow graph: download it again"
    raise CheckpointError(msg)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
