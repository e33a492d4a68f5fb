"""Brings sources to machines that do not see them: what is needed, once, a little at a time."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsr.cluster.copies import Copy, Load, copy_of, digest_of, paths_of
from vsr.cluster.crew import Errand
from vsr.cluster.likeness import files_of
from vsr.cluster.workdir import WorkDir
from vsr.errors import SourceError, SourceNotFoundError
from vsr.io.extents import extents
from vsr.io.folder import Stills
from vsr.recording import from_plain

BLOCK: Final = 1 << 17
"""Bytes that travel together or not at all."""
_LOAD: Final = 16 << 20
"""Most bytes of one message."""

type Blocks = NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class _Sent:
    """What one machine has of a film: by file, the blocks that are there or on their way."""

    there: dict[int, Blocks] = field(default_factory=dict)
    coming: dict[int, Blocks] = field(default_factory=dict)


class Shipping:
    """Knows which machines are blind for which films, and what each has of them.

    Attributes:
        used: Whether any machine ever was.
    """

    def __init__(self) -> None:
        self.used = False
        self._sent: dict[tuple[str, int], _Sent] = {}
        self._sizes: dict[int, dict[int, int]] = {}
        self._needs: dict[tuple[int, int, int], dict[int, Blocks]] = {}

    def blind(self, machine: str, errand: Errand) -> bool:
        """Whether a machine gets a film's source from here."""
        return (machine, errand.film) in self._sent

    def learn(self, machine: str, errand: Errand) -> None:
        """Remembers that a machine does not see a film's source, and has nothing of it."""
        self._sent[machine, errand.film] = _Sent()
        self.used = True

    def addressed(self, errand: Errand) -> Errand:
        """The errand with the place of the copy."""
        return replace(errand, copy=_copy(errand))

    def complete(self, machine: str, errand: Errand) -> bool:
        """Whether a machine has what an errand needs.

        Raises:
            SourceError: The source cannot be read.
        """
        if errand.part is None:
            return True
        sent = self._sent[machine, errand.film]
        whole = all(
            number in sent.there and not (blocks & ~sent.there[number]).any()
            for number, blocks in self._needed(errand).items()
        )
        if whole:
            self._needs.pop(_key(errand), None)
        return whole

    def load(self, machine: str, errand: Errand) -> Load | None:
        """The next bytes to send for an errand; None if all are there or on their way.

        Raises:
            SourceError: The source cannot be read.
            SinkError: The shared place cannot be written.
        """
        sent = self._sent[machine, errand.film]
        for number, blocks in self._needed(errand).items():
            for known in (sent.there, sent.coming):
                known.setdefault(number, np.zeros(len(blocks), bool))
            missing = np.flatnonzero(blocks & ~sent.there[number] & ~sent.coming[number])
            if len(missing):
                chosen = missing[: _LOAD // BLOCK]
                load = _load(errand, number, chosen, self._sizes[errand.film][number])
                sent.coming[number][chosen] = True
                return load
        return None

    def arrived(self, machine: str, film: int, load: Load) -> None:
        """Remembers that bytes are there."""
        if (sent := self._back(machine, film, load)) is not None:
            for begin, length in load.pieces:
                sent.there[load.number][_span(begin, length)] = True

    def lost(self, machine: str, film: int, load: Load) -> None:
        """Remembers that bytes did not arrive."""
        self._back(machine, film, load)

    def _back(self, machine: str, film: int, load: Load) -> _Sent | None:
        if load.parcel is not None and load.place is not None:
            WorkDir(load.place).drop(load.parcel.name)
        sent = self._sent.get((machine, film))
        if sent is None or load.number not in sent.coming:
            return None
        for begin, length in load.pieces:
            sent.coming[load.number][_span(begin, length)] = False
        return sent

    def forget(self, film: int) -> set[str]:
        """Forgets a film that is done.

        Returns:
            Machines that have a copy of it.
        """
        gone = [key for key in self._sent if key[1] == film]
        for key in gone:
            del self._sent[key]
        self._sizes.pop(film, None)
        for need in [need for need in self._needs if need[0] == film]:
            del self._needs[need]
        return {key[0] for key in gone}

    def _needed(self, errand: Errand) -> dict[int, Blocks]:
        key = _key(errand)
        if key not in self._needs:
            self._needs[key] = _needed(errand, self._sizes.setdefault(errand.film, {}))
        return self._needs[key]


def _key(errand: Errand) -> tuple[int, int, int]:
    return errand.film, -1 if errand.part is None else errand.part.number, errand.era


def _copy(errand: Errand) -> Copy:
    return copy_of(errand.film, from_plain(errand.recipe.job["source"]))


def _span(begin: int, length: int) -> slice:
    """The blocks of a piece; one for an empty file."""
    return slice(begin // BLOCK, max(begin // BLOCK + 1, -(-(begin + length) // BLOCK)))


def _needed(errand: Errand, sizes: dict[int, int]) -> dict[int, Blocks]:
    """By file, the blocks that an errand needs.

    Args:
        errand: Which.
        sizes: By file, as they are known; others are added.

    Raises:
        SourceError: The source cannot be read.
    """
    source, part = from_plain(errand.recipe.job["source"]), errand.part
    if part is None:
        return {}
    try:
        chosen = files_of(source, part)
        for number, path in chosen:
            _check_size(path, path.stat().st_size, sizes.setdefault(number, path.stat().st_size))
    except OSError as error:
        raise _gone(source, error) from error
    found = {number: np.ones(max(1, -(-sizes[number] // BLOCK)), bool) for number, _ in chosen}
    if part.times is None or isinstance(source, Stills):
        return found
    options = from_plain(errand.recipe.options)
    spans = extents(
        source,
        options.stream,
        first=part.first,
        start=(*part.before, *part.times)[0],
        until=part.following,
        max_pixels=options.max_pixels,
        threads=options.threads,
    )
    found[0][:] = False
    for begin, end in spans:
        found[0][_span(begin, end - begin)] = True
    return found


def _check_size(path: Path, now: int, known: int) -> None:
    """A file that grows or shrinks is none that can be copied piece by piece.

    Raises:
        SourceError: It does.
    """
    if now != known:
        msg = f"{path} had {known} bytes, now it has {now}: wait until nobody writes it any more"
        raise SourceError(msg)


def _load(errand: Errand, number: int, blocks: NDArray[np.intp], size: int) -> Load:
    """Reads blocks of a file.

    Args:
        errand: Who needs them.
        number: Of the file.
        blocks: Which, ascending.
        size: Of the file.

    Raises:
        SourceError: The source cannot be read.
        SinkError: The shared place cannot be written.
    """
    source = from_plain(errand.recipe.job["source"])
    path = paths_of(source)[number]
    pieces, data = [], bytearray()
    try:
        with path.open("rb") as file:
            _check_size(path, file.seek(0, os.SEEK_END), size)
            for first, last in _runs(blocks):
                begin = file.seek(first * BLOCK)
                piece = file.read((last + 1 - first) * BLOCK)
                pieces.append((begin, len(piece)))
                data += piece
    except OSError as error:
        raise _gone(source, error) from error
    load = Load(
        copy=_copy(errand),
        number=number,
        size=size,
        pieces=tuple(pieces),
        digest=digest_of(bytes(data)),
    )
    if errand.place is None:
        return replace(load, data=bytes(data))
    parcel = WorkDir(errand.place).put(bytes(data), suffix=".load")
    return replace(load, parcel=parcel, place=errand.place)


def _runs(blocks: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """First and last of each run of neighbours."""
    for run in np.split(blocks, np.flatnonzero(np.diff(blocks) > 1) + 1):
        yield int(run[0]), int(run[-1])


def _gone(source: Path | Stills, error: OSError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        msg = f"{source} is not there any more, and a node of the cluster does not see it either"
        return SourceNotFoundError(msg)
    msg = f"{source} cannot be read: {error.strerror or error}"
    return SourceError(msg)
