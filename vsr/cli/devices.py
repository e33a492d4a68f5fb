"""`vsr devices`: what networks can run on here; the only command that imports torch to look."""

import json
from dataclasses import asdict

import click

from vsr.cli.base import Command, Option
from vsr.cli.tables import size, table


@click.command(
    cls=Command,
    params=[Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table.")],
    examples=("vsr devices", "vsr upscale movie.mp4 -s 2 -d cuda:1"),
)
def command(as_json: bool) -> None:
    """List the devices that -d takes, the one that is used by itself first."""
    from vsr.engine.devices import devices  # noqa: PLC0415 - imports torch

    found = devices()
    if as_json:
        click.echo(json.dumps([asdict(facts) for facts in found], indent=2))
        return
    rows = [
        (facts.name, size(facts.memory_bytes), facts.description, " ".join(facts.features))
        for facts in found
    ]
    click.echo("\n".join(table(rows, head=("device", "memory", "what", "features"))))
