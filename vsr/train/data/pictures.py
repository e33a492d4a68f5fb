"""Decoded pictures: stills, and frames of videos, through the reader that upscaling uses.

Everything is decoded once at the beginning, so that what is broken or too small is known, and left
out with one line, before a run of days begins. Decoded pictures are kept as long as there is room.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor

from vsr.engine.convert import frame_to_rgb
from vsr.errors import SourceError
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.stills import read_still
from vsr.io.workers import ordered
from vsr.train.data.files import is_video, media_in
from vsr.train.data.settings import DataSettings
from vsr.types import Frame

_log = logging.getLogger(__name__)

_READERS: Final = 2


@dataclass(frozen=True, slots=True)
class Unit:
    """A picture that crops are cut from.

    Attributes:
        name: Relative to its folder, without suffix; of a frame, with its number.
        path: The file.
        height: Rows.
        width: Columns.
        seconds: Time of a video's frame after the first one, None for stills.
    """

    name: str
    path: Path
    height: int
    width: int
    seconds: Fraction | None = None


class Pictures:
    """A list of pictures and those of them that are in memory.

    Args:
        units: What there is.
        cache: Most bytes kept.
    """

    def __init__(self, units: Sequence[Unit], cache: int) -> None:
        self.units = tuple(units)
        self._most = cache
        self._bytes = 0
        self._kept: OrderedDict[Unit, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self.units)

    def __getstate__(self) -> dict[str, Any]:
        """A worker process that is started and not forked begins with an empty cache."""
        return {**self.__dict__, "_kept": OrderedDict(), "_bytes": 0}

    def read(self, unit: Unit) -> Tensor:
        """Decodes a picture, or finds it in memory.

        Returns:
            uint8 (3, H, W), RGB; do not write to it.

        Raises:
            SourceError: It could be read at first, and no longer.
        """
        if unit in self._kept:
            self._kept.move_to_end(unit)
            return self._kept[unit]
        picture = _still(unit.path) if unit.seconds is None else _frame(unit.path, unit.seconds)
        if tuple(picture.shape[1:]) != (unit.height, unit.width):
            msg = f"{unit.path} has changed since the run began: leave the data as they are"
            raise SourceError(msg)
        self.keep(unit, picture)
        return picture

    def keep(self, unit: Unit, picture: Tensor) -> None:
        """Remembers a picture and forgets those that were not used for longest."""
        if picture.nbytes > self._most:
            return
        self._kept[unit] = picture
        self._bytes += picture.nbytes
        while self._bytes > self._most:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.nbytes

    def fits(self, size: int) -> bool:
        """Whether so many bytes find room without something being forgotten."""
        return self._bytes + size <= self._most

    def only(self, units: Sequence[Unit]) -> Self:
        """Takes these units only, in this order."""
        self.units = tuple(units)
        return self


def survey(roots: Sequence[Path], settings: DataSettings, smallest: int) -> Pictures:
    """Reads everything once; what is broken or too small is told of in one line and left out.

    Args:
        roots: Folders or files.
        settings: Frames per video, and how much is kept in memory.
        smallest: Fewest rows and columns of a picture.

    Raises:
        SourceError: A folder cannot be read, or nothing is left.
    """
    found = Pictures([], settings.cache << 20)
    units: list[Unit] = []
    files = [entry for root in roots for entry in media_in(root)]
    decode = partial(_decoded, settings=settings)
    for (_, path), result in zip(
        files, ordered(decode, files, _READERS, "vsr-survey"), strict=True
    ):
        if isinstance(result, SourceError):
            told = str(result)
            _log.warning("left out: %s", told if str(path) in told else f"{path}: {told}")
            continue
        for unit, picture in result:
            if min(unit.height, unit.width) < smallest:
                size = f"{unit.width}x{unit.height}"
                _log.warning("left out: %s is %s, below %d pixels", path, size, smallest)
                break
            units.append(unit)
            if found.fits(picture.nbytes):
                found.keep(unit, picture)
    if not units:
        places = ", ".join(map(str, roots))
        msg = f"no picture of {smallest} pixels or more can be read in {places}: give others"
        raise SourceError(msg)
    return found.only(units)


def _decoded(
    file: tuple[str, Path], settings: DataSettings
) -> list[tuple[Unit, Tensor]] | SourceError:
    """All that is taken of a file, or why it cannot be."""
    name, path = Path(file[0]).with_suffix("").as_posix(), file[1]
    made: list[tuple[Unit, Tensor]] = []
    try:
        if not is_video(path):
            picture = _still(path)
            return [(_unit(name, path, picture), picture)]
        for number, (seconds, picture) in enumerate(_frames(path, settings)):
            made.append((_unit(f"{name}#{number}", path, picture, seconds), picture))
    except SourceError as error:
        return error
    return made


def _unit(name: str, path: Path, picture: Tensor, seconds: Fraction | None = None) -> Unit:
    return Unit(name, path, picture.shape[1], picture.shape[2], seconds)


def _still(path: Path) -> Tensor:
    return _tensor(read_still(path).frame)


def _frames(path: Path, settings: DataSettings) -> Iterator[tuple[Fraction, Tensor]]:
    """Frames of a video, so many seconds apart, with their time after the first frame."""
    every, taken = Fraction(settings.video_every).limit_denominator(1000), 0
    options = SourceOptions(bake_rotation=True, threads=1)
    with closing(open_source(path, options)) as source:
        for frame in source:
            seconds = (frame.pts - source.first_pts) * frame.time_base
            if seconds >= taken * every:
                yield seconds, _tensor(frame)
                taken += 1
            if taken == settings.video_frames:
                return


def _frame(path: Path, seconds: Fraction) -> Tensor:
    options = SourceOptions(bake_rotation=True, threads=1, start=seconds)
    with closing(open_source(path, options)) as source:
        return _tensor(next(iter(source)))


def _tensor(frame: Frame) -> Tensor:
    return torch.from_numpy(frame_to_rgb(frame)).permute(2, 0, 1).contiguous()
