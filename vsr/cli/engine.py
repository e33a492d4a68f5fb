"""`vsr engine`: builds engines before a film needs them; lists and deletes what is kept."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.base import Argument, Command, Group, Option
from vsr.cli.tables import size, table
from vsr.cli.values import DeviceType, Size, SizeType, TileType
from vsr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsr.engine.engines.cache import Entry

_JSON = Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table.")


@click.group(cls=Group, name="engine")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, build ahead and delete the engines on disk; by itself, list them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_engines, as_json=False)


@command.command("list", cls=Command, params=[_JSON], examples=("vsr engine list --json",))
def list_engines(as_json: bool) -> None:
    """List the engines on disk: what built them, and for which network, size and device."""
    from vsr.engine.engines.cache import EngineCache  # noqa: PLC0415 - torch comes with it

    cache = EngineCache()
    entries = cache.entries()
    if as_json:
        click.echo(json.dumps([_facts(entry) for entry in entries], indent=2))
    elif entries:
        click.echo("\n".join(_lines(entries)))
    else:
        click.echo(f"no engines in {cache.folder}: `vsr engine build` makes one")


@command.command(
    "build",
    cls=Command,
    params=[
        Argument(["name"], metavar="NAME|FILE", about="As `vsr models` lists, or a checkpoint."),
        Option(
            ["--size"],
            required=True,
            type=SizeType(),
            metavar="WIDTHxHEIGHT",
            help="Of the films to come.",
        ),
        Option(["-s", "--scale"], type=click.IntRange(1, 16), help="Of the model, if it has many."),
        Option(
            ["--engine"],
            default="auto",
            show_default=True,
            metavar="NAME",
            help="tensorrt, openvino or onnx; auto: the fastest one installed.",
        ),
        Option(["-d", "--device"], type=DeviceType(), default="auto", help="As of `vsr upscale`."),
        Option(
            ["--precision"],
            type=click.Choice(["auto", "fp32", "fp16", "bf16", "int8"]),
            default="auto",
            show_default=True,
            help="Arithmetic of the network.",
        ),
        Option(["-t", "--tile"], type=TileType(), help="Side of a tile. Default: what fits."),
        Option(["--batch"], type=click.IntRange(1, 256), help="Frames computed together."),
        Option(["--offline"], is_flag=True, help="Never download; only say what is missing."),
        Option(["--yes"], is_flag=True, help="Trust files whose digest is not known beforehand."),
        _JSON,
    ],
    examples=(
        "vsr engine build realesr-animevideov3 --size 1920x1080 --engine tensorrt",
        "vsr engine build vsr-fast -s 2 --size 640x360 --engine openvino",
    ),
)
def build(name: str, **values: Any) -> None:
    """Build the engine of a model for one size, compare it with the model, and keep it."""
    wanted: Size = values["size"]
    if wanted.width is None or wanted.height is None:
        msg = (
            f"--size takes the width and height of the films, such as 1920x1080, got {wanted.text}"
        )
        raise UsageError(msg)
    path = _located(name, values)
    from vsr.engine.building import Order, build_engine  # noqa: PLC0415 - torch comes with it

    given = ("scale", "engine", "device", "precision", "tile", "batch")
    order = Order(
        model="auto" if path else name,
        path=path,
        size=(wanted.width, wanted.height),
        **{key: values[key] for key in given},
    )
    entries = build_engine(order)
    if values["as_json"]:
        click.echo(json.dumps([_facts(entry) for entry in entries], indent=2))
    else:
        click.echo("\n".join(_lines(entries)))


@command.command(
    "clear",
    cls=Command,
    params=[
        Option(["--engine"], metavar="NAME", help="Only those of tensorrt, openvino or onnx."),
    ],
    examples=("vsr engine clear", "vsr engine clear --engine openvino"),
)
def clear(engine: str | None) -> None:
    """Delete the engines on disk; whoever needs one again builds it again."""
    from vsr.engine.engines.cache import EngineCache  # noqa: PLC0415 - torch comes with it

    if engine not in (None, "tensorrt", "openvino", "onnx"):
        msg = f"engine {engine!r} keeps nothing on disk: use tensorrt, openvino or onnx"
        raise UsageError(msg)
    gone = EngineCache().clear("onnxruntime" if engine == "onnx" else engine)
    freed = sum(entry.size for entry in gone)
    click.echo(f"{len(gone)} engine{'' if len(gone) == 1 else 's'} deleted, {size(freed)}")


def _located(name: str, values: dict[str, Any]) -> Path | None:
    """A checkpoint's path, or None for a name, whose file is then here."""
    from fractions import Fraction  # noqa: PLC0415 - only here

    from vsr.checkpoints.blending import is_file_name  # noqa: PLC0415
    from vsr.cli.download import fetch  # noqa: PLC0415
    from vsr.models.catalog import find  # noqa: PLC0415

    if is_file_name(name):
        return Path(name)
    entry = find(name, Fraction(values["scale"] or 1))
    fetch(entry, offline=values["offline"], yes=values["yes"])
    return None


def _lines(entries: "Sequence[Entry]") -> list[str]:
    rows = [
        (
            entry.about or (entry.key.model[:12] if entry.key else "damaged"),
            entry.key.library if entry.key else "-",
            _picture(entry),
            entry.key.precision if entry.key else "-",
            size(entry.size),
            entry.key.device if entry.key else "-",
        )
        for entry in entries
    ]
    return table(rows, head=("model", "engine", "for", "precision", "size", "device"))


def _picture(entry: "Entry") -> str:
    """What an engine takes, for people."""
    if entry.key is None:
        return "-"
    if not entry.key.shape:
        return "any size"
    batch, _, height, width = entry.key.shape
    return f"{width}x{height}" + (f", batch {batch}" if batch > 1 else "")


def _facts(entry: "Entry") -> dict[str, Any]:
    key = entry.key
    facts: dict[str, Any] = {"file": str(entry.path), "bytes": entry.size, "about": entry.about}
    if key is None:
        return facts | {"damaged": True}
    return facts | {
        "model": key.model,
        "shape": list(key.shape),
        "precision": key.precision,
        "device": key.device,
        "library": key.library,
    }
