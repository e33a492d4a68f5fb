"""`vsr devices`: what networks can run on here; the only command that imports torch to look."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from vsr.cli.base import Command, Option
from vsr.cli.tables import size, table

if TYPE_CHECKING:
    from vsr.engine.speeds import Speed


@click.command(
    cls=Command,
    params=[Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table.")],
    examples=(
        "vsr devices",
        "vsr models speed vsr-fast -d cpu",
        "vsr upscale in.mkv -s 2 -d cuda:1",
    ),
)
def command(as_json: bool) -> None:
    """List the devices that -d takes, the one that is used by itself first, and how fast they are.

    Speeds are those that `vsr models speed` and `vsr bench` have measured on this machine.
    """
    from vsr.engine.devices import devices  # noqa: PLC0415 - imports torch
    from vsr.engine.speeds import speeds_on  # noqa: PLC0415 - only here

    found = [(facts, speeds_on(facts.description)) for facts in devices()]
    if as_json:
        told = [
            asdict(facts) | {"speeds": {name: asdict(speed) for name, speed in speeds.items()}}
            for facts, speeds in found
        ]
        click.echo(json.dumps(told, indent=2))
        return
    rows = [
        (facts.name, size(facts.memory_bytes), facts.description, " ".join(facts.features))
        for facts, _ in found
    ]
    lines = table(rows, head=("device", "memory", "what", "features"))
    for facts, speeds in found:
        lines += ["", *_speeds(facts.name, speeds)]
    click.echo("\n".join(lines))


def _speeds(device: str, speeds: "Mapping[str, Speed]") -> list[str]:
    """How fast a device is: what was measured on it, or the commands that measure."""
    from vsr.engine.speeds import USUAL_SIZE  # noqa: PLC0415 - only here

    if not speeds:
        told = (
            f"{device}: no speed measured yet; `vsr models speed vsr-fast -d {device}` measures "
            f"the embedded networks, `vsr bench -d {device}` a whole job"
        )
        return [told]
    from vsr.models.catalog import published  # noqa: PLC0415 - only here

    known = [entry.name for entry in published()]  # embedded ones first
    order = sorted(speeds, key=lambda name: known.index(name) if name in known else len(known))
    rows = [
        (name, f"{speed.fps:.3g}", speed.day, speed.how)
        for name, speed in ((name, speeds[name]) for name in order)
    ]
    width, height = USUAL_SIZE
    head = ("model", "fps", "measured", "how")
    return [f"{device}, frames of {width}x{height}:", *table(rows, head=head, indent=2)]
