"""Counts what was broken in a source, and finds out whether a file has been cut short.

libavformat ends a cut file silently, so its own size fields are compared with what is there.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from vsr.errors import DamagedSourceError
from vsr.io.open import is_url

_BOXES = frozenset(
    b"ftyp moov mdat moof mfra sidx styp free skip wide uuid udta meta pdin prft emsg".split()
)
_TS_PACKET = 188


@dataclass(slots=True)
class Damage:
    """What was found broken while reading; grows until the last frame.

    Attributes:
        packets: Packets that the container or the decoder found broken.
        frames: Frames given out although parts of them are concealed.
        lost: Frames that could not be decoded at all.
        truncated: Whether the file ends before its own headers say.
        first: Time of the first broken packet or frame in seconds.
        strict: Whether to raise at the first of them.
    """

    packets: int = 0
    frames: int = 0
    lost: int = 0
    truncated: bool = False
    first: Fraction | None = None
    strict: bool = False
    _seen: os.stat_result | None = None

    def __bool__(self) -> bool:
        return bool(self.packets or self.frames or self.lost or self.truncated)

    def packet(self, at: Fraction | None) -> None:
        """Counts a broken packet.

        Raises:
            DamagedSourceError: In strict mode.
        """
        self.packets += 1
        self._note(at)

    def frame(self, at: Fraction | None) -> None:
        """Counts a frame with concealed parts.

        Raises:
            DamagedSourceError: In strict mode.
        """
        self.frames += 1
        self._note(at)

    def missing(self, at: Fraction | None) -> None:
        """Counts a frame that is lost.

        Raises:
            DamagedSourceError: In strict mode.
        """
        self.lost += 1
        self._note(at)

    def look(self, path: str | Path) -> None:
        """Finds out whether a local file is cut short: at first by its headers.

        When called again it tells what another program has done to the file meanwhile. One that was
        removed or replaced is none of ours: what is open is read to its end.

        Raises:
            DamagedSourceError: In strict mode.
        """
        if is_url(path):
            return
        try:
            now = Path(path).stat()
            cut = is_cut_short(Path(path))
        except FileNotFoundError:
            if self._seen is None:
                raise
            return
        before, self._seen = self._seen or now, now
        if os.path.samestat(before, now) and (cut or now.st_size < before.st_size):
            self.cut()

    def cut(self) -> None:
        """Marks the file as cut short.

        Raises:
            DamagedSourceError: In strict mode.
        """
        self.truncated = True
        if self.strict:
            msg = f"{self.message}; leave out --strict to process what is there"
            raise DamagedSourceError(msg)

    def _note(self, at: Fraction | None) -> None:
        if self.first is None:
            self.first = at
        if self.strict:
            msg = f"{self.message}; leave out --strict to conceal them"
            raise DamagedSourceError(msg)

    @property
    def message(self) -> str:
        """One line for the user; empty if nothing was broken."""
        kinds = {
            "damaged packet": self.packets,
            "damaged frame": self.frames,
            "lost frame": self.lost,
        }
        counts = ", ".join(
            f"{count} {kind}{'s' * (count > 1)}" for kind, count in kinds.items() if count
        )
        parts = []
        if counts:
            at = "" if self.first is None else f" (the first at {float(self.first):.3f} s)"
            parts.append(f"concealed: {counts}{at}")
        if self.truncated:
            parts.append("the file is cut short: its end is missing")
        return "; ".join(parts)


def is_cut_short(path: Path) -> bool:
    """Whether a local file's own headers say that it should be longer.

    Knows Matroska, MP4/MOV, AVI and MPEG-TS; others are taken as whole.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head.startswith(b"\x1aE\xdf\xa3"):
            return _matroska_is_cut(file, size)
        if head[4:8] in _BOXES:
            return _mp4_is_cut(file, size)
        if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            claimed = int(struct.unpack("<I", head[4:8])[0])
            return claimed not in {0, 0xFFFFFFFF} and claimed + 8 > size
        if head.startswith(b"G") and _is_transport_stream(file):
            return size % _TS_PACKET != 0
    return False


def _matroska_is_cut(file: BinaryIO, size: int) -> bool:
    """The segment's size (RFC 8794 variable-length integer) reaches beyond the file."""
    file.seek(4)
    header = _vint(file)
    if header is None:
        return True
    file.seek(header, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return False
    segment = _vint(file)
    return segment is not None and file.tell() + segment > size


def _vint(file: BinaryIO) -> int | None:
    """An EBML data size; None for "unknown" (all ones, as live muxers write) and at the end."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + file.read(length - 1), "big")
    return None if value == (1 << 7 * length) - 1 else value


def _mp4_is_cut(file: BinaryIO, size: int) -> bool:
    return any(end > size for end in _box_ends(file))


def _box_ends(file: BinaryIO) -> Iterator[int]:
    """Ends of the top-level boxes (ISO 14496-12), up to the first that is none."""
    at = 0
    while True:
        file.seek(at)
        header = file.read(16)
        if len(header) < 8 or header[4:8] not in _BOXES:
            return
        length = int(struct.unpack(">I", header[:4])[0])
        if length == 1 and len(header) == 16:
            length = int(struct.unpack(">Q", header[8:])[0])
        if length < 8:  # 0: up to the end of the file
            return
        at += length
        yield at


def _is_transport_stream(file: BinaryIO) -> bool:
    return file.read(5 * _TS_PACKET)[::_TS_PACKET] == b"G" * 5
