"""Options of long jobs: what is kept of them, and how they show themselves."""

from pathlib import Path

import click

from vsr.cli.base import Option

_SECTION = "Long jobs"


def restart_option() -> click.Parameter:
    """`--restart`."""
    return Option(
        ["--restart"],
        section=_SECTION,
        is_flag=True,
        help="Begin anew where an interrupted job would go on by itself.",
    )


def manifest_option() -> click.Parameter:
    """`--manifest`."""
    return Option(
        ["--manifest"],
        section=_SECTION,
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.json",
        help="Write down what was made of what, and how; `vsr reproduce` does it again.",
    )


def segment_option() -> click.Parameter:
    """`--segment`."""
    return Option(
        ["--segment"],
        section=_SECTION,
        type=click.IntRange(min=1),
        metavar="FRAMES",
        help="Frames after which finished work is safe from a crash. Default: 500.",
    )


def keep_after_option() -> click.Parameter:
    """`--keep-after`."""
    return Option(
        ["--keep-after"],
        section=_SECTION,
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Work that an interrupted job keeps must have taken so long; the files of shorter "
        "ones are removed. Default: 60.",
    )


def progress_option() -> click.Parameter:
    """`--progress`."""
    return Option(
        ["--progress", "style"],
        section="General",
        type=click.Choice(["bar", "line", "json", "none"]),
        help="bar; line: every 5 s on stderr; json: objects on stdout. Default: bar on a terminal.",
    )
