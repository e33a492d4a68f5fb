"""`vsr upscale`: files, each to its own output; folders of pictures; pictures to a video."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import albums, console, door, naming, pipe
from vsr.cli.allocator import keep_freed_memory
from vsr.cli.base import Argument, Command, Option
from vsr.cli.cluster import cluster_option, run_many, work_dir_option
from vsr.cli.fetching import fetch_all
from vsr.cli.options import job_options, picture_options
from vsr.cli.progress import Json, Reporter, reporter
from vsr.cli.running_options import (
    keep_after_option,
    manifest_option,
    progress_option,
    restart_option,
    segment_option,
)
from vsr.cli.settings import job_from, wanted_size
from vsr.cli.signals import Stop
from vsr.errors import CancelledError, UsageError

if TYPE_CHECKING:
    from vsr.folders import FolderJob, FolderResult
    from vsr.io.folder import Stills
    from vsr.planning import UpscaleJob
    from vsr.types import Progress

_NAMED = 10
"""Most failed pictures that the last line names."""
_EXAMPLES = (
    "vsr upscale movie.mp4 -s 4 -o movie_x4.mkv",
    "vsr upscale movie.mp4 -s 1080p -n realesr-animevideov3 -c x265 --crf 20",
    "vsr upscale 'season1/*.mkv' -s 2 -o upscaled/",
    "vsr upscale clip.mp4 -s 1.5 --start 1:30 --end 1:45.5 -o cut.mkv",
    "vsr upscale frames/ -s 4 -o upscaled/",
    "vsr upscale frames/%06d.png -s 2 --fps 24 -o film.mkv",
)


def _file_options() -> list[click.Parameter]:
    section = "Files"
    return [
        Argument(
            ["inputs"],
            nargs=-1,
            metavar="INPUT...",
            about="Videos, pictures, folders of pictures; '*.mkv' and 'frames/%06d.png' work too.",
        ),
        Option(
            ["-i", "--input", "more_inputs"],
            section=section,
            multiple=True,
            metavar="INPUT",
            help="An input, for names that begin with a dash and for habit; may be repeated.",
        ),
        Option(
            ["-o", "--output"],
            section=section,
            metavar="FILE",
            help="A file, a folder, or a pattern: 'out/{name}.mp4', 'out/%06d.png'. Default: "
            "NAME_x4.mkv beside.",
        ),
        Option(
            ["-y", "--overwrite"],
            section=section,
            is_flag=True,
            help="Replace an output that exists; of many pictures those are skipped otherwise.",
        ),
        Option(
            ["-f", "--ext", "--format", "ext"],
            section=section,
            metavar="SUFFIX",
            help="Suffix of outputs that -o does not name; auto: as the picture. Default: mkv, or "
            "png for pictures.",
        ),
        Option(
            ["--suffix"],
            section=section,
            metavar="TEXT",
            help="Text after NAME_ of outputs that -o does not name. Default: the size, as x4; in "
            "a folder of pictures nothing.",
        ),
    ]


@click.command(
    cls=Command,
    params=[
        *_file_options(),
        *job_options(),
        *picture_options(),
        restart_option(),
        manifest_option(),
        segment_option(),
        keep_after_option(),
        cluster_option(),
        work_dir_option(),
        progress_option(),
    ],
    examples=_EXAMPLES,
    no_args_is_help=True,
)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Upscale videos; sound, subtitles, times and colour stay as they are."""
    keep_freed_memory()
    typed = _typed(ctx, values)
    if pipe.wanted(typed, values["output"]):
        target = values["output"] or "-"
        pipe.run_pipe(ctx, values, pipe.only(typed), target, encode=pipe.encodes(target))
        return
    show, stop = reporter(values["style"]), ctx.find_object(Stop) or Stop()
    album = albums.gather(typed, recursive=values["recursive"], output=values["output"])
    if album is not None and not album.alone:
        ctx.exit(_run_album(album, values, show, stop))
    _refuse_picture_options(values)
    sources = naming.expand(typed, allow_url=values["allow_url"])
    targets = _naming(values).targets(sources)
    template = job_from(values, sources[0], targets[0])
    jobs = [
        replace(template, source=source, target=target)
        for source, target in zip(sources, targets, strict=True)
    ]
    fetch_all(template)
    ctx.exit(run_many(jobs, values, show, stop))


def _run_album(album: albums.Album, values: dict[str, Any], show: Reporter, stop: Stop) -> int:
    if values["output"] is not None and albums.kind_of(values["output"]) == "video":
        film = albums.film(album, values)
        fetch_all(film)
        return run_many([film], values, show, stop)
    if values["cluster"] is not None:
        msg = "--cluster takes videos, or pictures that become one; these become pictures"
        raise UsageError(msg)
    job = albums.folder_job(album, values, _naming(values))
    fetch_all(job.how)
    return run_folder(job, album.name, show, stop)


def _refuse_picture_options(values: dict[str, Any]) -> None:
    if values["fps"] is not None:
        msg = "--fps belongs to folders of pictures; a video keeps its own times"
        raise UsageError(msg)
    if values["workers"] is not None and "%" not in (values["output"] or ""):
        msg = "-j belongs to folders of pictures; the stages of a video already run side by side"
        raise UsageError(msg)


def run_all(jobs: Sequence["UpscaleJob"], show: Reporter, stop: Stop) -> int:
    """Runs jobs one after another, going on after a failed one.

    Returns:
        0, or the exit code of the first failure.

    Raises:
        VsrError: The error of the only job, or the user's wish to stop.
    """
    failures: dict[str, int] = {}
    for job in jobs:
        try:
            _run_one(job, show, stop)
        except CancelledError:
            raise
        except Exception as error:
            if len(jobs) == 1 or stop.signal is not None:
                raise
            failures[str(job.source)] = door.tell(error, subject=str(job.source))
    if failures:
        names = ", ".join(failures)
        console.say(f"vsr: error: {len(failures)} of {len(jobs)} files failed: {names}")
    return next(iter(failures.values()), 0)


def run_folder(job: "FolderJob", name: str, show: Reporter, stop: Stop) -> int:
    """Runs a job of many pictures, and names at its end those that failed.

    Returns:
        0, or the exit code of the first failure.

    Raises:
        VsrError: What stops the whole job, or the user's wish to.
    """
    from vsr import folders  # noqa: PLC0415 - torch comes with it

    def report(progress: "Progress") -> None:
        stop.check()
        show.update(progress)

    show.start(name, job.target)
    try:
        result = folders.run(job, report)
    except BaseException as error:
        verdict = door.judge(error)
        show.fail(verdict.code, verdict.text)
        raise
    return _told(job, result, show)


def _told(job: "FolderJob", result: "FolderResult", show: Reporter) -> int:
    for error in result.failed.values():
        verdict = door.judge(error)
        show.fail(verdict.code, verdict.text)
    if result.frames or isinstance(show, Json):
        show.finish(result)
    if result.skipped and not console.quiet():
        whole = f"{result.skipped} of {len(job.pairs)}"
        console.say(f"vsr: {whole} pictures were there already and stay; -y does them again")
    codes = [door.tell(error, subject=str(path)) for path, error in result.failed.items()]
    if codes:
        names = ", ".join(path.name for path in list(result.failed)[:_NAMED])
        names += ", ..." if len(codes) > _NAMED else ""
        console.say(f"vsr: error: {len(codes)} of {len(job.pairs)} pictures failed: {names}")
    return next(iter(codes), 0)


def _run_one(job: "UpscaleJob", show: Reporter, stop: Stop) -> None:
    from vsr import jobs  # noqa: PLC0415 - torch may come with it

    def report(progress: "Progress") -> None:
        stop.check()
        show.update(progress)

    show.start(_shown(job.source), job.target)
    try:
        result = jobs.run(job, report)
    except BaseException as error:
        verdict = door.judge(error)
        show.fail(verdict.code, verdict.text)
        raise
    show.finish(result)


def _shown(source: "Path | str | Stills") -> Path | str:
    return source if isinstance(source, Path | str) else str(source)


def _typed(ctx: click.Context, values: dict[str, Any]) -> list[str]:
    typed = [*values["inputs"], *values["more_inputs"]]
    if not typed:
        msg = "no input: name a video, such as `vsr upscale movie.mp4 -s 2`"
        raise click.UsageError(msg, ctx)
    return typed


def _naming(values: dict[str, Any]) -> naming.Naming:
    suffix = values["suffix"] if values["suffix"] is not None else wanted_size(values).text
    return naming.Naming(
        output=values["output"],
        suffix=f"_{suffix}" if suffix else "",
        extension=naming.extension(values["ext"], values["container"]),
    )
