"""How many threads an encoder takes by itself, where that decides about its bytes.

x264 writes the number into its stream, x265 plans pictures by it, libvpx codes otherwise on one
thread than on several. SVT-AV1, FFV1 and ProRes give the same bytes on any number.
"""

import os
import re
from typing import Final

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from vsr.io.encoders._base import Encoder

DECIDES: Final = frozenset({"libx264", "libx265", "libvpx-vp9"})
"""Encoders whose bytes depend on it."""
_MOST_VPX: Final = 64
"""FFmpeg's libvpxenc.c takes no more."""
_X264: Final = re.compile(rb" threads=(\d+)")
_X265: Final = re.compile(rb" frame-threads=(\d+)")


def chosen_threads(encoder: Encoder, context: VideoCodecContext) -> int | None:
    """Threads to ask for elsewhere, to get the bytes that an encoder gives on this machine.

    Args:
        encoder: One of `DECIDES`.
        context: Open, and used for nothing else.

    Returns:
        None where the encoder does not tell.
    """
    if encoder.codec == "libvpx-vp9":
        return min(_MOST_VPX, _cores())
    pattern = _X264 if encoder.codec == "libx264" else _X265
    found = pattern.search(bytes(context.extradata or b"") + _one_picture(context))
    return int(found[1]) if found else None


def _one_picture(context: VideoCodecContext) -> bytes:
    """What comes of a black picture, in which both encoders describe themselves."""
    frame = av.VideoFrame(context.width, context.height, context.pix_fmt or "yuv420p")
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8)[:] = 0
    frame.pts, frame.time_base = 0, context.time_base
    packets = [*context.encode(frame), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def _cores() -> int:
    """Of this process, as FFmpeg counts them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
