"""What video codecs do to pictures: encodes and decodes a few frames in memory.

No file and no container: packets go from the encoder straight into the decoder of the same format.
Pictures are RGB outside, 4:2:0 studio-range inside, as video is; both conversions use one matrix,
so that what differs afterwards is chroma resolution and the codec's loss alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from vsr.errors import EncoderError, UsageError
from vsr.io.formats import from_planes, to_planes
from vsr.io.tracks import AnyPacket
from vsr.types import ColorSpec, Frame, PixelFormat, Plane

type Codec = Literal["h264", "h265", "mpeg2", "vp9"]
type Picture = NDArray[np.uint8]
"""RGB, shape (H, W, 3)."""

CODECS: Final[Mapping[Codec, tuple[str, str]]] = MappingProxyType(
    {
        "h264": ("libx264", "h264"),
        "h265": ("libx265", "hevc"),
        "mpeg2": ("mpeg2video", "mpeg2video"),
        "vp9": ("libvpx-vp9", "vp9"),
    }
)
"""Encoder and decoder of each codec by FFmpeg's names."""

_SMALLEST: Final = 68
"""Encoders refuse postage stamps, and where one of x265's units fills a side its bytes are not the
same each time; smaller pictures are framed by their edges."""
_LEAST_BUFFER: Final = 1000
"""Bits; FFmpeg refuses less than a frame's worth."""
_YUV: Final = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
_FLAGS: Final = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode:
    """How to encode.

    Attributes:
        codec: Which.
        crf: Constant quality: 0 to 51 for h264 and h265, 0 to 63 for vp9, and for mpeg2 the
            quantiser, 1 to 31. Exclusive with `bit_rate`.
        bit_rate: Bits per second.
        preset: Of x264 or x265; `cpu-used` of vp9 as a number; unused by mpeg2.
        gop: Frames from one key frame to the next.
        rate: Frames per second; `bit_rate` is spent on so many.
        interlaced: Whether fields are coded apart where they differ (h264 and mpeg2).
        high_definition: BT.709 rather than BT.601.
        options: Further ones of the encoder by FFmpeg's names.

    Raises:
        UsageError: An unknown codec, or not exactly one of `crf` and `bit_rate`.
    """

    codec: Codec
    crf: float | None = None
    bit_rate: int | None = None
    preset: str | None = None
    gop: int = 12
    rate: Fraction = Fraction(25)
    interlaced: bool = False
    high_definition: bool = False
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            msg = f"no codec is called {self.codec!r}: known are {', '.join(CODECS)}"
            raise UsageError(msg)
        if (self.crf is None) == (self.bit_rate is None):
            msg = f"{self.codec} was given crf {self.crf}, bit_rate {self.bit_rate}: give one"
            raise UsageError(msg)


def damaged(pictures: Sequence[Picture], encode: Encode) -> list[Picture]:
    """Encodes pictures as a clip and decodes it.

    Args:
        pictures: uint8 RGB of one shape (H, W, 3), in the order of the film; at least one.
        encode: How.

    Returns:
        As many pictures of the same shape. Equal arguments give equal pictures.

    Raises:
        UsageError: No picture, or pictures of different shapes.
        EncoderError: The encoder is missing, refuses its settings, or lost a frame.
    """
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        msg = f"a clip needs one or more pictures of one shape, got {sorted(shapes) or 'none'}"
        raise UsageError(msg)
    height, width, _ = pictures[0].shape
    try:
        packets = _encoded([_framed(picture) for picture in pictures], encode)
        decoded = _decoded(packets, encode)
    except av.error.FFmpegError as error:
        msg = f"{encode.codec} failed at {width}x{height}: {error.strerror or error}"
        raise EncoderError(msg) from error
    if len(decoded) != len(pictures):
        msg = (
            f"{encode.codec} gave {len(decoded)} frames back of {len(pictures)}: use other options"
        )
        raise EncoderError(msg)
    return [_rgb(frame, encode)[:height, :width] for frame in decoded]


def _framed(picture: Picture) -> Picture:
    """Sides become large enough and multiples of 4 by repeating the last row and column."""
    more = [(0, max(_SMALLEST, side + -side % 4) - side) for side in picture.shape[:2]]
    return np.pad(picture, [*more, (0, 0)], mode="edge")


def _encoded(pictures: Sequence[Picture], encode: Encode) -> list[AnyPacket]:
    encoder = _encoder(encode, pictures[0].shape[1], pictures[0].shape[0])
    packets: list[AnyPacket] = []
    for number, picture in enumerate(pictures):
        if encode.interlaced:
            frame = _woven([_subsampled(picture[parity::2], encode) for parity in (0, 1)])
        else:
            frame = _subsampled(picture, encode)
        frame.pts, frame.time_base = number, 1 / encode.rate
        packets += encoder.encode(frame)
    return [*packets, *encoder.encode(None)]


def _subsampled(picture: Picture, encode: Encode) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(
        format="yuv420p",
        interpolation=_FLAGS,
        dst_colorspace=_matrix(encode),
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )


def _woven(fields: Sequence[av.VideoFrame]) -> av.VideoFrame:
    """Two fields as one frame: each has chroma of its own rows."""
    planes = []
    for pair in zip(*(to_planes(half, _YUV) for half in fields), strict=True):
        plane = np.empty((2 * pair[0].shape[0], pair[0].shape[1]), np.uint8)
        plane[0::2], plane[1::2] = pair
        planes.append(plane)
    return _video_frame(planes)


def _field(frame: av.VideoFrame, parity: int) -> av.VideoFrame:
    return _video_frame([plane[parity::2] for plane in to_planes(frame, _YUV)])


def _video_frame(planes: Sequence[Plane]) -> av.VideoFrame:
    frame = Frame(
        planes=tuple(planes), format=_YUV, color=ColorSpec(), pts=0, time_base=Fraction(1)
    )
    return from_planes(frame)


def _encoder(encode: Encode, width: int, height: int) -> VideoCodecContext:
    name = CODECS[encode.codec][0]
    try:
        context = cast("VideoCodecContext", av.CodecContext.create(name, "w"))
    except av.codec.codec.UnknownCodecError as error:
        msg = f"this FFmpeg has no encoder {name}; draw from other codecs"
        raise EncoderError(msg) from error
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = 1 / encode.rate, encode.rate
    context.gop_size, context.thread_count = encode.gop, 1
    if encode.bit_rate is not None:
        context.bit_rate = encode.bit_rate
    context.options = _options(encode)
    return context


def _options(encode: Encode) -> dict[str, str]:
    options = {"preset": encode.preset} if encode.preset else {}
    crf = None if encode.crf is None else f"{encode.crf:g}"
    if encode.codec == "h264":
        # x264's AVX-512 reads beyond short rows, so that its bytes would differ from run to run.
        options["x264-params"] = "asm=avx2:threads=1" + (":interlaced=1" * encode.interlaced)
    elif encode.codec == "h265":
        options["x265-params"] = "log-level=none:pools=none:frame-threads=1"
    elif encode.codec == "vp9":
        options = {"deadline": "good", "cpu-used": encode.preset or "4"}
        options |= {"b": "0"} if crf else {}
    else:
        options = {"flags": "+ilme+ildct"} if encode.interlaced else {}
    if crf is not None and encode.codec == "mpeg2":
        quantiser = str(max(1, min(31, round(encode.crf or 1))))
        options |= {"qmin": quantiser, "qmax": quantiser}
    elif encode.bit_rate is not None and encode.codec == "mpeg2":
        # its own control spends what it likes on a clip of a few frames
        buffer = max(_LEAST_BUFFER, encode.bit_rate // 8)
        options |= {"maxrate": str(encode.bit_rate), "bufsize": str(buffer)}
    elif crf is not None:
        options["crf"] = crf
    return {**options, **encode.options}


def _decoded(packets: Sequence[AnyPacket], encode: Encode) -> list[av.VideoFrame]:
    decoder = cast("VideoCodecContext", av.CodecContext.create(CODECS[encode.codec][1], "r"))
    decoder.thread_count = 1
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    return [*frames, *decoder.decode(None)]


def _rgb(frame: av.VideoFrame, encode: Encode) -> Picture:
    if not encode.interlaced:
        return _converted(frame, encode)
    picture = np.empty((frame.height, frame.width, 3), np.uint8)
    for parity in (0, 1):
        picture[parity::2] = _converted(_field(frame, parity), encode)
    return picture


def _converted(frame: av.VideoFrame, encode: Encode) -> Picture:
    made = frame.reformat(
        format="rgb24",
        interpolation=_FLAGS,
        src_colorspace=_matrix(encode),
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,
    )
    return cast("Picture", made.to_ndarray())


def _matrix(encode: Encode) -> Colorspace:
    return Colorspace.ITU709 if encode.high_definition else Colorspace.ITU601
