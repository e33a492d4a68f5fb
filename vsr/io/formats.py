"""Pixel formats and planes: where FFmpeg's frames become ours, and ours FFmpeg's.

Our frames are planar, in native byte order and of 8 to 16 bits. Whatever FFmpeg decodes into has a
*canonical* format that holds it without loss (nv12 → yuv420p, rgb24 → gbrp, pal8 → gbrap); matrix,
range and siting are never touched here. `yuvj*` differs from `yuv*` by its range tag only, so both
have one layout.
"""

import sys
from collections.abc import Iterable
from functools import cache
from typing import Final

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation

from vsr.errors import UnsupportedSourceError
from vsr.types import Frame, PixelFormat, Plane

_ENDIAN: Final = "le" if sys.byteorder == "little" else "be"
_SAMPLINGS: Final = {
    "420": (1, 1),
    "422": (1, 0),
    "444": (0, 0),
    "440": (0, 1),
    "411": (2, 0),
    "410": (2, 2),
}
_DEPTHS: Final = range(8, 17)
# Exact for the unscaled conversions that are made here; POINT keeps chroma where it lies.
_FLAGS: Final = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def _spelled(format: PixelFormat) -> str:  # noqa: A002 - the field's own word
    depth = "" if format.bits == 8 else f"{format.bits}{_ENDIAN}"
    if format.family == "gray":
        return f"ya{depth or 8}" if format.alpha else f"gray{depth}"
    if format.family == "rgb":
        return f"gbr{'a' * format.alpha}p{depth}"
    sampling = {shifts: name for name, shifts in _SAMPLINGS.items()}.get(
        (format.chroma_w, format.chroma_h), "none"
    )
    return f"yuv{'a' * format.alpha}{sampling}p{depth}"


@cache
def _canonical() -> dict[str, PixelFormat]:
    """Every canonical FFmpeg name that this build of FFmpeg knows."""
    shifts = _SAMPLINGS.values()
    layouts = [
        PixelFormat(family=family, bits=bits, chroma_w=w, chroma_h=h, alpha=alpha)
        for bits in _DEPTHS
        for alpha in (False, True)
        for family in ("yuv", "gray", "rgb")
        for w, h in (shifts if family == "yuv" else [(0, 0)])
    ]
    spelled = {_spelled(layout): layout for layout in layouts}
    return {name: layout for name, layout in spelled.items() if name in av.video.format.names}


def pixel_format(name: str) -> PixelFormat | None:
    """The layout behind a canonical FFmpeg name; None for any other (packed …) name."""
    return _canonical().get(name.replace("yuvj", "yuv"))


def ffmpeg_name(format: PixelFormat) -> str:  # noqa: A002 - the field's own word
    """FFmpeg's name of a layout, `yuv420p10le` for instance.

    Raises:
        UnsupportedSourceError: FFmpeg has no such format (4:4:0 with alpha, for instance), or not
            for video (floating-point samples).
    """
    name = _spelled(format)
    if format.floating or name not in _canonical():
        msg = f"FFmpeg has no pixel format for {format}; choose another with --pix-fmt"
        raise UnsupportedSourceError(msg)
    return name


def layout_of(name: str) -> PixelFormat:
    """The layout that holds any FFmpeg pixel format without loss.

    Raises:
        UnsupportedSourceError: See `canonical_name`.
    """
    return _canonical()[canonical_name(name)]


@cache
def canonical_name(name: str) -> str:
    """The planar FFmpeg format that holds any FFmpeg pixel format without loss.

    Floating-point and 32-bit samples are the exception: they become 16 bits.

    Raises:
        UnsupportedSourceError: A hardware or unknown format, which has no samples to look at.
    """
    if pixel_format(name) is not None:
        return name.replace("yuvj", "yuv")
    components = av.VideoFormat(name, 64, 64).components if name in av.video.format.names else ()
    if not components:
        msg = f"pixel format {name} has no readable samples; decode with --hwaccel none"
        raise UnsupportedSourceError(msg)
    return _smallest_holding(_described(name))


def _described(name: str) -> PixelFormat:
    layout = av.VideoFormat(name, 64, 64)
    parts = layout.components
    bits = min(max(8, *(part.bits for part in parts)), 16)
    if layout.has_palette:
        return PixelFormat(family="rgb", alpha=True)
    if layout.is_bayer:
        return PixelFormat(family="rgb", bits=16 if "16" in name else 8)
    alpha = any(part.is_alpha for part in parts)
    if layout.is_rgb or name.startswith("xyz"):
        return PixelFormat(family="rgb", bits=bits, alpha=alpha)
    if len(parts) - alpha == 1:
        return PixelFormat(family="gray", bits=bits, alpha=alpha)
    w, h = (64 // side for side in (parts[1].width, parts[1].height))
    return PixelFormat(
        family="yuv",
        bits=bits,
        chroma_w=w.bit_length() - 1,
        chroma_h=h.bit_length() - 1,
        alpha=alpha,
    )


def _smallest_holding(wanted: PixelFormat) -> str:
    fitting = {
        layout.bits: name
        for name, layout in _canonical().items()
        if layout.bits >= wanted.bits
        and (layout.family, layout.chroma_w, layout.chroma_h, layout.alpha)
        == (wanted.family, wanted.chroma_w, wanted.chroma_h, wanted.alpha)
    }
    if not fitting:
        msg = f"no planar pixel format holds {wanted}"
        raise UnsupportedSourceError(msg)
    return fitting[min(fitting)]


def to_planes(frame: av.VideoFrame, format: PixelFormat) -> tuple[Plane, ...]:  # noqa: A002
    """Views a decoded frame as planes.

    Zero-copy where the frame is planar already: the arrays then keep the frame's buffers alive.

    Args:
        frame: A frame in host memory.
        format: Wanted layout, usually that of the frame's canonical name.

    Returns:
        Arrays of shape `format.plane_shapes(frame.width, frame.height)`.
    """
    name = ffmpeg_name(format)
    if frame.format.name == "pal8" and name == "gbrap":
        return _looked_up(frame)
    if frame.format.name.replace("yuvj", "yuv") != name:
        frame = reformatted(frame, name)
    shapes = format.plane_shapes(frame.width, frame.height)
    if format.family == "gray" and format.alpha:
        packed = _rows(frame.planes[0], format, frame.height)[:, : 2 * frame.width]
        return packed[:, 0::2].copy(), packed[:, 1::2].copy()
    return tuple(
        _rows(plane, format, height)[:, :width]
        for plane, (height, width) in zip(frame.planes, shapes, strict=True)
    )


def _looked_up(frame: av.VideoFrame) -> tuple[Plane, ...]:
    """The colours of a palette's indices: swscale refuses pictures of one pixel."""
    indices, palette = frame.to_ndarray()
    alpha, red, green, blue = np.asarray(palette, np.uint8).T
    return tuple(channel[indices] for channel in (green, blue, red, alpha))


def reformatted(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """Moves a frame's samples into another format, same matrix and range.

    Raises:
        UnsupportedSourceError: swscale cannot read the frame's format.
    """
    # One range and one matrix on both sides: swscale then only moves samples.
    span = 2 if frame.format.name.startswith("yuvj") else frame.color_range
    try:
        return frame.reformat(
            format=name,
            interpolation=_FLAGS,
            src_color_range=span,
            dst_color_range=span,
            threads=1,
        )
    except av.error.FFmpegError as error:
        msg = f"pixel format {frame.format.name} cannot be converted to {name}; convert it first"
        raise UnsupportedSourceError(msg) from error


def _rows(plane: VideoPlane, format: PixelFormat, height: int) -> Plane:  # noqa: A002
    stride = abs(plane.line_size) // format.dtype.itemsize
    rows = _flat(plane, format).reshape(height, stride)
    return rows if plane.line_size > 0 else rows[::-1]


def _flat(plane: VideoPlane, format: PixelFormat) -> Plane:  # noqa: A002
    if format.bits == 8:
        return np.frombuffer(plane, np.uint8)
    return np.frombuffer(plane, np.uint16)


def from_planes(frame: Frame) -> av.VideoFrame:
    """Copies our planes into a new FFmpeg frame of the same layout; colours are not converted.

    Times, tags and side data are left to the caller.

    Raises:
        UnsupportedSourceError: FFmpeg has no such format.
    """
    made = av.VideoFrame(frame.width, frame.height, ffmpeg_name(frame.format))
    for plane, source in zip(made.planes, _packed(frame), strict=True):
        height, width = source.shape
        target = _flat(plane, frame.format).reshape(height, -1)
        target[:, :width] = source
    return made


def _packed(frame: Frame) -> Iterable[Plane]:
    if frame.format.family == "gray" and frame.format.alpha:
        packed = np.empty((frame.height, 2 * frame.width), frame.format.dtype)
        packed[:, 0::2], packed[:, 1::2] = frame.planes
        return (packed,)
    return frame.planes
