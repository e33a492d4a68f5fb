"""Checks of a checkpoint file's structure before anything in it is interpreted. Free of torch.

Both formats are refused unless they are as plain as an honest writer makes them: every byte range
inside the file, none overlapping, nothing compressed, no surprising names, no code.
"""

import json
import math
import zipfile
from collections.abc import Iterable
from typing import Any, BinaryIO, Literal

from vsr.errors import CheckpointError

MOST_BYTES = 4 << 30
"""Largest checkpoint file that is read."""

_MOST_HEADER = 16 << 20
_MOST_TENSORS = 1 << 16
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4}

type Format = Literal["safetensors", "zip", "pickle"]


def recognise(start: bytes) -> Format:
    """Tells the format from the first bytes of a file.

    Args:
        start: At least the first 16 bytes, less only if the file is shorter.

    Raises:
        CheckpointError: It is neither format; the message says what it looks like.
    """
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start[8:9] == b"{" and start[4:8] == bytes(4):  # its length may begin as a pickle does
        return "safetensors"
    if start[:1] == b"\x80" and start[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return "pickle"
    if start[8:9] == b"{":
        return "safetensors"
    text = start.lstrip().lower()
    kind = (
        "is empty"
        if not start
        else "is a web page, not a checkpoint: download the file itself"
        if text.startswith((b"<!doctype", b"<html", b"<?xml"))
        else "is a Git LFS pointer: fetch the file itself with `git lfs pull`"
        if text.startswith(b"version https:")
        else "is neither a safetensors nor a PyTorch checkpoint"
    )
    raise CheckpointError(kind)


def check_safetensors(file: BinaryIO, size: int) -> dict[str, str]:
    """Validates the header of a safetensors file.

    Args:
        file: At position 0; is left anywhere.
        size: Bytes of the whole file.

    Returns:
        The file's metadata.

    Raises:
        CheckpointError: The header is oversized, malformed, or points outside the file.
    """
    length = int.from_bytes(file.read(8), "little")
    if length > min(_MOST_HEADER, size - 8):
        msg = f"claims a header of {length} bytes in a file of {size}: it is damaged or hostile"
        raise CheckpointError(msg)
    header = _parsed(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        msg = "has a header whose metadata are not texts"
        raise CheckpointError(msg)
    if len(header) > _MOST_TENSORS:
        msg = f"claims {len(header)} tensors, at most {_MOST_TENSORS} are read"
        raise CheckpointError(msg)
    _check_contiguous(sorted(_extent(k, v) for k, v in header.items()), size - 8 - length)
    return metadata


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        msg = "has a header that is not JSON: it is damaged or hostile"
        raise CheckpointError(msg) from error
    if not isinstance(header, dict):
        msg = "has a header that is not a JSON object"
        raise CheckpointError(msg)
    return header


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        msg = "a name appears twice"
        raise ValueError(msg)
    return result


def _extent(name: str, entry: Any) -> tuple[int, int]:
    """Begin and end of a tensor's bytes, checked against its type and shape."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            sound = len(shape) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in shape)
        case _:
            sound = False
    if not sound:
        msg = f"describes the tensor {shortened(name)} in a way that is no safetensors"
        raise CheckpointError(msg)
    if dtype not in _ITEM_BYTES:
        msg = f"holds {shortened(name)} as {shortened(dtype)}: only plain numbers are read"
        raise CheckpointError(msg)
    if not 0 <= begin <= end or end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        msg = f"gives the tensor {shortened(name)} bytes that do not fit its shape"
        raise CheckpointError(msg)
    return begin, end


def _check_contiguous(extents: Iterable[tuple[int, int]], size: int) -> None:
    position = 0
    for begin, end in extents:
        if begin != position:
            msg = "has tensors that overlap or leave gaps: it is damaged or hostile"
            raise CheckpointError(msg)
        position = end
    if position != size:
        msg = f"should hold {position} bytes of tensors, but holds {size}: it is cut or damaged"
        raise CheckpointError(msg)


def whole(file: BinaryIO) -> bytes:
    """Reads a file from its start to its end, into no more memory than it has bytes.

    Args:
        file: A regular file; is left at its end.

    Raises:
        CheckpointError: It is larger than `MOST_BYTES`.
    """
    size = file.seek(0, 2)
    if size > MOST_BYTES:
        msg = f"has {size} bytes, at most {MOST_BYTES} are read"
        raise CheckpointError(msg)
    file.seek(0)
    return file.read(size)


def check_zip(file: BinaryIO, size: int) -> None:
    """Validates the archive structure of a `.pth` file as `torch.save` writes it.

    Args:
        file: Is left anywhere.
        size: Bytes of the whole file.

    Raises:
        CheckpointError: Compressed, encrypted, overlapping or oddly named records, a TorchScript
            program, or no archive at all.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        msg = "is a cut or damaged PyTorch checkpoint: download it again"
        raise CheckpointError(msg) from error
    if len(records) > _MOST_TENSORS:
        msg = f"holds {len(records)} records, at most {_MOST_TENSORS} are read"
        raise CheckpointError(msg)
    names = [record.filename for record in records]
    _check_names(names)
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            msg = (
                "holds compressed records, which PyTorch never writes: store it again with "
                "torch.save, or convert it to safetensors"
            )
            raise CheckpointError(msg)
    _check_records(records, size)


def _check_names(names: list[str]) -> None:
    tops = {name.split("/", 1)[0] for name in names}
    for name in names:
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            msg = f"holds a record named {shortened(name)}, which points outside: refused"
            raise CheckpointError(msg)
    top = next(iter(tops), "")
    if len(tops) != 1 or len(set(names)) != len(names) or f"{top}/data.pkl" not in names:
        msg = "is a zip archive, but not one that torch.save wrote"
        raise CheckpointError(msg)
    if any(name.startswith((f"{top}/code/", f"{top}/constants.pkl")) for name in names):
        msg = "is a TorchScript program, which is never run: save its state_dict instead"
        raise CheckpointError(msg)


def _check_records(records: list[zipfile.ZipInfo], size: int) -> None:
    position = 0
    for record in sorted(records, key=lambda r: r.header_offset):
        begin = record.header_offset
        if begin < position or record.file_size != record.compress_size:
            msg = "holds records that overlap or lie about their size: it is damaged or hostile"
            raise CheckpointError(msg)
        position = begin + 30 + len(record.filename.encode()) + record.file_size
    if position > size:
        msg = "has records beyond its end: it is cut or damaged, download it again"
        raise CheckpointError(msg)


def shortened(name: str) -> str:
    """A foreign name in quotes, escaped, short enough for one line."""
    return repr(name if len(name) <= 60 else f"{name[:57]}...")
