"""`vsr batch`: all videos of lists and folders, here or spread over a cluster."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vsr.cli import console, naming
from vsr.cli.base import Argument, Command, Option
from vsr.cli.cluster import cluster_option, run_many, work_dir_option
from vsr.cli.fetching import fetch_all
from vsr.cli.options import job_options
from vsr.cli.progress import reporter
from vsr.cli.running_options import (
    keep_after_option,
    progress_option,
    restart_option,
    segment_option,
)
from vsr.cli.settings import job_from, wanted_size
from vsr.cli.signals import Stop
from vsr.errors import SourceError, SourceNotFoundError

if TYPE_CHECKING:
    from vsr.planning import UpscaleJob

_LISTS: Final = frozenset({".txt", ".lst", ".list"})
_VIDEO_SUFFIXES: Final = """
    .3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .ts .vob .webm .wmv .y4m
"""
_VIDEOS: Final = frozenset(_VIDEO_SUFFIXES.split())
_EXAMPLES = (
    "vsr batch season1/ -s 2 -o upscaled/",
    "vsr batch films.txt -s 1080p -o upscaled/ --cluster ray://head:10001",
)


def _options() -> list[click.Parameter]:
    files = "Files"
    return [
        Argument(
            ["places"],
            nargs=-1,
            metavar="LIST|FOLDER...",
            about="Text files with one video a line, folders of videos, or videos.",
        ),
        Option(
            ["-o", "--output"],
            section=files,
            metavar="FOLDER",
            help="A folder, or a pattern: 'out/{name}.mp4'. Default: NAME_x4.mkv beside.",
        ),
        Option(
            ["-y", "--overwrite"],
            section=files,
            is_flag=True,
            help="Replace outputs that exist; they are skipped otherwise.",
        ),
        Option(
            ["-f", "--ext", "--format", "ext"],
            section=files,
            metavar="SUFFIX",
            help="Suffix of the outputs. Default: mkv.",
        ),
        Option(
            ["--suffix"],
            section=files,
            metavar="TEXT",
            help="Text after NAME_ of the outputs. Default: the size, as x4.",
        ),
        Option(
            ["-r", "--recursive"],
            section=files,
            is_flag=True,
            help="Look into folders within folders.",
        ),
        *job_options(),
        restart_option(),
        segment_option(),
        keep_after_option(),
        cluster_option(),
        work_dir_option(),
        progress_option(),
    ]


@click.command(cls=Command, params=_options(), examples=_EXAMPLES, no_args_is_help=True)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Upscale many videos; what is there already stays."""
    if not values["places"]:
        msg = "no input: name a list or folder, such as `vsr batch season1/ -s 2`"
        raise click.UsageError(msg, ctx)
    sources = list(dict.fromkeys(_sources(values["places"], deep=values["recursive"])))
    jobs = _jobs(sources, values)
    todo = [job for job in jobs if values["overwrite"] or not os.path.lexists(job.target)]
    skipped = len(jobs) - len(todo)
    if skipped and not console.quiet():
        console.say(f"vsr: {skipped} of {len(jobs)} outputs are there already and stay")
    if not todo:
        return
    fetch_all(todo[0])
    show, stop = reporter(values["style"]), ctx.find_object(Stop) or Stop()
    ctx.exit(run_many(todo, values, show, stop))


def _jobs(sources: Sequence[Path], values: dict[str, Any]) -> "list[UpscaleJob]":
    suffix = values["suffix"] if values["suffix"] is not None else wanted_size(values).text
    names = naming.Naming(
        output=values["output"],
        suffix=f"_{suffix}" if suffix else "",
        extension=naming.extension(values["ext"], values["container"]),
    )
    targets = names.targets(sources)
    template = job_from(values, sources[0], targets[0])
    return [
        replace(template, source=source, target=target)
        for source, target in zip(sources, targets, strict=True)
    ]


def _sources(places: Sequence[str], *, deep: bool) -> Iterator[Path]:
    """The videos that are meant.

    Raises:
        SourceError: A folder or list without videos, or one that cannot be read.
        SourceNotFoundError: A name without a file.
    """
    for place in map(Path, places):
        if not place.exists():
            msg = f"no such file: {place}"
            raise SourceNotFoundError(msg)
        if place.is_dir():
            yield from _in_folder(place, deep=deep)
        elif place.suffix.lower() in _LISTS:
            yield from _in_list(place)
        else:
            yield place


def _in_folder(folder: Path, *, deep: bool) -> list[Path]:
    found = sorted(folder.rglob("*") if deep else folder.iterdir())
    videos = [
        path
        for path in found
        if path.suffix.lower() in _VIDEOS and path.is_file() and not path.name.startswith(".")
    ]
    if not videos:
        more = "" if deep else "; -r looks into the folders in it"
        msg = f"{folder} holds no videos (such as .mkv, .mp4){more}"
        raise SourceError(msg)
    return videos


def _in_list(path: Path) -> list[Path]:
    """Names, one a line, from the list's folder on; `#` begins a remark."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} is no list of files: expected one name a line in UTF-8"
        raise SourceError(msg) from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        msg = f"{path} names no file: write one a line"
        raise SourceError(msg)
    found = [path.parent / name for name in names]
    for number, one in enumerate(found):
        if not one.is_file():
            msg = f"{path} names {names[number]}, which is no file"
            raise SourceNotFoundError(msg)
    return found
