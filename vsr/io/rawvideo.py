"""Reads and writes raw video: nothing but pictures, so size, format and rate are told beside.

Samples lie as FFmpeg's `rawvideo` has them. Planar formats are taken as they are; of packed ones
(rgb24, nv12, yuyv422 …) FFmpeg makes planes, and packs them again, without loss.
"""

import difflib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vsr.errors import SinkError, UnsupportedSourceError, UsageError
from vsr.io.bare import Beat, Order, PlaneReader, cut, plane_bytes
from vsr.io.ends import ByteReader, ByteSink
from vsr.io.fields import deinterlaced
from vsr.io.formats import canonical_name, from_planes, pixel_format, reformatted, to_planes
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

_SPEC: Final = re.compile(r"(\d{1,5})x(\d{1,5}):([^:]+)(?::(.+))?")
_RATE: Final = re.compile(r"\d{1,9}(?:/[1-9]\d{0,8}|\.\d{1,9})?")
_INEXACT: Final = re.compile(r"f16|f32|xyz|msb")
"""Floating point and others that do not come back as they were."""
_SEMIPLANAR: Final = {"p010": 6, "p016": 0}
"""Formats whose chroma FFmpeg 9 packs wrongly in odd widths, with the bits below the samples."""
_ALIASES: Final = {"gray8": "gray", "y8": "gray", "y400a": "ya8", "gray8a": "ya8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSpec:
    """What raw bytes stand for.

    Attributes:
        width: Of the picture.
        height: Of the picture.
        pix_fmt: FFmpeg's name of the pixel format.
        rate: Frames per second.
    """

    width: int
    height: int
    pix_fmt: str
    rate: Fraction = Fraction(25)

    @property
    def layout(self) -> PixelFormat:
        """Of the planes that are made of it."""
        return _layout(self.pix_fmt)


def parse_raw(text: str) -> RawSpec:
    """Understands `1280x720:yuv420p:30000/1001`; without a rate, 25.

    Raises:
        UsageError: Not of that form, or a pixel format that does not exist or is not handled.
    """
    found = _SPEC.fullmatch(text)
    rate = found[4] if found else None
    if found is None or (rate is not None and not _RATE.fullmatch(rate)):
        msg = f"--raw takes WxH:pix_fmt:fps, such as 1280x720:yuv420p:30000/1001, got {text!r}"
        raise UsageError(msg)
    width, height = int(found[1]), int(found[2])
    fps = Fraction(rate) if rate is not None else Fraction(25)
    if not (width and height and fps):
        msg = f"--raw needs a size and a rate above 0, got {text!r}"
        raise UsageError(msg)
    name = _ALIASES.get(found[3].lower(), found[3].lower())
    if name not in av.video.format.names and f"{name}{_native()}" in av.video.format.names:
        name += _native()  # FFmpeg understands gray16 too
    _check_format(name)
    return RawSpec(width=width, height=height, pix_fmt=name, rate=fps)


def _native() -> str:
    return "le" if sys.byteorder == "little" else "be"


def _check_format(name: str) -> None:
    if name not in av.video.format.names:
        near = difflib.get_close_matches(name, sorted(av.video.format.names), 4)
        hint = f"did you mean {', '.join(near)}?" if near else "see `ffmpeg -pix_fmts`"
        msg = f"no pixel format is called {name!r}: {hint}"
        raise UsageError(msg)
    layout = av.VideoFormat(name, 64, 64)
    depths = {part.bits for part in layout.components}
    odd = layout.has_palette or layout.is_bayer or _INEXACT.search(name)
    if odd or len(depths) != 1 or not 8 <= max(depths) <= 16:
        msg = (
            f"pixel format {name} is not handled raw: use one with 8 to 16 bits a sample, such as "
            "yuv420p, rgb24 or p010le"
        )
        raise UsageError(msg)
    try:
        made = reformatted(av.VideoFrame(64, 64, canonical_name(name)), name)
        reformatted(made, canonical_name(name))
    except UnsupportedSourceError as error:
        msg = f"pixel format {name} cannot be written back by this FFmpeg: use another"
        raise UsageError(msg) from error


def _layout(name: str) -> PixelFormat:
    found = pixel_format(canonical_name(name))
    if found is None:  # canonical names all have a layout
        msg = f"pixel format {name} has no planes"
        raise UnsupportedSourceError(msg)
    return found


def _bare_order(name: str) -> Order | None:
    """Byte order of a planar format; None if the format is packed."""
    base = name.removesuffix("le").removesuffix("be")
    deep = name != base
    layout = pixel_format(f"{base}{_native()}" if deep else name)
    if layout is None or (layout.family == "gray" and layout.alpha):
        return None
    return "big" if deep and name.endswith("be") else "little"


def _codec(spec: RawSpec, mode: str) -> VideoCodecContext:
    context = cast("VideoCodecContext", av.CodecContext.create("rawvideo", mode))  # type: ignore[call-overload]
    context.width, context.height, context.pix_fmt = spec.width, spec.height, spec.pix_fmt
    if mode == "w":
        context.time_base = 1 / spec.rate
    return context


def _encoded(context: VideoCodecContext, frame: av.VideoFrame) -> bytes:
    frame.pts = 0
    return b"".join(bytes(packet) for packet in context.encode(frame))


class RawSource:
    """Raw video as a `FrameSource`.

    Args:
        reader: At the first picture; stays open.
        spec: What the bytes stand for.
        deinterlace: Whether to filter fields into pictures; raw video does not tell.
        max_pixels: Larger pictures are refused.

    Attributes:
        info: What the specification says.

    Raises:
        UnsupportedSourceError: Too large a picture.
    """

    def __init__(
        self,
        reader: ByteReader,
        spec: RawSpec,
        *,
        deinterlace: bool = False,
        max_pixels: int = 1 << 27,
    ) -> None:
        if spec.width * spec.height > max_pixels:
            msg = (
                f"--raw claims {spec.width}x{spec.height} pixels, more than the limit of "
                f"{max_pixels}"
            )
            raise UnsupportedSourceError(msg)
        self._reader, self._spec, self._deinterlace = reader, spec, deinterlace
        full = True if spec.pix_fmt.startswith("yuvj") else None
        self.info = VideoInfo(
            width=spec.width,
            height=spec.height,
            format=spec.layout,
            color=ColorSpec(full_range=full),
            time_base=1 / spec.rate,
            frame_rate=spec.rate,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Reads to the end; one pass only.

        Raises:
            SourceError: The last picture is cut.
        """
        order = _bare_order(self._spec.pix_fmt)
        frames = self._packed() if order is None else self._planar(order)
        return deinterlaced(frames, None) if self._deinterlace else frames

    def close(self) -> None:
        """Nothing to free."""

    def _planar(self, order: Order) -> Iterator[Frame]:
        info = self.info
        pictures = PlaneReader(self._reader, info.format, info.width, info.height, order)
        number = 0
        while (planes := pictures.planes(number)) is not None:
            yield Frame(
                planes=planes,
                format=info.format,
                color=info.color,
                pts=number,
                duration=1,
                time_base=info.time_base,
            )
            number += 1

    def _packed(self) -> Iterator[Frame]:
        info, spec = self.info, self._spec
        blank = av.VideoFrame(spec.width, spec.height, spec.pix_fmt)
        size = len(_encoded(_codec(spec, "w"), blank))
        decoder = _codec(spec, "r")
        number = 0
        buffer = bytearray(size)
        while got := self._reader.fill(memoryview(buffer)):
            if got < size:
                raise cut(self._reader.name, number, size - got, size)
            (picture,) = decoder.decode(av.Packet(bytes(buffer)))
            yield Frame(
                planes=to_planes(picture, info.format),
                format=info.format,
                color=info.color,
                pts=number,
                duration=1,
                time_base=info.time_base,
            )
            number += 1


class RawSink:
    """A `FrameSink` of raw video.

    Args:
        output: Where to.
        spec: What the bytes shall stand for.
    """

    def __init__(self, output: ByteSink, spec: RawSpec) -> None:
        self._output, self._spec = output, spec
        self._beat = Beat("raw video", spec.rate)
        self._order = _bare_order(spec.pix_fmt)
        self._encoder = None if self._order else _codec(spec, "w")

    def write(self, frame: Frame) -> None:
        """Writes one picture.

        Raises:
            SinkError: It does not come at its time: raw video cannot tell it.
            OSError: The reader has gone, or the disk is full.
        """
        self._beat.check(frame)
        for data in self._bytes(frame):
            self._output.write(data)

    def _bytes(self, frame: Frame) -> Iterator[bytes]:
        name = self._spec.pix_fmt
        shift = _SEMIPLANAR.get(name[:4])
        if self._order is not None:
            yield from plane_bytes(frame.planes, self._order)
        elif shift is not None:
            luma, u, v = (np.left_shift(p.astype(np.uint16), shift) for p in frame.planes)
            chroma = np.stack([u, v], axis=2).reshape(u.shape[0], -1)
            yield from plane_bytes((luma, chroma), "big" if name.endswith("be") else "little")
        elif self._encoder is not None:
            yield _encoded(self._encoder, reformatted(from_planes(frame), name))
        else:  # an encoder is made for every packed format
            msg = f"no way to write {name} raw: use -f nut"
            raise SinkError(msg)

    def finish(self) -> None:
        """Ends the stream, or gives the file its name."""
        self._output.commit()

    def abort(self) -> None:
        """Leaves no file behind; what went through a pipe stays there."""
        self._output.discard()
