"""`vsr upscale`: one file or many, each to its own output."""

import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import console, door, naming
from vsr.cli.allocator import keep_freed_memory
from vsr.cli.base import Argument, Command, Option
from vsr.cli.download import fetch_for
from vsr.cli.options import job_options
from vsr.cli.progress import Reporter, reporter
from vsr.cli.settings import job_from, wanted_size
from vsr.cli.signals import Stop
from vsr.errors import CancelledError

if TYPE_CHECKING:
    from vsr.planning import UpscaleJob
    from vsr.types import Progress

_EXAMPLES = (
    "vsr upscale movie.mp4 -s 4 -o movie_x4.mkv",
    "vsr upscale movie.mp4 -s 1080p -n realesr-animevideov3 -c x265 --crf 20",
    "vsr upscale 'season1/*.mkv' -s 2 -o upscaled/",
    "vsr upscale clip.mp4 -s 1.5 --start 1:30 --end 1:45.5 -o cut.mkv",
)


def _file_options() -> list[click.Parameter]:
    section = "Files"
    return [
        Argument(
            ["inputs"],
            nargs=-1,
            metavar="INPUT...",
            about="Videos or pictures; patterns such as '*.mkv' work too.",
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
            help="A file, a folder, or a pattern: 'out/{name}.mp4'. Default: NAME_x4.mkv beside.",
        ),
        Option(
            ["-y", "--overwrite"],
            section=section,
            is_flag=True,
            help="Replace an output that exists.",
        ),
        Option(
            ["-f", "--ext", "--format", "ext"],
            section=section,
            metavar="SUFFIX",
            help="Suffix of outputs that -o does not name. Default: mkv, or png for pictures.",
        ),
        Option(
            ["--suffix"],
            section=section,
            metavar="TEXT",
            help="Text after NAME_ of outputs that -o does not name. Default: the size, as x4.",
        ),
    ]


def _progress_option() -> click.Parameter:
    return Option(
        ["--progress", "style"],
        section="General",
        type=click.Choice(["bar", "line", "json", "none"]),
        help="bar; line: every 5 s on stderr; json: objects on stdout. Default: bar on a terminal.",
    )


@click.command(
    cls=Command,
    params=[*_file_options(), *job_options(), _progress_option()],
    examples=_EXAMPLES,
    no_args_is_help=True,
)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Upscale videos; sound, subtitles, times and colour stay as they are."""
    keep_freed_memory()
    sources = _sources(ctx, values)
    targets = _naming(values).targets(sources)
    template = job_from(values, sources[0], targets[0])
    jobs = [
        replace(template, source=source, target=target)
        for source, target in zip(sources, targets, strict=True)
    ]
    _fetch_model(template)
    code = run_all(jobs, reporter(values["style"]), ctx.find_object(Stop) or Stop())
    ctx.exit(code)


def _fetch_model(job: "UpscaleJob") -> None:
    """Downloads a published model with a bar before the work begins, where that is allowed."""
    if job.model_path is None and not job.offline and not os.environ.get("VSR_OFFLINE"):
        scale = None if job.scale is None else Fraction(job.scale)
        fetch_for(job.model, scale, denoise=job.denoise is not None)


def run_all(jobs: Sequence["UpscaleJob"], show: Reporter, stop: Stop) -> int:
    """Runs jobs one after another, going on after a failed one.

    Returns:
        0, or the exit code of the first failure.

    Raises:
        VsrError: The error of the only job, or the user's wish to stop.
    """
    failures: dict[Path | str, int] = {}
    for job in jobs:
        try:
            _run_one(job, show, stop)
        except CancelledError:
            raise
        except Exception as error:
            if len(jobs) == 1 or stop.signal is not None:
                raise
            failures[job.source] = door.tell(error, subject=str(job.source))
    if failures:
        names = ", ".join(str(source) for source in failures)
        console.say(f"vsr: error: {len(failures)} of {len(jobs)} files failed: {names}")
    return next(iter(failures.values()), 0)


def _run_one(job: "UpscaleJob", show: Reporter, stop: Stop) -> None:
    from vsr import jobs  # noqa: PLC0415 - torch may come with it

    def report(progress: "Progress") -> None:
        stop.check()
        show.update(progress)

    show.start(job.source, job.target)
    try:
        result = jobs.run(job, report)
    except BaseException as error:
        verdict = door.judge(error)
        show.fail(verdict.code, verdict.text)
        raise
    show.finish(result)


def _sources(ctx: click.Context, values: dict[str, Any]) -> list[naming.Source]:
    typed = [*values["inputs"], *values["more_inputs"]]
    if not typed:
        msg = "no input: name a video, such as `vsr upscale movie.mp4 -s 2`"
        raise click.UsageError(msg, ctx)
    return naming.expand(typed, allow_url=values["allow_url"])


def _naming(values: dict[str, Any]) -> naming.Naming:
    suffix = values["suffix"] if values["suffix"] is not None else wanted_size(values).text
    return naming.Naming(
        output=values["output"],
        suffix=f"_{suffix}" if suffix else "",
        extension=naming.extension(values["ext"], values["container"]),
    )
