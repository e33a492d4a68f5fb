"""`vsr jobs`: lists, goes on with and removes what interrupted jobs have left. Free of torch."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli import console
from vsr.cli.base import Argument, Command, Group, Option
from vsr.cli.progress import clock, reporter
from vsr.cli.signals import Stop
from vsr.cli.tables import size, table
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.unfinished import Unfinished

_PLACES = Argument(
    ["places"],
    nargs=-1,
    metavar="[PLACE]...",
    type=click.Path(path_type=Path),
    about="Folders that outputs lie in, or outputs. Default: the current folder.",
)
_RECURSIVE = Option(["-r", "--recursive"], is_flag=True, help="Look into folders within folders.")
_JSON = Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table.")


@click.group(cls=Group, name="jobs")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List interrupted jobs, go on with them, or remove them; by itself, list them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_jobs, places=(), recursive=False, as_json=False)


@command.command(
    "list",
    cls=Command,
    params=[_PLACES, _RECURSIVE, _JSON],
    examples=("vsr jobs list films/ -r",),
)
def list_jobs(places: Sequence[Path], recursive: bool, as_json: bool) -> None:
    """List interrupted and running jobs."""
    found = _found(places, recursive=recursive)
    if as_json:
        click.echo(json.dumps([_facts(one) for one in found], indent=1))
        return
    if not found:
        console.say("vsr: no unfinished jobs here")
        return
    head = ("output", "frames", "kept", "last", "state")
    for line in table([_row(one) for one in found], head=head):
        click.echo(line)


@command.command(
    "resume", cls=Command, params=[_PLACES, _RECURSIVE], examples=("vsr jobs resume out.mkv",)
)
@click.pass_context
def resume(ctx: click.Context, places: Sequence[Path], recursive: bool) -> None:
    """Go on with interrupted jobs, one after another."""
    from vsr.cli.upscale import run_all  # noqa: PLC0415 - torch may come with it

    found = [one for one in _found(places, recursive=recursive) if not one.running]
    jobs = [replace(one.job, restart=False) for one in found if one.job is not None]
    for one in found:
        if one.job is None:
            console.say(f"vsr: warning: {one.folder} cannot be gone on with; `vsr jobs clean`")
    if not jobs:
        console.say("vsr: no unfinished jobs here")
        return
    ctx.exit(run_all(jobs, reporter(None), ctx.find_object(Stop) or Stop()))


@command.command(
    "clean", cls=Command, params=[_PLACES, _RECURSIVE], examples=("vsr jobs clean out.mkv",)
)
def clean(places: Sequence[Path], recursive: bool) -> None:
    """Remove what interrupted jobs have kept."""
    from vsr.unfinished import remove  # noqa: PLC0415 - only when asked

    if not places:
        msg = "name the folders or outputs whose unfinished jobs are to be removed"
        raise UsageError(msg)
    for one in _found(places, recursive=recursive):
        if one.running:
            console.say(f"vsr: {_name(one)} is being worked on and stays")
            continue
        remove(one)
        console.say(f"vsr: removed {one.frames} frames of {_name(one)} ({size(one.size)})")


def _found(places: Sequence[Path], *, recursive: bool) -> "list[Unfinished]":
    from vsr.unfinished import find_unfinished  # noqa: PLC0415 - only when asked

    return find_unfinished(places or [Path()], recursive=recursive)


def _name(one: "Unfinished") -> str:
    return str(one.job.target if one.job is not None else one.folder)


def _state(one: "Unfinished") -> str:
    if one.running:
        return "running"
    return "interrupted" if one.frames and one.job is not None else "nothing to go on with"


def _row(one: "Unfinished") -> tuple[str, ...]:
    done = f"{one.frames} of {one.total}" if one.total else str(one.frames)
    ago = f"{clock(max(0.0, time.time() - one.changed))} ago"
    return _name(one), done, size(one.size), ago, _state(one)


def _facts(one: "Unfinished") -> dict[str, object]:
    return {
        "output": _name(one),
        "input": None if one.job is None else str(one.job.source),
        "frames": one.frames,
        "total": one.total,
        "bytes": one.size,
        "changed": one.changed,
        "running": one.running,
        "folder": str(one.folder),
    }
