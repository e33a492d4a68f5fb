"""Writes a single picture: PNG, JPEG, WebP, TIFF or BMP."""

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import av
from av.video.codeccontext import VideoCodecContext

from vsr.errors import ContainerError, EncoderError, SinkError
from vsr.io.atomic import PartialFile, check_target, sink_error
from vsr.io.color import tag_frame
from vsr.io.encoders import Encoder, Quality, losses, match_format, open_context
from vsr.io.encoders._base import gray, rgb, yuv
from vsr.io.formats import ffmpeg_name, from_planes
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

_log = logging.getLogger(__name__)

_LIBRARY_PACKED: Final = {
    "gbrp": "rgb24",
    "gbrap": "rgba",
    "gray": "gray",
    "ya8": "ya8",
}


def _png(_: Quality, __: VideoInfo) -> dict[str, str]:
    return {"pred": "mixed"}


def _jpeg(_: Quality, __: VideoInfo) -> dict[str, str]:
    # 118 is FFmpeg's lambda unit; quantiser 2 is the best that JPEG is commonly given
    return {"flags": "+bitexact+qscale", "global_quality": str(2 * 118)}


def _webp(_: Quality, __: VideoInfo) -> dict[str, str]:
    return {"quality": "95"}


def _tiff(_: Quality, __: VideoInfo) -> dict[str, str]:
    return {"compression_algo": "deflate"}


def _bmp(_: Quality, __: VideoInfo) -> dict[str, str]:
    return {}


_DEEP_PNG: Final = {
    "gbrp16le": "rgb48be",
    "gbrap16le": "rgba64be",
    "gray16le": "gray16be",
    "ya16le": "ya16be",
}
_DEEP_TIFF: Final = {"gbrp16le": "rgb48le", "gbrap16le": "rgba64le"}
_ALL: Final = (*rgb(8, 16), *gray(8, 16), *rgb(8, 16, alpha=True), *gray(8, 16, alpha=True))

_ENCODERS: Final = {
    suffix: encoder
    for suffixes, encoder in (
        (
            (".png",),
            Encoder(
                id="png",
                codec="png",
                containers=(),
                formats=_ALL,
                options=_png,
                native=_LIBRARY_PACKED | _DEEP_PNG,
            ),
        ),
        (
            (".jpg", ".jpeg"),
            Encoder(
                id="jpeg",
                codec="mjpeg",
                containers=(),
                formats=(*yuv("444", 8), *yuv("422", 8), *yuv("420", 8)),
                options=_jpeg,
            ),
        ),
        (
            (".webp",),
            Encoder(
                id="webp",
                codec="libwebp",
                containers=(),
                formats=(*rgb(8), *rgb(8, alpha=True)),
                options=_webp,
                native={"gbrp": "bgra", "gbrap": "bgra"},
            ),
        ),
        (
            (".tif", ".tiff"),
            Encoder(
                id="tiff",
                codec="tiff",
                containers=(),
                formats=_ALL,
                options=_tiff,
                native=_LIBRARY_PACKED | _DEEP_TIFF,
            ),
        ),
        (
            (".bmp",),
            Encoder(
                id="bmp",
                codec="bmp",
                containers=(),
                formats=rgb(8),
                options=_bmp,
                native={"gbrp": "bgr24"},
            ),
        ),
    )
    for suffix in suffixes
}


def is_image(path: Path) -> bool:
    """Whether a file name asks for a single picture."""
    return path.suffix.lower() in _ENCODERS


class ImageSink:
    """A `FrameSink` for exactly one frame.

    Args:
        path: Ending in .png, .jpg, .jpeg, .webp, .tif, .tiff or .bmp.
        picture: Of the output: size, and the source's format and resolved colour.
        source: The input, which the output must not be.
        overwrite: Whether an existing file may be replaced.

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
    ) -> None:
        if not is_image(path):
            known = ", ".join(_ENCODERS)
            msg = f"picture type {path.suffix!r} of {path.name!r} is not known; use one of {known}"
            raise ContainerError(msg)
        check_target(path, overwrite=overwrite, source=source)
        self.path = path
        self._encoder = _ENCODERS[path.suffix.lower()]
        self.format: PixelFormat = match_format(
            picture.format, self._encoder, picture.width, picture.height
        )
        self.color = _color(picture.color, self.format)
        self.bake_rotation = picture.rotation != 0
        for loss in losses(picture.format, self.format):
            _log.warning("%s: %s; png keeps everything", self._encoder.id, loss)
        self._picture = replace(
            picture,
            format=self.format,
            color=self.color,
            time_base=Fraction(1, 25),
            frame_rate=Fraction(25),
        )
        open_context(self._encoder, self._picture, Quality())
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
                "use -o FILE.mkv or a folder"
            )
            raise SinkError(msg)
        picture = self._picture
        if (frame.width, frame.height, frame.format) != (
            picture.width,
            picture.height,
            picture.format,
        ):
            msg = (
                f"the frame is {frame.width}x{frame.height} {ffmpeg_name(frame.format)}, expected "
                f"{picture.width}x{picture.height} {ffmpeg_name(picture.format)}"
            )
            raise SinkError(msg)
        context = open_context(self._encoder, picture, Quality())
        made = from_planes(frame)
        tag_frame(made, self.color)
        made.pts, made.time_base = 0, picture.time_base
        self._data = _encoded(context, made, self._encoder.id)

    def finish(self) -> None:
        """Writes the file and gives it its name.

        Raises:
            SinkError: No picture came, or the disk is full.
        """
        if self._data is None:
            msg = f"no frame came, so {self.path} was not written: the source has no picture"
            raise SinkError(msg)
        with PartialFile(self.path, overwrite=self._overwrite) as file:
            try:
                file.write(self._data)
            except OSError as error:
                raise sink_error(self.path, error) from error
            file.commit()

    def abort(self) -> None:
        """Leaves nothing behind: nothing is on the disk before `finish`."""


def _encoded(context: VideoCodecContext, frame: av.VideoFrame, name: str) -> bytes:
    try:
        if context.pix_fmt is not None and frame.format.name != context.pix_fmt:
            frame = frame.reformat(format=context.pix_fmt)
        packets = [*context.encode(frame), *context.encode(None)]
    except av.error.FFmpegError as error:
        msg = f"{name} failed: {error.strerror or error}"
        raise EncoderError(msg) from error
    return b"".join(bytes(cast("bytes", packet)) for packet in packets)


def _color(color: ColorSpec, form: PixelFormat) -> ColorSpec:
    """RGB and gray are full range; JPEG is always BT.601 full range, sited centrally."""
    if form.family == "yuv":
        return replace(color, matrix=6, full_range=True, siting=2 if form.subsampled else 0)
    return replace(color, matrix=0 if form.family == "rgb" else color.matrix, full_range=True)
