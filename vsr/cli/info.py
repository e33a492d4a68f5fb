"""`vsr info`: what is in a file, and what would be done with it and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import naming
from vsr.cli.base import Argument, Command, Option
from vsr.cli.options import job_options
from vsr.cli.settings import job_from, wanted_size
from vsr.cli.tables import size, table
from vsr.errors import UsageError, VsrError

if TYPE_CHECKING:
    from vsr.io.probe import MediaInfo, StreamFacts, TimingFacts, VideoFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be done: rows of topic, decision, reason; or why nothing would."""

    rows: Sequence[tuple[str, str, str]] = ()
    refused: str | None = None


@click.command(
    cls=Command,
    params=[
        Argument(["source"], metavar="FILE", about="A video or picture."),
        Option(["--json", "as_json"], is_flag=True, help="Print JSON; times are exact fractions."),
        Option(
            ["--count"],
            is_flag=True,
            help="Read the whole file for exact facts about its times.",
        ),
        Option(
            ["-o", "--output"],
            metavar="FILE",
            help="Explain what would become of this output. Default: NAME_x4.mkv beside.",
        ),
        *job_options(),
    ],
    examples=("vsr info movie.mp4", "vsr info movie.mp4 --count -s 1080p -o out.mp4"),
)
def command(**values: Any) -> None:
    """Show streams, colour and times of a file, and what `vsr upscale` would do and why."""
    from vsr.io.probe import probe  # noqa: PLC0415 - only when asked

    sources = naming.expand([values["source"]], allow_url=values["allow_url"])
    if len(sources) > 1:
        msg = f"{values['source']!r} matches {len(sources)} files: name one"
        raise UsageError(msg)
    found = probe(sources[0], count=values["count"], allow_url=values["allow_url"])
    plan = _plan(values, sources[0])
    if values["as_json"]:
        click.echo(json.dumps({"file": plain(found), "plan": plain(plan)}, indent=2))
    else:
        click.echo("\n".join([*_file(found), *_streams(found), *_steps(plan)]))


def _plan(values: Mapping[str, Any], source: naming.Source) -> Plan:
    """Asks the job; a file that would be refused still has its streams shown."""
    from vsr.planning import explain  # noqa: PLC0415 - torch comes with it

    chosen = naming.Naming(
        output=values["output"],
        suffix=f"_{wanted_size(values).text}",
        extension=naming.extension(None, values["container"]),
    )
    target = chosen.targets([source])[0]
    job = job_from({**values, "overwrite": True}, source, target)
    try:
        return Plan(rows=explain(job))
    except VsrError as error:
        return Plan(refused=str(error))


def plain(value: Any) -> Any:
    """Turns facts into what JSON can say: fractions as `n/d`, bytes as hexadecimal digits."""
    if is_dataclass(value):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Fraction | Path):
        return str(value)
    return value.hex() if isinstance(value, bytes) else value


def _file(found: "MediaInfo") -> list[str]:
    facts = [found.description]
    facts += [size(found.size)] if found.size is not None else []
    facts += [clock(found.duration)] if found.duration is not None else []
    facts += [f"starts at {clock(found.start)}"] if found.start else []
    facts += [f"{found.bit_rate / 1000:.0f} kbit/s"] if found.bit_rate else []
    rows = [("file", found.path), ("container", ", ".join(facts))]
    if found.truncated:
        rows.append(("damage", "the file is shorter than its headers say"))
    if found.chapters:
        rows.append(("chapters", str(len(found.chapters))))
    if title := found.tags.get("title"):
        rows.append(("title", title))
    return table(rows)


def _streams(found: "MediaInfo") -> list[str]:
    rows = []
    for stream in found.streams:
        mark = "*" if stream.index == found.main_video else " "
        rows.append((f"{mark}{stream.index}", stream.kind, stream.codec or "?", _words(stream)))
    lines = ["", "streams (* would be upscaled)" if found.main_video is not None else "streams"]
    lines += table(rows, indent=2) if rows else ["  none"]
    timed = [(s.index, s.timing) for s in found.streams if s.timing is not None]
    if timed:
        lines += ["", "times", *table([(f" {i}", _times(t)) for i, t in timed], indent=2)]
    return lines


def _words(stream: "StreamFacts") -> str:
    words = _video(stream.video) if stream.video else []
    if stream.audio:
        words = [f"{stream.audio.sample_rate} Hz", stream.audio.layout]
    words += [clock(stream.duration)] if stream.duration is not None else []
    words += [f"starts at {clock(stream.start)}"] if stream.start else []
    words += [word for word in (stream.language, *stream.dispositions) if word]
    words += [f'"{stream.title}"'] if stream.title else []
    name = stream.tags.get("filename")
    return ", ".join([*words, name] if name else words)


def _video(video: "VideoFacts") -> list[str]:
    from vsr.io.color import (  # noqa: PLC0415 - only when asked
        matrix_name,
        primaries_name,
        range_name,
        siting_name,
        transfer_name,
    )

    color = video.color
    words = [f"{video.width}x{video.height}", video.pixel_format or "unknown format"]
    if video.sample_aspect != 1:
        words.append(f"pixels {video.sample_aspect.numerator}:{video.sample_aspect.denominator}")
    rate = video.average_rate or video.nominal_rate
    words += [f"{float(rate):.6g} fps"] if rate and not video.cover else []
    words.append(
        f"matrix {matrix_name(color.matrix)}, primaries {primaries_name(color.primaries)}, "
        f"transfer {transfer_name(color.transfer)}, range {range_name(color.full_range)}"
    )
    words += [f"chroma {siting_name(color.siting)}"] if color.siting else []
    words += ["interlaced"] if video.field_order not in ("unknown", "progressive") else []
    words += [f"turned by {video.rotation}"] if video.rotation else []
    words += ["mirrored"] if video.mirrored else []
    words += (
        ["HDR metadata"] if video.hdr and (video.hdr.mastering or video.hdr.light_level) else []
    )
    words += ["alpha"] if video.alpha else []
    return words


def _times(timing: "TimingFacts") -> str:
    words = [f"{timing.packets} packets", f"{timing.keyframes} key"]
    if timing.first is not None and timing.last is not None:
        words.append(f"{clock(timing.first)} to {clock(timing.last)}")
    if timing.shortest is not None and timing.longest is not None:
        steps = f"{float(timing.shortest) * 1000:.6g} to {float(timing.longest) * 1000:.6g} ms"
        words.append("constant rate" if timing.constant else f"variable, steps of {steps}")
    for count, what in (
        (timing.gaps, "gaps"),
        (timing.untimed, "without a time"),
        (timing.repeated, "with the time of another"),
    ):
        words += [f"{count} {what}"] if count else []
    return ", ".join(words)


def _steps(plan: Plan) -> list[str]:
    if plan.refused is not None:
        return ["", f"would be refused: {plan.refused}"]
    return ["", "what would be done", *table(plan.rows, indent=2)]


def clock(seconds: Fraction) -> str:
    """Writes a time as `h:mm:ss.fff`, rounded to the millisecond.

    >>> clock(Fraction(3725004, 1000))
    '1:02:05.004'
    """
    count = round(abs(seconds) * 1000)
    minutes, rest = divmod(count, 60_000)
    sign = "-" if seconds < 0 and count else ""
    return f"{sign}{minutes // 60}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
