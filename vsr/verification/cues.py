"""The words of text subtitles and when they are shown, whatever the format says them in."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Final

from vsr.io.inspection import UNTIMED, PacketLog

TEXT: Final = frozenset({"subrip", "ass", "ssa", "webvtt", "mov_text", "text"})
"""Codecs whose words can be read here."""
_MARKUP: Final = re.compile(r"\{[^}]*\}|<[^>]*>")
_ASS_FIELDS: Final = 8
"""Commas before the text of an ASS event in Matroska: ReadOrder, Layer, Style, Name, margins."""
_GRACE: Final = Fraction(1, 50)
"""Seconds by which a converted text may appear or go at another time: a field of video."""


@dataclass(frozen=True, slots=True)
class Line:
    """Words on the screen; times in seconds."""

    start: Fraction
    end: Fraction
    text: str


def lines_of(log: PacketLog, codec: str) -> list[Line]:
    """All that is shown, in order; pauses, which mp4 writes as empty texts, left out."""
    found = []
    for ticks, duration, payload in zip(log.times, log.durations, log.payloads, strict=True):
        text = plain(payload, codec)
        if text and ticks != UNTIMED:
            start = ticks * log.time_base
            found.append(Line(start, start + duration * log.time_base, text))
    return found


def plain(payload: bytes, codec: str) -> str:
    r"""The words without markup.

    >>> plain(rb"0,0,Default,,0,0,0,,{\i1}Hello", "ass")
    'Hello'
    """
    if codec == "mov_text":
        payload = payload[2 : 2 + int.from_bytes(payload[:2])]
    text = payload.decode("utf-8", "replace")
    if codec in ("ass", "ssa"):
        text = text.split(",", _ASS_FIELDS)[-1]
    text = _MARKUP.sub("", text).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    return "\n".join(line.strip() for line in text.replace("\r", "").strip().split("\n"))


def missing(source: Iterable[Line], output: list[Line], shift: Fraction) -> Line | None:
    """The first text that is not shown all of its time; None if all are.

    Formats that show one text at a time hold those of two cues in one while they overlap.
    """
    at = 0
    for line in source:
        start, end = line.start + shift, line.end + shift
        while at < len(output) and output[at].end < start - _GRACE:
            at += 1
        begun, seen = False, start
        for shown in islice(output, at, None):
            if shown.start > seen + _GRACE:
                break
            if line.text in shown.text:
                begun |= abs(shown.start - start) <= _GRACE
                seen = max(seen, shown.end)
        if not begun or seen + _GRACE < end:
            return line
    return None
