"""Folders, series and patterns of pictures: which go in, and what each becomes."""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vsr.cli.naming import PLACEHOLDER, Naming
from vsr.cli.settings import job_from
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.folders import FolderJob
    from vsr.planning import UpscaleJob


@dataclass(frozen=True, slots=True)
class Page:
    """One picture of an album.

    Attributes:
        path: The file.
        place: Its folder within the folder that was named.
        number: In its series, None if it belongs to none.
    """

    path: Path
    place: Path = Path()
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Album:
    """All pictures that were named, in order.

    Attributes:
        pages: At least one.
        name: For people.
        folder: The folder, if exactly one was named.
        alone: Whether exactly one file was named, by its own name.
    """

    pages: Sequence[Page]
    name: str
    folder: Path | None
    alone: bool


def gather(
    texts: Sequence[str], *, recursive: bool = False, output: str | None = None
) -> Album | None:
    """Finds the pictures that were meant, if only pictures were.

    Args:
        texts: As typed: folders, series such as `%06d.png`, patterns, files.
        recursive: Whether folders are looked into at all depths.
        output: As typed; pictures in it are no inputs.

    Returns:
        None if something else than pictures was named.

    Raises:
        UsageError: Folders or series beside other things, or `-r` without a folder.
        SourceError: A folder or series without pictures.
    """
    found = [_pages(text, recursive=recursive, output=output) for text in texts]
    folders = [text for text in texts if Path(text).is_dir()]
    if recursive and not folders:
        msg = f"-r looks into folders, but {texts[0]!r} is none: leave -r out"
        raise UsageError(msg)
    pages = [page for part in found if part is not None for page in part]
    others = [text for text, part in zip(texts, found, strict=True) if part is None]
    if others:
        whole = [text for text in texts if text in folders or any(p.number for p in pages)]
        if whole:
            msg = f"{whole[0]} and {others[0]} cannot go together: one command for each"
            raise UsageError(msg)
        return None
    once = list({str(page.path): page for page in pages}.values())
    folder = Path(folders[0]) if folders and len(texts) == 1 else None
    alone = len(texts) == 1 and texts[0] == str(once[0].path)
    return Album(once, texts[0] if len(texts) == 1 else f"{len(once)} pictures", folder, alone)


def _pages(text: str, *, recursive: bool, output: str | None) -> list[Page] | None:
    from vsr.io.folder import is_pattern, is_picture, natural_key, pictures_in, series  # noqa: PLC0415

    path = Path(text)
    if path.is_dir():
        besides = Path(output).absolute() if output else None
        listed = pictures_in(path, recursive=recursive, besides=besides)
        return [Page(found, found.parent.relative_to(path)) for found in listed]
    if os.path.lexists(text):
        return [Page(path)] if is_picture(path) else None
    if is_pattern(text) and is_picture(path):
        return [Page(found, number=number) for number, found in series(path).items()]
    if not glob.has_magic(text):
        return None
    matches = [Path(match) for match in glob.glob(text, recursive=True)]  # noqa: PTH207 - as spelt
    files = sorted((match for match in matches if not match.is_dir()), key=natural_key)
    return [Page(file) for file in files] if files and all(map(is_picture, files)) else None


type Kind = Literal["folder", "series", "each", "picture", "video"]


def kind_of(output: str | None) -> Kind:
    """What `-o` asks for.

    Raises:
        ContainerError: A file of no known kind.
    """
    from vsr.io.containers import container_of  # noqa: PLC0415 - only for pictures
    from vsr.io.folder import is_pattern  # noqa: PLC0415
    from vsr.io.picture_encoders import is_image  # noqa: PLC0415

    if output is None or PLACEHOLDER in output:
        return "each"
    path = Path(output)
    if path.is_dir() or output.endswith((os.sep, os.altsep or os.sep)) or not path.suffix:
        return "folder"
    if is_image(path):
        return "series" if is_pattern(output) else "picture"
    container_of(path, None)
    return "video"


def film(album: Album, values: Mapping[str, Any]) -> "UpscaleJob":
    """The job that makes a video of pictures.

    Raises:
        UsageError: The rate is missing, or an excerpt was asked for.
    """
    from vsr.io.folder import Stills  # noqa: PLC0415 - only for pictures

    if values["fps"] is None:
        msg = "a video of pictures needs a rate: add --fps, such as --fps 24"
        raise UsageError(msg)
    if values["start"] is not None or values["end"] is not None:
        msg = "--start and --end belong to videos: name the pictures that are meant instead"
        raise UsageError(msg)
    stills = Stills(tuple(page.path for page in album.pages), values["fps"], album.name)
    return job_from(values, stills, Path(values["output"]))


def folder_job(album: Album, values: Mapping[str, Any], naming: Naming) -> "FolderJob":
    """The job that makes a picture of every picture.

    Raises:
        UsageError: Names that clash, or an option that belongs to videos.
    """
    from vsr.folders import FolderJob  # noqa: PLC0415 - torch may come with it
    from vsr.io.folder import common_folder  # noqa: PLC0415

    if values["fps"] is not None:
        msg = "--fps belongs to folders of pictures that become a video: -o FILE.mkv"
        raise UsageError(msg)
    kind = kind_of(naming.output)
    if kind == "picture" and len(album.pages) > 1:
        msg = (
            f"{album.name} holds {len(album.pages)} pictures, but -o names one: "
            "use a folder, FOLDER/%06d.png or FILE.mkv"
        )
        raise UsageError(msg)
    root = _root(album, naming, kind)
    targets = [
        _target(page, index, naming, kind, root, values)
        for index, page in enumerate(album.pages, 1)
    ]
    folder = root if root is not None else common_folder(targets)
    pairs = tuple(zip((page.path for page in album.pages), targets, strict=True))
    return FolderJob(
        pairs=pairs, target=folder, how=job_from(values, album.pages[0].path, targets[0])
    )


def _root(album: Album, naming: Naming, kind: Kind) -> Path | None:
    """The folder that mirrors the named one; None where names are made in another way."""
    if kind == "folder":
        return Path(naming.output or "")
    if naming.output is None and album.folder is not None:
        named = album.folder.absolute()
        return album.folder.parent / f"{named.name}{naming.suffix or '_upscaled'}"
    return None


def _target(
    page: Page,
    index: int,
    naming: Naming,
    kind: Kind,
    root: Path | None,
    values: Mapping[str, Any],
) -> Path:
    from vsr.io.folder import numbered  # noqa: PLC0415 - only for pictures

    path, output = page.path, naming.output or ""
    extension = _extension(path, values["ext"], naming)
    if root is not None:
        suffix = f"_{values['suffix']}" if values["suffix"] else ""
        return root / page.place / f"{path.stem}{suffix}{extension}"
    match kind:
        case "series":
            return numbered(Path(output), index if page.number is None else page.number)
        case "picture":
            return Path(output)
        case "each" if output:
            return Path(output.replace(PLACEHOLDER, path.stem))
    return path.with_name(f"{path.stem}{naming.suffix}{extension}")


def _extension(path: Path, ext: str | None, naming: Naming) -> str:
    """PNG if nothing is said; with `auto` the picture's own, if that can be written."""
    from vsr.io.picture_encoders import is_image  # noqa: PLC0415 - only for pictures

    if ext is not None and ext.lower() == "auto":
        return path.suffix if is_image(path) else ".png"
    return naming.extension or ".png"
