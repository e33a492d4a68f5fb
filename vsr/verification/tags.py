"""Compares what is said in words: tags of the file and its streams, chapters, attached files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

from vsr.io.containers import Container
from vsr.io.inspection import PacketLog
from vsr.io.probe import Chapter, MediaInfo, StreamFacts
from vsr.verification.report import Finding, fault, note, ok

_STALE: Final = re.compile(
    r"(encoder|major_brand|minor_version|compatible_brands|creation_time|duration|handler_name"
    r"|vendor_id|software|bps|number_of_.*|_statistics.*|service_.*|timecode|variant_bitrate"
    r"|.*-eng)",
    re.IGNORECASE,
)
"""Tags that speak of the old file, or that muxers write themselves."""
_FLAGS: Final = frozenset(
    {"default", "forced", "hearing_impaired", "visual_impaired", "original", "comment"}
)
"""Dispositions that Matroska has words for."""
_CHAPTER: Final = Fraction(1, 500)
"""Seconds by which a chapter may begin or end at another time: two ticks of Matroska."""


def file_tags(source: MediaInfo, output: MediaInfo, container: Container) -> Finding:
    """Compares the tags of the whole file."""
    wanted, given = _spoken(source.tags), _spoken(output.tags)
    lost = sorted(key for key, value in wanted.items() if given.get(key) != value)
    if not lost:
        return ok("file tags", f"{len(wanted)} tags")
    text = f"tags lost or changed: {', '.join(lost)}"
    foreign = container.tags is not None and not set(lost) & container.tags
    return (note if foreign else fault)("file tags", text, lost=lost)


def _spoken(tags: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in tags.items() if not _STALE.fullmatch(key)}


def stream_tags(
    source: StreamFacts, output: StreamFacts, container: Container
) -> Iterator[Finding]:
    """Compares language, title and flags of a stream, as far as the container can say them."""
    name = f"stream #{source.index} ({source.kind})"
    one, other = source.language or "und", output.language or "und"
    if one != other:
        yield fault("language", f"{name}: language {other}, expected {one}")
    words = container.tags is None
    if words and source.title != output.title:
        yield fault("title", f"{name}: title {output.title!r}, expected {source.title!r}")
    elif source.title != output.title:
        yield note("title", f"{name}: {container.name} has no place for its title")
    flags = _FLAGS if "default" in source.dispositions else _FLAGS - {"default"}
    wanted, given = flags & set(source.dispositions), flags & set(output.dispositions)
    if words and wanted != given:
        text = f"{name}: flags {_listed(given)}, expected {_listed(wanted)}"
        yield fault("disposition", text)


def _listed(names: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def chapters(
    source: Sequence[Chapter],
    output: Sequence[Chapter],
    shift: Fraction,
    part: tuple[Fraction | None, Fraction | None],
    container: Container,
) -> Finding | None:
    """Compares chapters; those of an excerpt are cut to it.

    In mp4 the first begins at 0 and each lasts until the next, so only their starts are compared.

    Args:
        source: Of the source.
        output: Of the output.
        shift: Seconds by which all times move.
        part: Start and end of the excerpt in the source's times.
        container: Of the output.
    """
    wanted = list(_cut(source, part))
    if not wanted and not output:
        return None
    details = {"source": len(wanted), "output": len(output)}
    if len(wanted) != len(output):
        return fault("chapters", f"{len(output)} chapters, expected {len(wanted)}", **details)
    for number, (one, other) in enumerate(zip(wanted, output, strict=True)):
        late = abs(one.start + shift - other.start)
        if container.tick is not None:
            late = max(late, abs(one.end + shift - other.end))
        elif not number and not other.start:
            late = Fraction(0)
        if late > _CHAPTER or (one.title or "") != (other.title or ""):
            text = f"chapter {number} is {other.title!r} from {float(other.start):.3f} s, "
            text += f"expected {one.title!r} from {float(one.start + shift):.3f} s"
            return fault("chapters", text, **details)
    return ok("chapters", f"{len(wanted)} chapters", **details)


def _cut(
    source: Sequence[Chapter], part: tuple[Fraction | None, Fraction | None]
) -> Iterator[Chapter]:
    start, end = part
    for chapter in source:
        first = chapter.start if start is None else max(chapter.start, start)
        last = chapter.end if end is None else min(chapter.end, end)
        if first <= last and (end is None or first < end):
            yield Chapter(start=first, end=last, title=chapter.title)


def attachments(
    source: Sequence[tuple[StreamFacts, PacketLog]],
    output: Sequence[tuple[StreamFacts, PacketLog]],
    container: Container,
) -> Finding | None:
    """Compares attached files: name, type and bytes."""
    if not source and not output:
        return None
    if source and not container.attachments and not output:
        return note("attachments", f"{container.name} holds no attached files")
    one, other = ([_label(stream) for stream, _ in streams] for streams in (source, output))
    if one != other:
        return fault("attachments", f"attached files {other}, expected {one}")
    for (stream, had), (_, has) in zip(source, output, strict=True):
        if had.whole != has.whole:
            return fault("attachments", f"attached file {_label(stream)} has other bytes")
    return ok("attachments", f"{len(one)} attached files")


def _label(stream: StreamFacts) -> str:
    return f"{stream.tags.get('filename', '?')} ({stream.tags.get('mimetype', '?')})"


def covers(
    source: Sequence[PacketLog], output: Sequence[PacketLog], container: Container
) -> Finding | None:
    """Compares cover pictures, bit by bit, whatever they are in."""
    if not source:
        return None
    if len(output) < len(source):
        text = f"{len(output)} cover pictures, expected {len(source)}"
        return (fault if container.cover else note)("cover", text)
    if {log.whole for log in source} <= {log.whole for log in output}:
        return ok("cover", f"{len(source)} cover pictures")
    return fault("cover", "the cover picture is not that of the source")
