"""Reads what a stream and its first frame tell: rate, shape of pixels, orientation, HDR."""

import re
import struct
from fractions import Fraction
from typing import Final

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsr.io.color import fraction
from vsr.io.orientation import Orientation, orientation_of
from vsr.types import Hdr

_MASTERING: Final = "MASTERING_DISPLAY_METADATA"
_LIGHT: Final = "CONTENT_LIGHT_LEVEL"
_LIGHT_FORMAT: Final = "<2I"


def frame_rate(stream: VideoStream) -> Fraction | None:
    """The nominal rate: the slower of the average and of libav's guess, both of which can err."""
    rates = [fraction(stream.average_rate), fraction(stream.guessed_rate)]
    known = [rate for rate in rates if rate]
    return min(known) if known else fraction(stream.codec_context.framerate)


def synthetic_rate(stream: VideoStream) -> Fraction:
    """The rate that times are made from where the container has none; 25 if nothing is known."""
    return fraction(stream.guessed_rate) or frame_rate(stream) or Fraction(25)


def declared_seconds(stream: VideoStream) -> Fraction | None:
    """How long the stream itself says it is; in Matroska by its DURATION tag. None if unsaid."""
    if stream.duration is not None:
        return stream.duration * (fraction(stream.time_base) or Fraction(0))
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag is None:
        return None
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + Fraction(tag[3])


def sample_aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel over its height; the container's word wins, unknown is 1."""
    return (
        fraction(stream.sample_aspect_ratio)
        or fraction(stream.codec_context.sample_aspect_ratio)
        or Fraction(1)
    )


def read_orientation(stream: VideoStream, frame: av.VideoFrame | None) -> Orientation:
    """How the picture must be turned, from the frame's display matrix or the stream's."""
    payload = None if frame is None else frame.side_data.get("DISPLAYMATRIX")
    if payload is not None:
        return orientation_of(bytes(payload))
    return orientation_of(stream.codec_context.coded_side_data.get("display_matrix"))


def read_hdr(
    stream: VideoStream, context: VideoCodecContext, frame: av.VideoFrame | None
) -> Hdr | None:
    """Static HDR10 metadata from the frame, the decoder or the container; None if there is none."""
    found: dict[str, bytes] = {}
    for key, payload in stream.codec_context.coded_side_data.items():
        found[key.upper()] = payload
    for kind, payload in context.decoded_side_data.items():
        found[kind.name] = payload
    for name in (_MASTERING, _LIGHT):
        data = None if frame is None else frame.side_data.get(name)
        if data is not None:
            found[name] = bytes(data)
    light = found.get(_LIGHT, b"")[: struct.calcsize(_LIGHT_FORMAT)]
    if _MASTERING not in found and not light:
        return None
    most, average = struct.unpack(_LIGHT_FORMAT, light) if light else (0, 0)
    return Hdr(
        mastering=found.get(_MASTERING), light_level=(int(most), int(average)) if light else None
    )
