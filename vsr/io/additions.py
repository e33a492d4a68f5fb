"""Makes packets out of stored pieces, alpha included.

VP9 in Matroska has its alpha in a BlockAdditional beside each block. FFmpeg holds that as side data
of a packet, which PyAV can read but not make; so such packets are read from a Matroska file of
blocks that exists in memory only (RFC 9559).
"""

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import batched
from typing import Final

import av
from av.packet import Packet

from vsr.errors import SinkError
from vsr.io.matroska import element, number
from vsr.io.segments import Piece
from vsr.io.tracks import AnyPacket

_TOGETHER: Final = 64
"""Packets read from one file in memory."""
_HEADER, _DOCTYPE = 0x1A45DFA3, 0x4282
_SEGMENT, _INFO, _TIMESTAMP_SCALE = 0x18538067, 0x1549A966, 0x2AD7B1
_TRACKS, _TRACK, _NUMBER, _UID, _TYPE, _CODEC = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83, 0x86
_VIDEO, _WIDTH, _HEIGHT, _ALPHA = 0xE0, 0xB0, 0xBA, 0x53C0
_CLUSTER, _TIMESTAMP, _GROUP, _BLOCK = 0x1F43B675, 0xE7, 0xA0, 0xA1
_ADDITIONS, _MORE, _ADD_ID, _ADDITIONAL = 0x75A1, 0xA6, 0xEE, 0xA5
_ID_BYTES: Final = 8
"""Of the BlockAddID in front of FFmpeg's side data."""


def packets(dated: Iterable[tuple[Piece, int]]) -> Iterator[AnyPacket]:
    """Makes packets with times in ticks of the output, to be given a stream.

    Args:
        dated: Pieces with their decoding times.
    """
    for some in batched(dated, _TOGETHER):
        pieces = [piece for piece, _ in some]
        alone = not any(piece.addition for piece in pieces)
        made = [Packet(piece.data) for piece in pieces] if alone else _with_additions(pieces)
        for (piece, dts), packet in zip(some, made, strict=True):
            packet.pts, packet.dts, packet.duration = piece.pts, dts, piece.duration
            packet.is_keyframe = piece.key
            yield packet


def _with_additions(pieces: list[Piece]) -> list[AnyPacket]:
    with av.open(BytesIO(_file(pieces)), "r", format="matroska") as opened:
        read = [packet for packet in opened.demux() if packet.size]
    if [bytes(packet) for packet in read] != [piece.data for piece in pieces]:
        msg = "packets with alpha were not read back as they were: please report"
        raise SinkError(msg)
    return read


def _file(pieces: list[Piece]) -> bytes:
    video = element(_WIDTH, number(16)) + element(_HEIGHT, number(16)) + element(_ALPHA, number(1))
    track = (
        element(_NUMBER, number(1))
        + element(_UID, number(1))
        + element(_TYPE, number(1))
        + element(_CODEC, b"V_VP9")
        + element(_VIDEO, video)
    )
    blocks = b"".join(_group(place, piece) for place, piece in enumerate(pieces))
    body = (
        element(_INFO, element(_TIMESTAMP_SCALE, number(1_000_000)))
        + element(_TRACKS, element(_TRACK, track))
        + element(_CLUSTER, element(_TIMESTAMP, number(0)) + blocks)
    )
    return element(_HEADER, element(_DOCTYPE, b"matroska")) + element(_SEGMENT, body)


def _group(place: int, piece: Piece) -> bytes:
    """A BlockGroup: track 1, relative time, no lacing."""
    block = element(_BLOCK, b"\x81" + place.to_bytes(2) + b"\x00" + piece.data)
    if not piece.addition:
        return element(_GROUP, block)
    ident = int.from_bytes(piece.addition[:_ID_BYTES])
    more = element(_ADD_ID, number(ident)) + element(_ADDITIONAL, piece.addition[_ID_BYTES:])
    return element(_GROUP, block + element(_ADDITIONS, element(_MORE, more)))
