"""Takes the colour profile out of PNG data before it is decoded.

FFmpeg binds the profile's name to the decoded frame, and PyAV 19 frees that name when the frame's
side data is looked at, and again with the frame: the process crashes. The profile itself reaches
the result by `vsr.io.picture_tags`.
"""

import struct
from typing import Final, cast

from av.packet import Packet
from av.video.stream import VideoStream

type VideoPacket = Packet[VideoStream]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def without_profile(packet: VideoPacket) -> VideoPacket:
    """The same packet, or one without the iCCP chunk if it is a PNG file with such."""
    data = memoryview(packet)
    if bytes(data[:8]) != _SIGNATURE:
        return packet
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = bytes(data[at + 4 : at + 8])
        if kind == b"IDAT":
            break
        if kind == b"iCCP":
            rest = bytes(data[:at]) + bytes(data[at + 12 + length :])
            made = cast("VideoPacket", Packet(rest))
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
            made.duration = packet.duration
            return made
        at += 12 + length
    return packet
