"""Tells whether a worker's machine has the same source under the same name."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from vsr.io.folder import Stills
from vsr.parts import Part

_SAMPLE: Final = 1 << 16
_SAMPLES: Final = 16
"""Of a film; a picture is looked at where it begins and where it ends."""
_DIGEST: Final = 16


def files_of(source: Path | Stills, part: Part) -> list[tuple[int, Path]]:
    """The files that a part needs, each with its place in the source.

    Of pictures the first one always is, for it tells the layout of all.
    """
    if not isinstance(source, Stills):
        return [(0, source)]
    if part.times is None:
        return list(enumerate(source.paths))
    chosen = sorted({0, *range(part.times[0], part.times[-1] + 1)})
    return [(number, source.paths[number]) for number in chosen]


def likeness(paths: Sequence[Path]) -> str:
    """Describes files by their sizes and samples, wherever they lie and whenever they came there.

    Raises:
        OSError: One cannot be read.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for path in paths:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(size.to_bytes(8))
            for at in _places(size, _SAMPLES if len(paths) == 1 else 2):
                file.seek(at)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _places(size: int, samples: int) -> Iterable[int]:
    last = max(0, size - _SAMPLE)
    return sorted({last * number // (samples - 1) for number in range(samples)})
