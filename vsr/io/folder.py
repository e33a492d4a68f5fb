"""Folders and numbered series of pictures: what is in them, in the order people mean."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr.errors import SourceError, SourceNotFoundError, UsageError

_SUFFIXES: Final = """
    .png .jpg .jpeg .jpe .jfif .webp .tif .tiff .bmp .dib .exr .dpx .hdr .tga .jp2 .j2k .jls .jxl
    .pbm .pgm .ppm .pnm .pam .pfm .phm .pcx .psd .qoi .sgi .dds .ras .avif
"""
READABLE: Final = frozenset(_SUFFIXES.split())
"""Suffixes of still pictures that are looked for in a folder; content decides when reading."""
_NUMBER: Final = re.compile(r"%(0?)([0-9]{0,3})d")
"""A place for a number; no name is as wide as four digits say."""


def is_picture(path: Path) -> bool:
    """Whether a file name is that of a still picture."""
    return path.suffix.lower() in READABLE


def natural_key(path: Path) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Sorts names as people number them: 9 before 10, folder by folder."""
    return tuple(_natural(part) for part in path.parts)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.split(r"([0-9]+)", name.casefold())
    # every second part is digits; what else `isdigit` takes, such as ², is no number
    keyed = [(1, int(p), "") if k % 2 else (0, 0, p) for k, p in enumerate(parts) if p]
    return (*keyed, (-1, 0, name))


def pictures_in(
    folder: Path, *, recursive: bool = False, besides: Path | None = None
) -> list[Path]:
    """Lists the pictures of a folder in natural order; hidden files and folders are passed over.

    Args:
        folder: To look into.
        recursive: Whether folders in it are looked into as well; links to folders are not.
        besides: A folder that is passed over.

    Raises:
        SourceError: There is none, or the folder cannot be read.
    """
    found = sorted(_walk(folder, besides, recursive=recursive), key=natural_key)
    if not found:
        deeper = "" if recursive else "; -r looks into the folders in it"
        msg = f"{folder} holds no pictures (such as .png, .jpg, .webp, .tif){deeper}"
        raise SourceError(msg)
    return found


def _walk(folder: Path, besides: Path | None, *, recursive: bool) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror}"
        raise SourceError(msg) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if is_picture(entry) and entry.is_file():
            yield entry
        elif (
            recursive and entry.is_dir() and not entry.is_symlink() and entry.absolute() != besides
        ):
            yield from _walk(entry, besides, recursive=True)


def is_pattern(text: str) -> bool:
    """Whether a file name has a place for a number, such as `%06d`."""
    return _NUMBER.search(Path(text).name) is not None


def numbered(pattern: Path, number: int) -> Path:
    """The file of a series: `%06d` in the name becomes the number."""
    return pattern.with_name(_NUMBER.sub(lambda m: _spelled(m, number), pattern.name, count=1))


def _spelled(match: re.Match[str], number: int) -> str:
    width = int(match[2] or 0)
    return str(number).rjust(width, "0" if match[1] else " ")


def series(pattern: Path) -> dict[int, Path]:
    """Finds the files of a numbered series, lowest number first.

    Raises:
        SourceNotFoundError: There is none.
        SourceError: The folder cannot be read.
    """
    match = _NUMBER.search(pattern.name)
    if match is None:
        msg = f"{pattern} has no place for a number; write one such as %06d"
        raise UsageError(msg)
    head, tail = pattern.name[: match.start()], pattern.name[match.end() :]
    name = re.compile(re.escape(head) + r" *([0-9]+)" + re.escape(tail))
    found: dict[int, Path] = {}
    try:
        entries = list(pattern.parent.iterdir())
    except FileNotFoundError as error:
        msg = f"no such folder: {pattern.parent}"
        raise SourceNotFoundError(msg) from error
    except OSError as error:
        msg = f"{pattern.parent} cannot be read: {error.strerror}"
        raise SourceError(msg) from error
    for entry in entries:
        fitting = name.fullmatch(entry.name)
        if fitting and numbered(pattern, int(fitting[1])).name == entry.name:
            found[int(fitting[1])] = entry
    if not found:
        msg = f"no file matches {pattern}, such as {numbered(pattern, 1).name}"
        raise SourceNotFoundError(msg)
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Stills:
    """Pictures that follow each other as the frames of a film.

    Attributes:
        paths: In order; at least one.
        rate: Frames per second, exact.
        name: For people: the folder or pattern.
    """

    paths: tuple[Path, ...]
    rate: Fraction
    name: str

    def __str__(self) -> str:
        return self.name


def common_folder(paths: Sequence[Path]) -> Path:
    """The folder that all of some files lie in, at any depth."""
    first, *rest = (path.absolute().parent for path in paths)
    while not all(folder.is_relative_to(first) for folder in rest):
        first = first.parent
    return first
