"""Tells whether a source is still the same."""

import hashlib
import os
from pathlib import Path
from typing import Final

from vsr.errors import SourceError
from vsr.io.folder import Stills

_WHOLE: Final = 256 << 20
_SAMPLES: Final = 256
_SAMPLE: Final = 1 << 20
_DIGITS: Final = 16


def identity(source: Path | Stills) -> str:
    """Describes a source's content in a few words that change when it does.

    Of a large file only samples are read, and the time of its last change counts too; pictures are
    told by names, sizes and times.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        if isinstance(source, Stills):
            return _of_pictures(source)
        return _of_file(source)
    except OSError as error:
        msg = f"{source} cannot be read: {error.strerror or error}"
        raise SourceError(msg) from error


def _of_pictures(source: Stills) -> str:
    digest = hashlib.sha256()
    for path in source.paths:
        facts = path.stat()
        digest.update(f"{path.name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return f"{len(source.paths)} pictures at {source.rate} fps ({digest.hexdigest()[:_DIGITS]})"


def _of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_size <= _WHOLE:
            while block := file.read(_SAMPLE):
                digest.update(block)
        else:
            digest.update(str(facts.st_mtime_ns).encode())
            for number in range(_SAMPLES):
                file.seek((facts.st_size - _SAMPLE) * number // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return f"{facts.st_size} bytes ({digest.hexdigest()[:_DIGITS]})"
