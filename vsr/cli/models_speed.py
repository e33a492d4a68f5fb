"""`vsr models speed`: how fast networks are here, for the column of `vsr models`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vsr.cli.base import Argument, Command, Option
from vsr.cli.models_files import named
from vsr.cli.tables import table
from vsr.cli.values import DeviceType, SizeType

if TYPE_CHECKING:
    from vsr.cli.values import Size
    from vsr.models.catalog import Published


@click.command(
    "speed",
    cls=Command,
    params=[
        Argument(
            ["names"], nargs=-1, required=True, metavar="NAME...", about="As `vsr models` lists."
        ),
        Option(
            ["--size"],
            type=SizeType(),
            default="640x360",
            show_default=True,
            metavar="WxH",
            help="Source size; `vsr models` shows what was measured at 640x360.",
        ),
        Option(
            ["--seconds"],
            type=click.FloatRange(0, 600),
            default=3.0,
            show_default=True,
            help="For each network, after a first frame; at least one more is computed.",
        ),
        Option(["-d", "--device"], type=DeviceType(), default="auto", help="auto, cpu, cuda:N."),
        Option(
            ["--precision"],
            type=click.Choice(["auto", "fp32", "fp16", "bf16", "int8"]),
            default="auto",
            help="Arithmetic; auto is the fastest that is safe.",
        ),
    ],
    examples=("vsr models speed vsr-fast realesr-animevideov3",),
)
def speed(names: Sequence[str], size: "Size", seconds: float, device: str, precision: str) -> None:
    """Measure networks on this machine, alone and one frame at a time; remember the speeds.

    A model need not be downloaded: its speed does not depend on its weights. A whole job may be
    faster, by batches and engines, or slower, by its codecs: `vsr bench` tells.
    """
    from vsr.errors import UsageError  # noqa: PLC0415 - only when asked

    if size.width is None or size.height is None:
        msg = f"--size {size.text} is no size in pixels: expected WxH, such as 640x360"
        raise UsageError(msg)
    entries = list({entry.name: entry for name in names for entry in _meant(name)}.values())
    from vsr.engine.model_facts import speed_of_entry  # noqa: PLC0415 - torch comes with it
    from vsr.engine.speeds import remember_speed  # noqa: PLC0415

    rows = []
    for entry in entries:
        found = speed_of_entry(entry, (size.width, size.height), device, precision, seconds)
        remember_speed(entry.name, found)
        rows.append((entry.name, f"{found.fps:.3g} fps", size.text, found.how, found.device))
    click.echo("\n".join(table(rows)))


def _meant(name: str) -> "Sequence[Published]":
    from vsr.errors import UsageError  # noqa: PLC0415 - only when asked

    found = named(name)
    if not found:
        msg = f"{name} is a file: speeds are measured of models that `vsr models` lists"
        raise UsageError(msg)
    return found
