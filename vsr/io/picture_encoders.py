"""Encodes single pictures: PNG, JPEG, WebP, TIFF, BMP and DPX."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

import av
from av.video.codeccontext import VideoCodecContext

from vsr.errors import ContainerError, EncoderError, SinkError
from vsr.io.chunks import PictureTags
from vsr.io.color import tag_frame
from vsr.io.encoders import Encoder, Quality, losses, match_format, open_context
from vsr.io.encoders._base import Scale, gray, rgb, yuv
from vsr.io.formats import ffmpeg_name, from_planes
from vsr.io.picture_tags import tags_for, with_tags
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

_LIBRARY_PACKED: Final = {
    "gbrp": "rgb24",
    "gbrap": "rgba",
    "gray": "gray",
    "ya8": "ya8",
}


def _png(_: Quality, __: VideoInfo) -> dict[str, str]:
    return {"pred": "mixed"}


_QUALITY: Final = Scale(default=95, low=1, high=100)
"""As people know it from libjpeg; of JPEG and WebP."""


def _jpeg(quality: Quality, _: VideoInfo) -> dict[str, str]:
    """FFmpeg multiplies its tables by q / 8, libjpeg (jcparam.c) by the percentage below."""
    wanted = _QUALITY.default if quality.crf is None else quality.crf
    percent = 5000 / wanted if wanted < 50 else 200 - 2 * wanted
    quantiser = min(max(1, round(percent * 8 / 100)), 31)
    # the quantiser that FFmpeg's own tool sets comes with the frame, where PyAV cannot set it
    return {"qmin": str(quantiser), "qmax": str(quantiser)}


def _webp(quality: Quality, _: VideoInfo) -> dict[str, str]:
    wanted = _QUALITY.default if quality.crf is None else quality.crf
    return {"quality": str(round(wanted)), "lossless": str(int(wanted == _QUALITY.high))}


def _tiff(_: Quality, __: VideoInfo) -> dict[str, str]:
    return {"compression_algo": "deflate"}


def _plain(_: Quality, __: VideoInfo) -> dict[str, str]:
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
                crf=_QUALITY,
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
                crf=_QUALITY,
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
                options=_plain,
                native={"gbrp": "bgr24"},
            ),
        ),
        (
            (".dpx",),
            Encoder(
                id="dpx",
                codec="dpx",
                containers=(),
                formats=(*rgb(8, 10, 12), *rgb(8, alpha=True), *gray(8)),
                options=_plain,
                native=_LIBRARY_PACKED,
            ),
        ),
    )
    for suffix in suffixes
}


SUFFIXES: Final = tuple(_ENCODERS)
"""Of the pictures that can be written."""


def is_image(path: Path) -> bool:
    """Whether a file name asks for a single picture."""
    return path.suffix.lower() in _ENCODERS


class PictureEncoder:
    """Turns frames of one size and format into the bytes of picture files.

    Args:
        suffix: Of the file: one of `SUFFIXES`.
        picture: Of the output: size, and the source's format and resolved colour.
        quality: Of JPEG and WebP, from 1 to 100, where WebP is lossless; 95 if None.

    Attributes:
        format: That `encode` takes.
        color: That `encode` takes.
        losses: What the file cannot hold of the picture, in words.

    Raises:
        ContainerError: The suffix is not known.
        EncoderError: The encoder refuses the picture.
    """

    def __init__(self, suffix: str, picture: VideoInfo, quality: float | None = None) -> None:
        encoder = _ENCODERS.get(suffix.lower())
        if encoder is None:
            msg = f"picture type {suffix!r} is not known; use one of {', '.join(SUFFIXES)}"
            raise ContainerError(msg)
        self._encoder, self._quality = encoder, Quality(crf=quality if encoder.crf else None)
        self.format: PixelFormat = match_format(
            picture.format, encoder, picture.width, picture.height
        )
        self.color = _color(picture.color, self.format)
        self.losses = tuple(
            f"{encoder.id}: {loss}; png keeps everything"
            for loss in losses(picture.format, self.format)
        )
        self._picture = replace(
            picture,
            format=self.format,
            color=self.color,
            time_base=Fraction(1, 25),
            frame_rate=Fraction(25),
        )
        open_context(encoder, self._picture, self._quality)

    def encode(self, frame: Frame, tags: PictureTags, warn: Callable[[str], None]) -> bytes:
        """Encodes one picture; safe to call from several threads.

        Args:
            frame: Of the announced size and format.
            tags: Of the source.
            warn: Told which tags are lost.

        Returns:
            The whole file.

        Raises:
            SinkError: The frame is of another size or format than announced.
            EncoderError: The encoder fails.
        """
        picture = self._picture
        size = (picture.width, picture.height)
        if (frame.width, frame.height, frame.format) != (*size, picture.format):
            msg = (
                f"the frame is {frame.width}x{frame.height} {ffmpeg_name(frame.format)}, expected "
                f"{picture.width}x{picture.height} {ffmpeg_name(picture.format)}"
            )
            raise SinkError(msg)
        context = open_context(self._encoder, picture, self._quality)
        made = from_planes(frame)
        tag_frame(made, self.color)
        made.pts, made.time_base = 0, picture.time_base
        data = _encoded(context, made, self._encoder.id)
        return with_tags(data, tags_for(tags, size, self.format.family, warn), warn)


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
