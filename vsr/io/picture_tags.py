"""Carries ICC profile, EXIF and dots per inch from one picture file to another.

FFmpeg's encoders write none of the three, so they are found in the bytes of the source and put into
the bytes of the result; `vsr.io.chunks` knows where each kind of file keeps them.
"""

import logging
import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from vsr.io import tiff
from vsr.io.chunks import PictureTags, find_tags, put_tags
from vsr.types import Family

_log = logging.getLogger(__name__)

_SPACES: Final[dict[Family, bytes]] = {"rgb": b"RGB ", "yuv": b"RGB ", "gray": b"GRAY"}
"""What an ICC profile calls the colour space of its pictures."""
_SMALLEST: Final = 26
"""Bytes of a BMP without a pixel."""


def read_tags(path: Path) -> PictureTags:
    """Reads the tags of a file; what is no picture has none, and damaged ones are left out."""
    if not path.is_file() or path.stat().st_size < _SMALLEST:
        return PictureTags()
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            tags = find_tags(view)
        return _checked(tags)
    except ValueError as error:
        _log.warning("%s: profile, EXIF or dots per inch are damaged and dropped: %s", path, error)
        return PictureTags()


def _checked(tags: PictureTags) -> PictureTags:
    if tags.exif is None:
        return tags
    tiff.upright(tags.exif, (1, 1))
    found = tiff.read(tags.exif)
    return tags if tags.density else replace(tags, density=tiff.density(found))


def tags_for(
    tags: PictureTags, size: tuple[int, int], family: Family, warn: Callable[[str], None]
) -> PictureTags:
    """Makes the tags of the result, whose samples lie upright, from those of the source.

    Args:
        tags: From `read_tags`.
        size: Width and height of the result.
        family: Of its pixel format; a profile of another colour space is left out.
        warn: Told what is lost.
    """
    icc, exif, density = tags.icc, tags.exif, tags.density
    if icc is not None and icc[16:20] != _SPACES[family]:
        space = icc[16:20].decode("latin-1").strip()
        warn(f"a {space} colour profile does not fit a {family} picture: it is dropped")
        icc = None
    if exif is not None:
        turned = tiff.orientation(exif) >= 5
        density = (density[1], density[0]) if turned and density else density
        exif = _upright(exif, size, warn)
    return PictureTags(icc=icc, exif=exif, density=density)


def _upright(exif: bytes, size: tuple[int, int], warn: Callable[[str], None]) -> bytes | None:
    """As `tiff.upright`; None for a payload that is damaged, or would be by the new values."""
    try:
        made = tiff.upright(exif, size)
        tiff.read(made)
    except ValueError as error:
        warn(f"EXIF is damaged ({error}): it is dropped")
        return None
    return made


def with_tags(data: bytes, tags: PictureTags, warn: Callable[[str], None]) -> bytes:
    """Puts tags into an encoded picture.

    Args:
        data: The whole file: PNG, JPEG, WebP, TIFF or BMP.
        tags: From `tags_for`.
        warn: Told what this kind of file cannot hold.

    Returns:
        The whole file.
    """
    if not tags:
        return data
    made, lost = put_tags(data, tags)
    for what in lost:
        warn(f"{what}: it is dropped")
    return made
