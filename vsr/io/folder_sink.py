"""Writes frames as a numbered series of pictures, encoded side by side."""

import logging
from functools import partial
from pathlib import Path
from typing import Final

from vsr.errors import SinkError, SinkExistsError
from vsr.io.atomic import check_target, tidy_folder
from vsr.io.chunks import PictureTags
from vsr.io.folder import numbered, series
from vsr.io.image_sink import write_whole
from vsr.io.picture_encoders import PictureEncoder
from vsr.io.workers import Workers
from vsr.types import Frame, VideoInfo

_log = logging.getLogger(__name__)

WRITERS: Final = 2
"""Pictures encoded side by side if nobody says otherwise."""
FIRST: Final = 1
"""Number of the first frame, as FFmpeg counts."""


class Once:
    """Logs each warning once, however many pictures it is about."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, text: str) -> None:
        """Logs a text that has not been logged yet."""
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)


class FolderSink:
    """A `FrameSink` that makes a file of every frame, the first with number 1.

    Each file appears complete or not at all. The folder is made if only its last part is missing.

    Args:
        pattern: With a place for the number, such as `frames/%06d.png`.
        picture: Of the output: size, and the source's format and resolved colour.
        overwrite: Whether existing files may be replaced.
        quality: Of JPEG and WebP, from 1 to 100; 95 if None.
        writers: Pictures encoded side by side.

    Attributes:
        format: That `write` takes.
        color: That `write` takes.
        bake_rotation: Whether frames must be turned before.

    Raises:
        ContainerError: The suffix is not known.
        SinkError: The folder cannot be written to; `SinkExistsError` if such files exist.
        EncoderError: The encoder refuses the picture.
    """

    def __init__(
        self,
        pattern: Path,
        picture: VideoInfo,
        *,
        overwrite: bool = False,
        quality: float | None = None,
        writers: int = WRITERS,
    ) -> None:
        self._encoder = PictureEncoder(pattern.suffix, picture, quality)
        self.path, self._overwrite = pattern, overwrite
        self._older = check_folder(pattern.parent) and _older(pattern, overwrite=overwrite)
        self.format, self.color = self._encoder.format, self._encoder.color
        self.bake_rotation = picture.rotation != 0
        for loss in self._encoder.losses:
            _log.warning("%s", loss)
        self._workers = Workers[None](writers, "vsr-write")
        self._begun: list[Path] = []
        self._made_folder = False

    def write(self, frame: Frame) -> None:
        """Hands one frame to the encoders; waits while they have enough.

        Raises:
            SinkError: An earlier frame could not be written.
        """
        size = sum(plane.nbytes for plane in frame.planes)
        while self._workers.full(size):
            self._workers.take()
        if not self._begun:
            self._open_folder()
        path = numbered(self.path, FIRST + len(self._begun))
        self._begun.append(path)
        self._workers.submit(partial(self._save, frame, path), size)

    def _open_folder(self) -> None:
        folder = self.path.parent
        self._made_folder = not folder.is_dir()
        if self._made_folder:
            make_folder(folder)
        tidy_folder(folder)

    def _save(self, frame: Frame, path: Path) -> None:
        data = self._encoder.encode(frame, PictureTags(), _log.warning)
        write_whole(path, data, overwrite=self._overwrite, tidy=False)

    def finish(self) -> None:
        """Waits until every file is written.

        Raises:
            SinkError: No frame came, or one could not be written.
        """
        while len(self._workers):
            self._workers.take()
        self._workers.close()
        if not self._begun:
            msg = f"no frame came, so nothing was written to {self.path.parent}"
            raise SinkError(msg)
        left = self._older - len(self._begun)
        if left > 0:
            _log.warning("%d older files of %s have higher numbers and stay", left, self.path)
        self._begun = []

    def abort(self) -> None:
        """Removes the files of this job, and the folder if it made it."""
        self._workers.close()
        for path in self._begun:
            path.unlink(missing_ok=True)
        if self._begun and self._made_folder and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
        self._begun = []


def _older(pattern: Path, *, overwrite: bool) -> int:
    found = [path for path in pattern.parent.iterdir() if path.suffix == pattern.suffix]
    if not found:
        return 0
    try:
        files = series(pattern)
    except FileNotFoundError:
        return 0
    if not overwrite:
        msg = f"{next(iter(files.values()))} exists; pass -y to overwrite it"
        raise SinkExistsError(msg)
    return len(files)


def check_folder(folder: Path) -> bool:
    """Finds out, before any work, whether files can be written into a folder.

    Returns:
        Whether it is there; if not, `make_folder` makes it.

    Raises:
        SinkError: Not writable, no folder, or in a folder that is missing itself.
    """
    if folder.is_dir():
        check_target(folder / "probe", overwrite=True)
        return True
    if folder.exists() or folder.is_symlink():
        msg = f"{folder} is no folder: choose another -o"
        raise SinkError(msg)
    check_target(folder, overwrite=True)
    return False


def make_folder(folder: Path, top: Path | None = None) -> None:
    """Makes a folder, and those between it and `top`.

    Raises:
        SinkError: The file system refuses.
    """
    try:
        folder.mkdir(parents=top is not None, exist_ok=True)
    except OSError as error:
        msg = f"folder {folder} cannot be made: {error.strerror}"
        raise SinkError(msg) from error
