"""Which files go in and what comes out; names that exist are never taken for patterns."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from vsr.errors import SourceError, SourceNotFoundError, UnsupportedSourceError, UsageError

PLACEHOLDER = "{name}"
"""In `-o`: the input's name without its suffix."""
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
_CONTAINER_SUFFIXES = {"matroska": ".mkv", "quicktime": ".mov"}
_SEQUENCE = re.compile(r"%0?\d*d")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


type Source = Path | str
"""A file, or an address as it was typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How outputs are called.

    Attributes:
        output: What `-o` says: a file, a folder, or a pattern with `{name}`; None: beside.
        suffix: Added to the input's name where the name is ours to choose, such as `_x4`.
        extension: Suffix of the file (`.mp4`), None for Matroska, or PNG for a picture.
    """

    output: str | None
    suffix: str
    extension: str | None

    def targets(self, sources: Sequence[Source]) -> list[Path]:
        """The output of every input.

        Raises:
            UsageError: Two outputs would be one file, or an output would be another job's input.
        """
        targets = [self._target(source, alone=len(sources) == 1) for source in sources]
        seen: dict[str, Source] = {}
        inputs = {os.path.realpath(source) for source in sources}
        for source, target in zip(sources, targets, strict=True):
            place = os.path.realpath(target)
            if place in seen:
                msg = f"{seen[place]} and {source} would both become {target}: use another -o"
                raise UsageError(msg)
            if len(sources) > 1 and place in inputs:
                msg = f"the output {target} is one of the inputs: use another -o or --suffix"
                raise UsageError(msg)
            seen[place] = source
        return targets

    def _target(self, given: Source, *, alone: bool) -> Path:
        source = given if isinstance(given, Path) else _local_name(given)
        name = f"{source.stem}{self.suffix}{self.extension or self._usual(source)}"
        if self.output is None:
            return source.with_name(name)
        if self._is_folder(self.output):
            return Path(self.output) / name
        if PLACEHOLDER in self.output:
            return self._checked(Path(self.output.replace(PLACEHOLDER, source.stem)))
        if not alone:
            msg = f"several inputs need a folder or {PLACEHOLDER} in -o, got {self.output!r}"
            raise UsageError(msg)
        return self._checked(Path(self.output))

    def _checked(self, target: Path) -> Path:
        if self.extension and target.suffix.lower() != self.extension.lower():
            ext = self.extension.lstrip(".")
            msg = f"-o {target} and --ext or --container {ext} contradict: leave one out"
            raise UsageError(msg)
        return target

    @staticmethod
    def _is_folder(output: str) -> bool:
        if Path(output).is_dir():
            return True
        if output.endswith((os.sep, os.altsep or os.sep)):
            msg = f"the output folder {output} does not exist: create it first"
            raise UsageError(msg)
        return False

    @staticmethod
    def _usual(source: Path) -> str:
        return ".png" if source.suffix.lower() in _PICTURES else ".mkv"


def _local_name(address: str) -> Path:
    """Where a file of that address would lie if it were here."""
    return Path(PurePosixPath(urlsplit(address).path).name or "video")


def extension(ext: str | None, container: str | None) -> str | None:
    """The output's suffix as `--ext` or `--container` ask for it, with its dot.

    Raises:
        UsageError: Not a suffix.
    """
    if ext is not None and ext.lower() != "auto":
        if not re.fullmatch(r"\.?[A-Za-z0-9]{1,8}", ext):
            msg = f"--ext takes a suffix such as mkv or mp4, got {ext!r}"
            raise UsageError(msg)
        return f".{ext.lstrip('.')}"
    return _CONTAINER_SUFFIXES.get(container, f".{container}") if container else None


def expand(texts: Iterable[str], *, allow_url: bool = False) -> list[Source]:
    """Turns what was typed into files that exist, patterns in alphabetical order, each file once.

    Raises:
        SourceNotFoundError: A name or pattern without a file.
        UnsupportedSourceError: A folder, a sequence, standard input, or an unwanted address.
    """
    found: dict[str, Source] = {}
    for text in texts:
        for path in _expand_one(text, allow_url=allow_url):
            found.setdefault(str(path), path)
    return list(found.values())


def _expand_one(text: str, *, allow_url: bool) -> Sequence[Source]:
    if os.path.lexists(text):
        return [_checked_file(Path(text))]
    if _ADDRESS.match(text):
        if allow_url:
            return [text]
        msg = f"{text!r} looks like an address: add --allow-url to open it"
        raise UnsupportedSourceError(msg)
    if text == "-":
        msg = "`vsr upscale` reads files, not standard input: name a file"
        raise UnsupportedSourceError(msg)
    if _SEQUENCE.search(text):
        msg = f"{text!r} is no file, and only pictures can be numbered"
        raise UnsupportedSourceError(msg)
    magic = glob.has_magic(text)
    matches = sorted(glob.glob(text, recursive=True)) if magic else []  # noqa: PTH207 - as spelt
    files = [Path(match) for match in matches if not Path(match).is_dir()]
    if not files:
        msg = f"no file matches {text!r}" if magic else f"no such file: {text}"
        raise SourceNotFoundError(msg)
    return files


def _checked_file(path: Path) -> Path:
    try:
        path.stat()
    except OSError as error:
        kind = SourceNotFoundError if isinstance(error, FileNotFoundError) else SourceError
        msg = f"cannot read {path}: {error.strerror}"
        raise kind(msg) from error
    if path.is_dir():
        msg = f"{path} is a folder: only `vsr upscale` takes folders, of pictures"
        raise UnsupportedSourceError(msg)
    return path
