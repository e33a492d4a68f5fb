"""`vsr reproduce`: does a recorded job once more, and says whether the same bytes come out."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli import console
from vsr.cli.allocator import keep_freed_memory
from vsr.cli.base import Argument, Command, Option
from vsr.cli.progress import reporter
from vsr.cli.signals import Stop
from vsr.errors import VerificationError

if TYPE_CHECKING:
    from vsr.types import Progress


@click.command(
    cls=Command,
    params=[
        Argument(
            ["record"],
            metavar="RUN.json",
            type=click.Path(path_type=Path),
            about="What `vsr upscale --manifest` has written.",
        ),
        Option(
            ["-o", "--output"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Keep the new output here. Default: it is compared and removed.",
        ),
        Option(
            ["-i", "--input", "source"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="The input, if it was moved.",
        ),
    ],
    examples=("vsr reproduce run.json", "vsr reproduce run.json -o again.mkv"),
)
@click.pass_context
def command(ctx: click.Context, record: Path, output: Path | None, source: Path | None) -> None:
    """Do a recorded job once more, and compare; exit code 8 if other bytes come out."""
    from vsr.reproducing import reproduce  # noqa: PLC0415 - torch comes with it

    keep_freed_memory()
    show, stop = reporter(None), ctx.find_object(Stop) or Stop()

    def report(progress: "Progress") -> None:
        stop.check()
        show.update(progress)

    found = reproduce(record, output, source=source, report=report)
    for name, then, now in found.changes:
        console.say(f"vsr: {name} was {then}, now {now}")
    if not found.same:
        where = "" if found.segment is None else f" from segment {found.segment} on"
        msg = f"the output differs{where}: {len(found.changes)} circumstances have changed"
        raise VerificationError(msg)
    console.say(f"vsr: the same bytes again ({found.frames} frames)")
