"""Changes of bytes: blind ones, and ones inside containers whose sums are made right again."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

type Mutator = Callable[[bytes, Random, Sequence[bytes]], bytes]

_INTERESTING = (0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 4096, 32767, 32768)
_LARGE = (
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 32,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
_VALUES = (None, True, -1, 0, 1, 2, 3, 4, 64, 65536, 2**31, 2**40, 2**63, 10**30, 0.5, -0.0, 1e308)
_VALUES = (*_VALUES, "", "\0", "é\n", "F32", "I64", [], [0], [1, 1], {}, [[]], {"a": {}})


def blind(data: bytes, random: Random, tokens: Sequence[bytes] = ()) -> bytes:
    """One to four changes that know nothing of the format."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        random.choice(_BLIND)(made, random, tokens)
    return bytes(made)


def _flip(made: bytearray, random: Random, _: Sequence[bytes]) -> None:
    if made:
        made[random.randrange(len(made))] ^= 1 << random.randrange(8)


def _byte(made: bytearray, random: Random, _: Sequence[bytes]) -> None:
    if made:
        made[random.randrange(len(made))] = random.choice(
            (0, 0xFF, 0x7F, 0x80, random.randrange(256))
        )


def _number(made: bytearray, random: Random, _: Sequence[bytes]) -> None:
    size = random.choice((1, 2, 4, 4, 8))
    if len(made) >= size:
        value = random.choice((*_INTERESTING, *_LARGE, len(made))) & ((1 << 8 * size) - 1)
        at = random.randrange(len(made) - size + 1)
        made[at : at + size] = value.to_bytes(size, random.choice(("little", "big")))


def _delete(made: bytearray, random: Random, _: Sequence[bytes]) -> None:
    begin, end = _span(made, random)
    del made[begin:end]


def _repeat(made: bytearray, random: Random, _: Sequence[bytes]) -> None:
    begin, end = _span(made, random)
    at = random.randrange(len(made) + 1)
    made[at:at] = made[begin:end] * random.choice((1, 1, 2, 9))


def _overwrite(made: bytearray, random: Random, _: Sequence[bytes]) -> None:
    begin, end = _span(made, random)
    at = random.randrange(len(made) + 1)
    made[at : at + end - begin] = made[begin:end]


def _insert(made: bytearray, random: Random, tokens: Sequence[bytes]) -> None:
    at = random.randrange(len(made) + 1)
    made[at:at] = _piece(random, tokens)


def _place(made: bytearray, random: Random, tokens: Sequence[bytes]) -> None:
    piece = _piece(random, tokens)
    at = random.randrange(len(made) + 1)
    made[at : at + len(piece)] = piece


def _piece(random: Random, tokens: Sequence[bytes]) -> bytes:
    if tokens and random.random() < 0.7:
        return random.choice(tokens)
    return random.choice((bytes(4), b"\xff" * 4, random.randbytes(8), b"\n", b" ", b"9" * 20))


def _cut(made: bytearray, random: Random, _: Sequence[bytes]) -> None:
    del made[random.randrange(len(made) + 1) :]


def _span(made: bytearray, random: Random) -> tuple[int, int]:
    begin = random.randrange(len(made) + 1)
    return begin, begin + random.choice((1, 2, 4, 8, 16, 64, random.randrange(len(made) + 1)))


_BLIND = (_flip, _flip, _byte, _byte, _number, _number, _number, _delete, _repeat, _overwrite)
_BLIND = (*_BLIND, _insert, _insert, _place, _place, _cut)


def within_zip(data: bytes, random: Random, tokens: Sequence[bytes] = ()) -> bytes:
    """Changes a record of an archive, and writes the archive anew."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # noqa: BLE001 - an archive that is broken already is changed blindly
        return blind(data, random, tokens)
    if not records or random.random() < 0.2:
        return blind(data, random, tokens)
    place = random.randrange(len(records))
    name, content = records[place]
    change = random.randrange(6)
    if change == 0:
        name = blind(name.encode(), random, tokens).decode("latin-1") or "x"
    elif change == 1:
        del records[place]
    elif change == 2:
        records.append((name + random.choice(("", "x", ".npy")), content))
    else:
        content = blind(content, random, tokens)
    if change not in {1, 2}:
        records[place] = (name, content)
    out = io.BytesIO()
    method = random.choice(
        (zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    )
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in records:
            archive.writestr(zipfile.ZipInfo(name[:60000]), content, method)
    return out.getvalue() if random.random() < 0.8 else blind(out.getvalue(), random, tokens)


def within_safetensors(data: bytes, random: Random, tokens: Sequence[bytes] = ()) -> bytes:
    """Changes a value of the header, and writes its length anew."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return blind(data, random, tokens)
    if random.random() < 0.2:
        return blind(data, random, tokens)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if (
        isinstance(metadata, dict)
        and isinstance(metadata.get("config"), str)
        and random.random() < 0.5
    ):
        try:
            metadata["config"] = json.dumps(_altered(json.loads(metadata["config"]), random))
        except (ValueError, RecursionError):
            metadata["config"] = random.choice(("", "{", "[]", "null", "[" * 5000))
    else:
        header = _altered(header, random)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _altered(node: Any, random: Random) -> Any:
    """One value or name within JSON replaced."""
    if isinstance(node, dict) and node and random.random() < 0.9:
        key = random.choice(list(node))
        change = random.randrange(8)
        if change == 0:
            return {k: v for k, v in node.items() if k != key}
        if change == 1:
            return node | {key + random.choice(("", "x", "\n", "\ud800")): random.choice(_VALUES)}
        return node | {key: _altered(node[key], random)}
    if isinstance(node, list) and node and random.random() < 0.8:
        place = random.randrange(len(node))
        return [*node[:place], _altered(node[place], random), *node[place + 1 :]]
    if isinstance(node, int) and random.random() < 0.5:
        return node + random.choice((-1, 1, 4, 1000))
    return random.choice(_VALUES)


def within_png(data: bytes, random: Random, tokens: Sequence[bytes] = ()) -> bytes:
    """Changes a chunk of a PNG, and its check sum with it; other files blindly."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or random.random() < 0.3:
        return blind(data, random, tokens)
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return blind(data, random, tokens)
    place = random.randrange(len(chunks))
    kind, content = chunks[place]
    change = random.randrange(6)
    if change == 0:
        chunks.insert(random.randrange(len(chunks) + 1), (kind, content))
    elif change == 1:
        del chunks[place]
    elif change == 2 and kind == b"IDAT":
        chunks[place] = (kind, _repacked(content, random, tokens))
    else:
        chunks[place] = (kind, blind(content, random, tokens))
    packed = (
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
    return data[:8] + b"".join(packed)


def _repacked(content: bytes, random: Random, tokens: Sequence[bytes]) -> bytes:
    try:
        return zlib.compress(blind(zlib.decompress(content), random, tokens))
    except zlib.error:
        return blind(content, random, tokens)


def spliced(data: bytes, other: bytes, random: Random) -> bytes:
    """The beginning of one and the end of another."""
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]
