"""`vsr bench`: finds the fastest way to compute a job, by trying, and says what it found."""

import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.allocator import keep_freed_memory
from vsr.cli.base import Argument, Command, Option
from vsr.cli.device_options import device_options
from vsr.cli.options import job_options, model_options, size_options
from vsr.cli.progress import verdict
from vsr.cli.settings import job_from
from vsr.cli.signals import Stop
from vsr.cli.tables import table
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.engine.tuning import Trial
    from vsr.jobs import JobResult
    from vsr.planning import UpscaleJob
    from vsr.types import Progress

_EXAMPLES = ("vsr bench movie.mkv -s 2", "vsr bench -n realesr-animevideov3 --seconds 20")
_SOURCE = Argument(
    ["source"],
    type=click.Path(path_type=Path),
    required=False,
    metavar="[FILE]",
    about="A film of the size to find out about. Default: a drawn one of 640x360.",
)
_SECONDS = Option(
    ["--seconds"],
    type=click.FloatRange(1, 600),
    default=10.0,
    show_default=True,
    help="Of the film to send through the whole job.",
)
_JSON = Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table.")


@click.command(
    cls=Command,
    params=[_SOURCE, *size_options(), *model_options(), *device_options(), _SECONDS, _JSON],
    examples=_EXAMPLES,
)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Try engines, batches and workers on your model and size; remember and show the fastest.

    A published model's speed at 640x360 and its own scale is what `vsr models` shows from then on.
    """
    keep_freed_memory()
    source: Path | None = values["source"]
    if source is not None and not source.is_file():
        msg = f"{source} is no file: name a film, or none for a drawn one"
        raise UsageError(msg)
    stop = ctx.find_object(Stop) or Stop()
    with tempfile.TemporaryDirectory(prefix="vsr-bench-") as folder:
        film = source or _drawn(Path(folder) / "drawn.mkv")
        job, trials, done = _measured(values, film, Path(folder) / "out.mkv", stop)
    shown = _remembered(job, trials[0], done)
    if values["as_json"]:
        click.echo(json.dumps(_facts(trials, done), indent=2))
        return
    click.echo("\n".join(_lines(trials)))
    click.echo(f"\nwhole job with x264: {done.frames / done.seconds:.1f} fps")
    if line := verdict(done):
        click.echo(line)
    if len(trials) > 1:
        share = trials[1].fps / trials[0].fps - 1
        click.echo(f"next best: {_named(trials[1])}, {share:+.0%}")
    if shown:
        click.echo(f"`vsr models` shows this speed of {shown}")


def _measured(
    values: dict[str, Any], film: Path, target: Path, stop: Stop
) -> "tuple[UpscaleJob, list[Trial], JobResult]":
    from vsr import jobs  # noqa: PLC0415 - av comes with it

    untouched = click.Command("upscale", params=job_options()).make_context("upscale", [])
    job: UpscaleJob = job_from(untouched.params | values, film, target)
    trials = jobs.try_out(job)

    def report(_: "Progress") -> None:
        stop.check()

    seconds = Fraction(str(values["seconds"]))
    excerpt = replace(job, options=replace(job.options, end=seconds))
    done = jobs.run(excerpt, report)
    return replace(job, model=_model_of(job, film)), trials, done


def _model_of(job: "UpscaleJob", film: Path) -> str:
    """The name of what was measured."""
    from vsr.engine.loading import default_model  # noqa: PLC0415 - torch comes with it
    from vsr.io.av_source import open_source  # noqa: PLC0415 - av comes with it

    if job.model != "auto":
        return job.model
    with closing(open_source(film)) as source:
        return default_model(lossy=source.info.lossy)


def _remembered(job: "UpscaleJob", trial: "Trial", done: "JobResult") -> str | None:
    """Keeps the speed of a published network for `vsr models`; its name, or None if it is none.

    Only what the column compares is kept: one pass of the network as it is, from the usual size.
    """
    from datetime import date  # noqa: PLC0415 - only here

    from vsr.checkpoints.blending import is_blend  # noqa: PLC0415 - only here
    from vsr.engine.devices import devices  # noqa: PLC0415 - torch comes with it
    from vsr.engine.loading import is_interpolation  # noqa: PLC0415
    from vsr.engine.speeds import USUAL_SIZE, Speed, remember_speed  # noqa: PLC0415
    from vsr.models.catalog import find  # noqa: PLC0415

    other = is_blend(job.model) or is_interpolation(job.model) or job.model_path is not None
    if other or job.tta or job.tile or job.denoise is not None or job.scale is None:
        return None
    factor = Fraction(job.scale)
    entry = find(job.model, factor)
    width, height = USUAL_SIZE
    if factor != entry.scale or done.size != (width * entry.scale, height * entry.scale):
        return None
    names = {fact.name: fact.description for fact in devices()}
    speed = Speed(
        fps=trial.fps,
        width=width,
        height=height,
        device=names.get(done.device, done.device),
        how=f"network and colours, {_named(trial)}",
        day=date.today().isoformat(),  # noqa: DTZ011 - the user's own day
    )
    remember_speed(entry.name, speed)
    return entry.name


def _drawn(path: Path) -> Path:
    """A film of moving noise-like bars, 640x360."""
    from vsr.io.drawn import draw_film  # noqa: PLC0415 - av comes with it

    return draw_film(path, width=640, height=360, frames=250)


def _named(trial: "Trial") -> str:
    choice = trial.choice
    return (
        f"{choice.engine} {choice.precision}, batch {choice.batch}, "
        f"{choice.workers} worker{'s' if choice.workers > 1 else ''}"
    )


def _lines(trials: "Sequence[Trial]") -> list[str]:
    best = trials[0].fps
    rows = [
        (
            trial.choice.engine,
            trial.choice.precision,
            str(trial.choice.batch),
            str(trial.choice.workers),
            f"{trial.fps:.1f}",
            f"{trial.fps / best if best else 0:.0%}",
        )
        for trial in trials
    ]
    return table(rows, head=("engine", "precision", "batch", "workers", "fps", "of best"))


def _facts(trials: "Sequence[Trial]", done: "JobResult") -> dict[str, Any]:
    return {
        "trials": [asdict(trial.choice) | {"fps": round(trial.fps, 2)} for trial in trials],
        "job_fps": round(done.frames / done.seconds, 2),
        "bottleneck": done.bottleneck,
        "busy": {stage: round(share, 3) for stage, share in done.busy.items()},
    }
