"""`vsr verify`: whether an output is what was to become of its source."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import console, naming
from vsr.cli.base import Argument, Command, Option
from vsr.cli.tables import table
from vsr.cli.values import Size, SizeType, TimeType
from vsr.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from vsr.verification import Expected, Finding, Report

Wrong = VerificationError
"""What is raised about an output that is not what it should be."""
_EXAMPLES = (
    "vsr verify movie.mp4 movie_x4.mkv",
    "vsr verify movie.mp4 movie_x4.mkv --full --json",
    "vsr verify movie.mp4 cut.mkv -s 2 --start 1:30 --end 1:45.5 --no-subs",
)
_MARKS = {"ok": "ok", "note": "note", "fault": "FAULT"}


def _planned() -> list[click.Parameter]:
    section = "What was asked of vsr upscale"
    return [
        Option(
            ["-s", "--scale", "size"],
            section=section,
            type=SizeType(),
            metavar="SIZE",
            help="Factor (4, 1.5), height (1080p) or size (1920x1080). Default: any.",
        ),
        Option(["--start"], section=section, type=TimeType(), help="Begin of the excerpt."),
        Option(["--end"], section=section, type=TimeType(), help="End of the excerpt."),
        Option(["--no-audio"], section=section, is_flag=True, help="The sound was to be left out."),
        Option(["--no-subs"], section=section, is_flag=True, help="Subtitles were to be left out."),
        Option(
            ["--audio-codec"],
            section=section,
            metavar="NAME",
            help="The sound was to be encoded anew. Default: wherever its codec is another.",
        ),
        Option(
            ["--color"],
            section=section,
            type=click.Choice(["keep", "bt601", "bt709"]),
            default="keep",
            help="The matrix asked for. Default: the source's.",
        ),
        Option(
            ["--stream"],
            section=section,
            type=click.IntRange(0),
            metavar="INDEX",
            help="Index of the source's video stream.",
        ),
        Option(
            ["--allow-url"], section=section, is_flag=True, help="The source may be an address."
        ),
    ]


@click.command(
    cls=Command,
    params=[
        Argument(["source"], metavar="SOURCE", about="The video or picture that was upscaled."),
        Argument(["output"], metavar="OUTPUT", about="What was made of it."),
        Option(["--full"], is_flag=True, help="Decode and compare every frame, not a few."),
        Option(["--json", "as_json"], is_flag=True, help="Print JSON."),
        *_planned(),
    ],
    examples=_EXAMPLES,
    no_args_is_help=True,
)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Compare an output with its source: every time, every stream, tags and pictures.

    Exits with 0 if nothing is wrong, with 8 if the output is not what it should be, and with 3 if
    the source cannot be read.
    """
    from vsr.verification import verify  # noqa: PLC0415 - only when asked

    source = _source(values)
    report = verify(source, Path(values["output"]), _expected(values), full=values["full"])
    if values["as_json"]:
        click.echo(json.dumps(_plain(report), indent=2))
    else:
        _show(report)
    if not report.ok:
        if values["as_json"]:
            ctx.exit(Wrong.exit_code)
        raise Wrong(report.message)


def _source(values: Mapping[str, Any]) -> Path | str:
    sources = naming.expand([values["source"]], allow_url=values["allow_url"])
    if len(sources) > 1:
        msg = f"{values['source']!r} matches {len(sources)} files: name one"
        raise UsageError(msg)
    return sources[0]


def _expected(values: Mapping[str, Any]) -> "Expected":
    from vsr.verification import Expected  # noqa: PLC0415 - only when asked

    size: Size | None = values["size"]
    return Expected(
        scale=size.scale if size else None,
        width=size.width if size else None,
        height=size.height if size else None,
        start=values["start"],
        end=values["end"],
        audio=not values["no_audio"],
        subtitles=not values["no_subs"],
        audio_codec=values["audio_codec"],
        color=values["color"],
        stream=values["stream"],
        allow_url=values["allow_url"],
    )


def _show(report: "Report") -> None:
    """The table on stdout; with `-q` only what is wrong."""
    shown = report.faults if console.quiet() else report.findings
    if shown:
        click.echo("\n".join(table([_row(finding) for finding in shown])))
    if report.ok and not console.quiet():
        how = "every frame" if report.full else "a few pictures; --full compares all"
        click.echo(f"nothing wrong ({how})")


def _row(finding: "Finding") -> tuple[str, str, str]:
    return _MARKS[finding.level], finding.check, finding.text


def _plain(report: "Report") -> dict[str, Any]:
    return {
        "source": report.source,
        "output": report.output,
        "full": report.full,
        "ok": report.ok,
        "faults": len(report.faults),
        "findings": [
            {
                "check": finding.check,
                "level": finding.level,
                "text": finding.text,
                "details": dict(finding.details),
            }
            for finding in report.findings
        ],
    }
