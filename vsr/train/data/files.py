"""Which files there are, and what names them for good. Free of torch."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from vsr.errors import SourceError, SourceNotFoundError
from vsr.io.folder import is_picture, natural_key
from vsr.io.workers import ordered
from vsr.train.data.settings import DataSettings

_VIDEO_SUFFIXES: Final = """
    .mkv .webm .mp4 .m4v .mov .3gp .avi .ts .m2ts .mts .mpg .mpeg .vob .flv .asf .wmv .ogv .nut .mxf
    .y4m .ivf .h264 .264 .h265 .hevc .m2v .dv .rm .gif
"""
VIDEOS: Final = frozenset(_VIDEO_SUFFIXES.split())
"""Suffixes of what is read as a video."""
_READERS: Final = 4


def is_video(path: Path) -> bool:
    """Whether a file name is that of a video."""
    return path.suffix.lower() in VIDEOS


def media_in(root: Path) -> list[tuple[str, Path]]:
    """Lists pictures and videos of a folder at any depth, in natural order, with their names.

    Hidden files and folders are passed over. A file is itself.

    Returns:
        Names relative to the folder, with slashes, and paths.

    Raises:
        SourceNotFoundError: There is no such folder.
        SourceError: It holds neither, or cannot be read.
    """
    if root.is_file():
        return [(root.name, root)]
    if not root.is_dir():
        msg = f"{root} does not exist: a folder of pictures or videos is expected"
        raise SourceNotFoundError(msg)
    try:
        found = sorted(_walk(root), key=natural_key)
    except OSError as error:
        msg = f"{error.filename} cannot be read: {error.strerror}"
        raise SourceError(msg) from error
    if not found:
        msg = f"{root} holds no pictures or videos (such as .png, .jpg, .mkv, .mp4)"
        raise SourceError(msg)
    return [(path.relative_to(root).as_posix(), path) for path in found]


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _walk(entry)
        elif (is_picture(entry) or is_video(entry)) and entry.is_file():
            yield entry


def fingerprint(settings: DataSettings) -> str:
    """Names the data for good: sha256 of all files' names and contents.

    Equal folders have equal fingerprints wherever they lie.

    Raises:
        SourceError: A folder or file cannot be read.
    """
    digest = hashlib.sha256()
    roots = [*settings.folders, *([settings.lows] if settings.lows is not None else [])]
    for root in roots:
        files = media_in(root)
        digest.update(f"{len(files)}\n".encode())
        _add(digest, files)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", files: Sequence[tuple[str, Path]]) -> None:
    contents = ordered(_digest, [path for _, path in files], _READERS, "vsr-hash")
    for (name, _), content in zip(files, contents, strict=True):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + content)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise SourceError(msg) from error
