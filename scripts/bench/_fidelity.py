"""What an upscaled film has lost, seen with PyAV alone and not with the parts of vsr that judge.

A film that is shown right, only larger, has lost nothing: as many frames at the same times, the
other streams packet by packet, chapters and titles, depth, chroma, aspect, and the colours that a
player shows. A player takes untagged pictures for BT.709 where they are at least 1280 wide or more
than 576 high, and else for BT.601.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame

_TICK = Fraction(1, 1000)  # Matroska's: times may be that far off
_SEEN = 2.5  # mean difference of coarse blocks, of 255; a network's own changes stay below
_MATRICES = {1: "ITU709", 5: "ITU601", 6: "ITU601", 9: "ITU709"}
_BLOCKS = (9, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What is compared.

    Attributes:
        times: Of every presented frame, seconds.
        shown: Colours of the first frame as a player shows them: blocks of RGB, 0 to 255.
        bits: Depth of a sample.
        chroma: Its subsampling in FFmpeg's words, such as 420.
        aspect: Of the whole picture as it is shown.
        matrix: H.273 number, 2 where none is told.
        counts: Streams by type, and chapters.
        packets: Digests of what other streams hold, by type.
        delay: First sound after first picture, seconds; None without sound.
        titles: Title of the film and titles and languages of streams.
    """

    times: tuple[Fraction, ...]
    shown: np.ndarray[Any, np.dtype[np.float64]]
    bits: int
    chroma: str
    aspect: Fraction
    matrix: int
    counts: dict[str, int]
    packets: dict[str, list[bytes]]
    delay: Fraction | None
    titles: frozenset[str]


def _shown(frame: VideoFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean colours of blocks, by the frame's tags or by a player's guess."""
    large = frame.width >= 1280 or frame.height > 576
    matrix = _MATRICES.get(int(frame.colorspace), "ITU709" if large else "ITU601")
    colours = {} if frame.format.is_rgb else {"src_colorspace": matrix}
    high, wide = _BLOCKS
    small = frame.reformat(wide, high, "rgb24", interpolation="AREA", **colours)
    return small.to_ndarray().astype(np.float64)


def look(path: Path) -> Film:
    """Decodes a film once."""
    with av.open(str(path)) as file:
        video = next(s for s in file.streams.video if not s.disposition & Disposition.attached_pic)
        found, first = [], None
        for number, frame in enumerate(file.decode(video)):
            found.append((number if frame.pts is None else frame.pts) * video.time_base)
            first = first or frame
        sample = video.sample_aspect_ratio or video.codec_context.sample_aspect_ratio or 1
        counts = {"chapters": len(file.chapters())}
        for stream in file.streams:
            counts[stream.type] = counts.get(stream.type, 0) + 1
        titles = {file.metadata.get("title", "")}
        for stream in file.streams:
            titles |= {stream.metadata.get("title", ""), stream.metadata.get("language", "")}
    packets: dict[str, list[bytes]] = {}
    delay = None
    if first is None:
        msg = f"{path.name} has no frame to compare: take another file"
        raise ValueError(msg)
    times = tuple(map(Fraction, found))
    with av.open(str(path)) as file:
        others = [*file.streams.audio, *file.streams.subtitles]
        for packet in file.demux(others) if others else ():  # demux() of none reads all
            if packet.size:
                digest = hashlib.sha256(bytes(packet)).digest()
                packets.setdefault(packet.stream.type, []).append(digest)
                if delay is None and packet.stream.type == "audio" and packet.pts is not None:
                    delay = packet.pts * packet.time_base - times[0]
    parts = first.format.components
    chroma = "rgb" if first.format.is_rgb else _chroma(first)
    return Film(
        times=times,
        shown=_shown(first),
        bits=max(part.bits for part in parts),
        chroma=chroma,
        aspect=Fraction(first.width, first.height) * Fraction(sample),
        matrix=int(first.colorspace),
        counts=counts,
        packets=packets,
        delay=delay,
        titles=frozenset(titles - {"", "und"}),
    )


def _chroma(frame: VideoFrame) -> str:
    if len(frame.format.components) < 3:
        return "gray"
    second = frame.format.components[1]
    wide, high = second.width * 2 <= frame.width + 1, second.height * 2 <= frame.height + 1
    return "420" if wide and high else "422" if wide else "444"


def losses(source: Path, output: Path) -> list[str]:
    """What is missing or wrong in an output, one phrase each; nothing if it is whole."""
    one, other = look(source), look(output)
    return [*_time(one, other), *_streams(one, other), *_picture(one, other)]


def _time(one: Film, other: Film) -> Iterator[str]:
    if len(one.times) != len(other.times):
        yield f"{len(other.times)} frames for {len(one.times)}"
    else:
        gaps = [abs((b - other.times[0]) - (a - one.times[0])) for a, b in _pairs(one, other)]
        if max(gaps) > _TICK:
            yield f"times up to {float(max(gaps)) * 1000:.0f} ms off"
    if one.delay is not None and other.delay is not None:
        moved = other.delay - one.delay
        if abs(moved) > 2 * _TICK:
            yield f"sound {float(moved) * 1000:+.0f} ms against the picture"


def _pairs(one: Film, other: Film) -> Iterator[tuple[Fraction, Fraction]]:
    return zip(one.times, other.times, strict=True)


def _streams(one: Film, other: Film) -> Iterator[str]:
    for kind, count in one.counts.items():
        kept = other.counts.get(kind, 0)
        if kept < count and kind != "video":
            yield f"{kind} {kept} of {count}"
        elif kind in one.packets and set(one.packets[kind]) - set(other.packets.get(kind, [])):
            yield f"{kind} changed"
    if lost := one.titles - other.titles:
        yield f"titles and languages ({', '.join(sorted(lost))})"


def _picture(one: Film, other: Film) -> Iterator[str]:
    if other.bits < one.bits:
        yield f"{other.bits} bits for {one.bits}"
    if one.chroma in {"422", "444", "rgb"} and other.chroma == "420":
        yield "half of the chroma"
    if abs(other.aspect / one.aspect - 1) > Fraction(1, 100):
        yield f"aspect {float(other.aspect):.2f} for {float(one.aspect):.2f}"
    if one.matrix != 2 and other.matrix == 2:
        yield "colour tags"
    if (apart := float(np.abs(one.shown - other.shown).mean())) > _SEEN:
        yield f"colours {apart:.1f}/255 off"
