"""`vsr pipe`: a video on standard input, upscaled on standard output."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import door
from vsr.cli.allocator import keep_freed_memory
from vsr.cli.base import Command, Option
from vsr.cli.device_options import device_options
from vsr.cli.fetching import fetch_all
from vsr.cli.options import job_options, model_options, size_options, source_options
from vsr.cli.progress import reporter
from vsr.cli.settings import job_from
from vsr.cli.signals import Stop
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.io.stream_formats import PipeFormat
    from vsr.piping import PipeJob
    from vsr.types import Progress

_EXAMPLES = (
    "ffmpeg -i film.mp4 -f yuv4mpegpipe - | vsr pipe -s 2 | ffmpeg -i - -crf 18 film_x2.mp4",
    "ffmpeg -i vfr.mkv -c:v rawvideo -f nut - | vsr pipe -s 2 | mpv -",
    "vsr pipe -s 4 --raw 640x360:yuv420p:25 < in.yuv > out.yuv",
)
_FORMATS = ("y4m", "nut", "matroska", "rawvideo")
_SPELLINGS = {"mkv": "matroska", "yuv4mpegpipe": "y4m", "raw": "rawvideo"}
_MATRICES = {
    "bt709": 1,
    "fcc": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "bt601": 6,
    "smpte240m": 7,
    "bt2020nc": 9,
}
_STREAM_SUFFIXES = (".y4m", ".nut", ".yuv", ".raw")
_RANGES = {"tv": False, "pc": True}
_INPUT_OPTIONS = ("deinterlace", "strict")
_NOT_OF_OUTPUT = {
    "encoder": "-c",
    "crf": "--crf",
    "preset": "--preset",
    "pix_fmt": "--pix-fmt",
    "extra": "-e",
    "fragmented": "--fragmented",
}
"""Options of `vsr upscale` that mean nothing where nothing is encoded."""
_NOT_OF_INPUT = {
    "start": "--start",
    "end": "--end",
    "stream": "--stream",
    "audio_codec": "--audio-codec",
    "no_audio": "--no-audio",
    "no_subs": "--no-subs",
    "allow_url": "--allow-url",
    "suffix": "--suffix",
    "fps": "--fps",
    "workers": "-j",
    "quality": "--quality",
    "recursive": "-r",
}
"""Those that mean nothing where a pipe is read or written."""


def _pipe_options() -> list[click.Parameter]:
    section = "Pipes"
    return [
        Option(
            ["-i", "--input", "source"],
            section=section,
            default="-",
            metavar="NAME",
            help="A FIFO, /dev/fd/N or a file. Default: standard input.",
        ),
        Option(
            ["-o", "--output", "target"],
            section=section,
            default="-",
            metavar="NAME",
            help="Likewise. Default: standard output.",
        ),
        Option(
            ["-f", "--format", "ext"],
            section=section,
            type=click.Choice([*_FORMATS, *_SPELLINGS]),
            help="Of the output; nut and matroska keep times and sound. Default: the input's.",
        ),
        Option(
            ["--raw"],
            section=section,
            metavar="SPEC",
            help="The input is raw video: WxH:pix_fmt:fps, such as 1280x720:nv12:30000/1001.",
        ),
        Option(
            ["--matrix"],
            section=section,
            type=click.Choice(sorted(_MATRICES)),
            help="Of the input, which y4m and NUT cannot tell. Default: by the picture's size.",
        ),
        Option(
            ["--range", "levels"],
            section=section,
            type=click.Choice(sorted(_RANGES)),
            help="Of the input. Default: as it says, else tv.",
        ),
        Option(
            ["-y", "--overwrite"],
            section=section,
            is_flag=True,
            help="Replace an output file that exists.",
        ),
        Option(
            ["--progress", "style"],
            section="General",
            type=click.Choice(["bar", "line", "json", "none"]),
            help="On stderr. Default: bar on a terminal.",
        ),
    ]


def _parameters() -> list[click.Parameter]:
    reading = [option for option in source_options() if option.name in _INPUT_OPTIONS]
    return [*_pipe_options(), *size_options(), *model_options(), *device_options(), *reading]


@click.command(cls=Command, params=_parameters(), examples=_EXAMPLES)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Upscale from standard input to standard output: y4m, NUT, Matroska or raw video."""
    untouched = click.Command("upscale", params=job_options()).make_context("upscale", [])
    run_pipe(ctx, untouched.params | values, values["source"], values["target"], encode=False)


def wanted(sources: Sequence[str], target: str | None) -> bool:
    """Whether `vsr upscale` was given a pipe, a FIFO or a descriptor at either end."""
    from vsr.io.ends import is_stream  # noqa: PLC0415 - only when something is read

    return any(map(is_stream, [*sources, *([target] if target is not None else [])]))


def encodes(target: str) -> bool:
    """Whether `vsr upscale` makes a film of it: a file, and none that only pipes know."""
    from vsr.io.ends import is_stream  # noqa: PLC0415 - only when something is read

    return not is_stream(target) and Path(target).suffix.lower() not in _STREAM_SUFFIXES


def only(sources: Sequence[str]) -> str:
    """The one input of a pipe.

    Raises:
        UsageError: There are more.
    """
    if len(sources) > 1:
        msg = f"a pipe has one input, got {len(sources)}: run `vsr` for each"
        raise UsageError(msg)
    return sources[0]


def run_pipe(
    ctx: click.Context, values: Mapping[str, Any], source: str, target: str, *, encode: bool
) -> None:
    """Does the work of `vsr pipe`, and of `vsr upscale` with a pipe at either end.

    Args:
        ctx: Of the command.
        values: Parsed options by parameter name.
        source: Name of the input.
        target: Name of the output.
        encode: Whether the output, a file, is encoded as `vsr upscale` does it.

    Raises:
        VsrError: See `vsr.piping.run`.
    """
    from vsr import piping  # noqa: PLC0415 - av comes with it

    keep_freed_memory()
    job = _job(values, source, target, encode=encode)
    stop = ctx.find_object(Stop) or Stop()
    show = reporter(values["style"])

    def report(progress: "Progress") -> None:
        stop.check()
        show.update(progress)

    with contextlib.redirect_stdout(sys.stderr):  # only pictures go to standard output
        fetch_all(job.upscale)
        show.start(_shown(source, "input"), job.upscale.target)
        try:
            result = piping.run(job, report)
        except BaseException as error:
            verdict = door.judge(error)
            show.fail(verdict.code, verdict.text)
            raise
        show.finish(replace(result, target=_shown(target, "output")))


def _shown(name: str, end: str) -> Path:
    return Path(f"standard {end}" if name == "-" else name)


def _job(values: Mapping[str, Any], source: str, target: str, *, encode: bool) -> "PipeJob":
    from vsr.io.rawvideo import parse_raw  # noqa: PLC0415 - av comes with it
    from vsr.piping import PipeJob  # noqa: PLC0415

    refused = _NOT_OF_INPUT if encode else _NOT_OF_INPUT | _NOT_OF_OUTPUT
    for name, shown in refused.items():
        if values.get(name) not in (None, False, (), "auto"):
            msg = f"{shown} does not apply to pipes: let ffmpeg do that before or behind"
            raise UsageError(msg)
    raw = values.get("raw")
    return PipeJob(
        upscale=job_from(values, source, Path(target)),
        encode=encode,
        format=None if encode else _format(values),
        raw=parse_raw(raw) if raw is not None else None,
        matrix=_MATRICES.get(values.get("matrix") or ""),
        full_range=_RANGES.get(values.get("levels") or ""),
    )


def _format(values: Mapping[str, Any]) -> "PipeFormat | None":
    asked: Any = values["ext"] or values.get("container")
    if asked is None:
        return None
    named: Any = _SPELLINGS.get(asked, asked)
    if named not in _FORMATS:
        msg = f"-f {asked} does not go into a pipe: use one of {', '.join(_FORMATS)}"
        raise UsageError(msg)
    return named  # type: ignore[no-any-return]
