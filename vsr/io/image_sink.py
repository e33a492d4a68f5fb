"""Writes a single picture: PNG, JPEG, WebP, TIFF, BMP or DPX."""

import logging
from pathlib import Path

from vsr.errors import ContainerError, SinkError
from vsr.io.atomic import PartialFile, check_target, sink_error
from vsr.io.chunks import PictureTags
from vsr.io.picture_encoders import SUFFIXES, PictureEncoder, is_image
from vsr.io.picture_tags import read_tags
from vsr.types import Frame, VideoInfo

__all__ = ["ImageSink", "is_image"]

_log = logging.getLogger(__name__)


class ImageSink:
    """A `FrameSink` for exactly one frame, which keeps ICC profile, EXIF and dots per inch.

    Args:
        path: Ending in .png, .jpg, .jpeg, .webp, .tif, .tiff, .bmp or .dpx.
        picture: Of the output: size, and the source's format and resolved colour.
        source: The input, which the output must not be; its tags are kept if it is a picture.
        overwrite: Whether an existing file may be replaced.
        quality: Of JPEG and WebP, from 1 to 100; 95 if None.

    Attributes:
        format: That `write` takes.
        color: That `write` takes.
        bake_rotation: Whether the picture must be turned before; always where it is to be turned.

    Raises:
        ContainerError: The suffix is not known.
        SinkError: The file cannot be written; `SinkExistsError` if it exists.
        EncoderError: The encoder refuses the picture.
    """

    def __init__(
        self,
        path: Path,
        picture: VideoInfo,
        *,
        source: Path | None = None,
        overwrite: bool = False,
        quality: float | None = None,
    ) -> None:
        if not is_image(path):
            known = ", ".join(SUFFIXES)
            msg = f"picture type {path.suffix!r} of {path.name!r} is not known; use one of {known}"
            raise ContainerError(msg)
        self._encoder = PictureEncoder(path.suffix, picture, quality)
        check_target(path, overwrite=overwrite, source=source)
        self.path = path
        self.format, self.color = self._encoder.format, self._encoder.color
        self.bake_rotation = picture.rotation != 0
        for loss in self._encoder.losses:
            _log.warning("%s", loss)
        self._tags = read_tags(source) if source is not None else PictureTags()
        self._overwrite = overwrite
        self._data: bytes | None = None

    def write(self, frame: Frame) -> None:
        """Encodes the picture.

        Raises:
            SinkError: It is the second one, or of another size or format than announced.
        """
        if self._data is not None:
            msg = (
                f"{self.path.name} holds one picture, but the source has more: "
                "use -o FILE.mkv or a folder, as in -o FOLDER/%06d.png"
            )
            raise SinkError(msg)
        self._data = self._encoder.encode(frame, self._tags, _log.warning)

    def finish(self) -> None:
        """Writes the file and gives it its name.

        Raises:
            SinkError: No picture came, or the disk is full.
        """
        if self._data is None:
            msg = f"no frame came, so {self.path} was not written: the source has no picture"
            raise SinkError(msg)
        write_whole(self.path, self._data, overwrite=self._overwrite)

    def abort(self) -> None:
        """Leaves nothing behind: nothing is on the disk before `finish`."""


def write_whole(path: Path, data: bytes, *, overwrite: bool, tidy: bool = True) -> None:
    """Writes a file that appears complete or not at all.

    Args:
        path: Where.
        data: All of it.
        overwrite: Whether an existing file may be replaced.
        tidy: As of `PartialFile`.

    Raises:
        SinkError: The disk is full or the file system refuses; `SinkExistsError` if it exists.
    """
    with PartialFile(path, overwrite=overwrite, tidy=tidy) as file:
        try:
            file.write(data)
        except OSError as error:
            raise sink_error(path, error) from error
        file.commit()
