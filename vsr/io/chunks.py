"""Where picture files keep ICC profile, EXIF and dots per inch: PNG, JPEG, WebP, TIFF, BMP.

PNG: W3C PNG, third edition (iCCP, eXIf, pHYs). JPEG: JFIF 1.02 (APP0), EXIF 2.3 (APP1), ICC.1
annex B.4 (APP2). WebP: RFC 9649 (VP8X, ICCP, EXIF). TIFF: revision 6.0, and tag 34675 for ICC.
BMP: the pixels per metre of its header, nothing else.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from vsr.io import tiff
from vsr.io.tiff import Buffer, Entry

_INCH: Final = Fraction(254, 10_000)
"""In metres."""
_CM: Final = Fraction(254, 100)
"""Centimetres of an inch."""
_MOST_ICC: Final = 16 << 20
_MOST_EXIF: Final = 64 << 20

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_REPLACED: Final = frozenset({b"iCCP", b"eXIf", b"pHYs"})
_PNG_COLOR: Final = frozenset({b"sRGB", b"gAMA", b"cHRM", b"cICP"})
"""Chunks that a profile stands in for."""

_EXIF_HEAD: Final = b"Exif\0\0"
_ICC_HEAD: Final = b"ICC_PROFILE\0"
_SEGMENT: Final = 65_533
"""Most bytes of a JPEG segment's data."""
_JFIF_HEAD: Final = b"JFIF\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTags:
    """What a picture file says of its picture beside the samples.

    Attributes:
        icc: The colour profile.
        exif: The payload of EXIF, from its TIFF header on.
        density: Dots per inch along x and y.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    density: tuple[Fraction, Fraction] | None = None

    def __bool__(self) -> bool:
        return bool(self.icc or self.exif or self.density)


def find_tags(data: Buffer) -> PictureTags:
    """Finds the tags in a whole picture file; another kind of file has none.

    Raises:
        ValueError: They are damaged.
    """
    head = bytes(data[:12])
    try:
        if head.startswith(_PNG):
            return _from_png(data)
        if head.startswith(b"\xff\xd8"):
            return _from_jpeg(data)
        if head.startswith(b"RIFF") and head.endswith(b"WEBP"):
            return _from_webp(data)
        if head.startswith((b"II*\0", b"MM\0*")):
            return _from_tiff(data)
        if head.startswith(b"BM"):
            return _from_bmp(data)
    except (struct.error, zlib.error) as error:
        raise ValueError(str(error)) from error
    return PictureTags()


def put_tags(data: bytes, tags: PictureTags) -> tuple[bytes, list[str]]:
    """Puts tags into a whole picture file as FFmpeg's encoders write it.

    Returns:
        The new file, and what its kind cannot hold, in words.

    Raises:
        ValueError: An EXIF payload is damaged.
    """
    if data.startswith(_PNG):
        return _into_png(data, tags), []
    if data.startswith(b"\xff\xd8"):
        return _into_jpeg(data, tags)
    if data.startswith(b"RIFF"):
        return _into_webp(data, tags), []
    if data.startswith(b"II*\0"):
        return _into_tiff(data, tags), []
    named = {"a colour profile": tags.icc, "EXIF": tags.exif}
    lost = [f"BMP does not hold {what}" for what, value in named.items() if value]
    return (_into_bmp(data, tags) if data.startswith(b"BM") else data), lost


# ---- PNG


def _png_chunks(data: Buffer) -> Iterator[tuple[bytes, int, int]]:
    """(type, place and length of the contents) of every chunk before the end of the file."""
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield bytes(data[at + 4 : at + 8]), at + 8, length
        at += 12 + length


def _from_png(data: Buffer) -> PictureTags:
    tags = PictureTags()
    for kind, at, length in _png_chunks(data):
        if kind not in _PNG_REPLACED:
            continue
        contents = bytes(data[at : at + length])
        if kind == b"iCCP":
            _name, _, packed = contents.partition(b"\0")
            unpacker = zlib.decompressobj()
            icc = unpacker.decompress(packed[1:], _MOST_ICC)
            if unpacker.unconsumed_tail or not unpacker.eof:
                msg = "the colour profile is cut off or too large"
                raise ValueError(msg)
            tags = replace(tags, icc=icc)
        elif kind == b"eXIf" and length <= _MOST_EXIF:
            tags = replace(tags, exif=contents.removeprefix(_EXIF_HEAD))
        elif kind == b"pHYs":
            x, y, unit = struct.unpack(">IIB", contents)
            if unit == 1 and x and y:
                tags = replace(tags, density=(x * _INCH, y * _INCH))
    return tags


def _png_chunk(kind: bytes, contents: bytes) -> bytes:
    check = zlib.crc32(kind + contents)
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", check)


def _into_png(data: bytes, tags: PictureTags) -> bytes:
    added = b""
    left_out: set[bytes] = set()
    if tags.icc is not None:
        added += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(tags.icc))
        left_out |= {b"iCCP", *_PNG_COLOR}
    if tags.density is not None:
        x, y = (max(1, round(side / _INCH)) for side in tags.density)
        added += _png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
        left_out.add(b"pHYs")
    if tags.exif is not None:
        added += _png_chunk(b"eXIf", tags.exif)
    parts = [_PNG]
    for kind, at, length in _png_chunks(data):
        if kind not in left_out:
            parts.append(data[at - 8 : at + length + 4])
        if kind == b"IHDR":
            parts.append(added)
    return b"".join(parts)


# ---- JPEG


def _jpeg_segments(data: Buffer) -> Iterator[tuple[int, int, int]]:
    """(marker, place and length of the contents) of every segment before the samples."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in {0xDA, 0xD9}:
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, at + 4, length - 2
        at += 2 + length


def _from_jpeg(data: Buffer) -> PictureTags:
    tags = PictureTags()
    profile: dict[int, bytes] = {}
    for marker, at, length in _jpeg_segments(data):
        if marker not in {0xE0, 0xE1, 0xE2}:
            continue
        contents = bytes(data[at : at + length])
        if marker == 0xE0 and contents.startswith(_JFIF_HEAD) and length >= 12:
            unit, x, y = struct.unpack_from(">BHH", contents, 7)
            if unit in {1, 2} and x and y:
                per = _CM if unit == 2 else Fraction(1)
                tags = replace(tags, density=(x * per, y * per))
        elif marker == 0xE1 and contents.startswith(_EXIF_HEAD):
            tags = replace(tags, exif=contents[len(_EXIF_HEAD) :])
        elif marker == 0xE2 and contents.startswith(_ICC_HEAD) and length >= len(_ICC_HEAD) + 2:
            profile[contents[len(_ICC_HEAD)]] = contents[len(_ICC_HEAD) + 2 :]
    icc = b"".join(profile[k] for k in sorted(profile))
    return replace(tags, icc=icc or None)


def _jpeg_segment(marker: int, contents: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(contents) + 2) + contents


def _into_jpeg(data: bytes, tags: PictureTags) -> tuple[bytes, list[str]]:
    lost: list[str] = []
    rest = 2
    for marker, at, length in _jpeg_segments(data):
        if marker == 0xE0:
            rest = at + length
    head = data[2:rest]
    if tags.density is not None:
        x, y = (max(1, min(round(side), 0xFFFF)) for side in tags.density)
        facts = struct.pack(">HBHHBB", 0x0102, 1, x, y, 0, 0)
        head = _jpeg_segment(0xE0, _JFIF_HEAD + facts)
    if tags.exif is not None:
        if len(tags.exif) + len(_EXIF_HEAD) <= _SEGMENT:
            head += _jpeg_segment(0xE1, _EXIF_HEAD + tags.exif)
        else:
            lost.append(f"JPEG holds no EXIF of {len(tags.exif)} bytes, 65527 are the most")
    if tags.icc is not None:
        room = _SEGMENT - len(_ICC_HEAD) - 2
        parts = [tags.icc[k : k + room] for k in range(0, len(tags.icc), room)]
        if len(parts) > 255:
            lost.append(f"JPEG holds no colour profile of {len(tags.icc)} bytes")
            parts = []
        for number, part in enumerate(parts, 1):
            head += _jpeg_segment(0xE2, _ICC_HEAD + bytes((number, len(parts))) + part)
    return data[:2] + head + data[rest:], lost


# ---- WebP


def _webp_chunks(data: Buffer) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    while at + 8 <= len(data):
        kind = bytes(data[at : at + 4])
        (length,) = struct.unpack_from("<I", data, at + 4)
        yield kind, at + 8, length
        at += 8 + length + length % 2


def _from_webp(data: Buffer) -> PictureTags:
    tags = PictureTags()
    for kind, at, length in _webp_chunks(data):
        if kind == b"ICCP" and length <= _MOST_ICC:
            tags = replace(tags, icc=bytes(data[at : at + length]))
        elif kind == b"EXIF" and length <= _MOST_EXIF:
            exif = bytes(data[at : at + length]).removeprefix(_EXIF_HEAD)
            tags = replace(tags, exif=exif)
    return tags


def _webp_chunk(kind: bytes, contents: bytes) -> bytes:
    return kind + struct.pack("<I", len(contents)) + contents + b"\0" * (len(contents) % 2)


def _into_webp(data: bytes, tags: PictureTags) -> bytes:
    exif = tags.exif
    if exif is None and tags.density is not None:  # WebP says dots per inch by EXIF alone
        exif = tiff.payload(_resolution(tags.density))
    picture = b""
    size, flags = (0, 0), 0
    for kind, at, length in _webp_chunks(data):
        if kind not in {b"VP8X", b"ICCP", b"EXIF"}:
            picture += _webp_chunk(kind, data[at : at + length])
        if kind == b"ALPH":
            flags |= 0x10
        elif kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, at + 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, at + 1)
            size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            flags |= 0x10 * (bits >> 28 & 1)
    flags |= 0x20 * (tags.icc is not None) | 0x08 * (exif is not None)
    width, height = (struct.pack("<I", side - 1)[:3] for side in size)
    body = _webp_chunk(b"VP8X", struct.pack("<I", flags) + width + height)
    body += _webp_chunk(b"ICCP", tags.icc) if tags.icc is not None else b""
    body += picture
    body += _webp_chunk(b"EXIF", exif) if exif is not None else b""
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


# ---- TIFF and BMP


def _resolution(density: tuple[Fraction, Fraction]) -> tiff.Directory:
    x, y = (tiff.rational(side) for side in density)
    return {tiff.X_RESOLUTION: x, tiff.Y_RESOLUTION: y, tiff.RESOLUTION_UNIT: tiff.short(2)}


def _from_tiff(data: Buffer) -> PictureTags:
    found = tiff.read(data)
    kept = {tag: entry for tag, entry in found.items() if tag in tiff.DESCRIPTIVE}
    if tiff.ORIENTATION in found:
        kept[tiff.ORIENTATION] = found[tiff.ORIENTATION]
    return PictureTags(
        icc=found[tiff.ICC].data if tiff.ICC in found else None,
        exif=tiff.payload(kept) if kept else None,
        density=tiff.density(found),
    )


def _into_tiff(data: bytes, tags: PictureTags) -> bytes:
    found = tiff.read(data)
    if tags.exif is not None:
        exif = tiff.read(tags.exif)
        found |= {tag: entry for tag, entry in exif.items() if tag in tiff.DESCRIPTIVE}
    if tags.density is not None:
        found |= _resolution(tags.density)
    if tags.icc is not None:
        found[tiff.ICC] = Entry(tiff.UNDEFINED, tags.icc)
    at = len(data) + len(data) % 2
    body = data[:4] + struct.pack("<I", at) + data[8:]
    return body.ljust(at, b"\0") + tiff.write(found, at)


def _from_bmp(data: Buffer) -> PictureTags:
    (header,) = struct.unpack_from("<I", data, 14)
    if header < 40:
        return PictureTags()
    x, y = struct.unpack_from("<ii", data, 38)
    return PictureTags(density=(x * _INCH, y * _INCH) if x > 0 and y > 0 else None)


def _into_bmp(data: bytes, tags: PictureTags) -> bytes:
    if tags.density is None:
        return data
    x, y = (min(round(side / _INCH), 0x7FFFFFFF) for side in tags.density)
    return data[:38] + struct.pack("<ii", x, y) + data[46:]
