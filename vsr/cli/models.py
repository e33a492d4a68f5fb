"""`vsr models`: lists models; gets, finds and checks their files. Free of torch."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.base import SETTINGS, Argument, Command, Option
from vsr.cli.tables import size, table
from vsr.errors import CheckpointError, ModelError

if TYPE_CHECKING:
    from vsr.models.catalog import Published

_FREE = (
    ("nearest", "no network: repeats pixels"),
    ("bilinear", "no network: soft"),
    ("bicubic", "no network: a good interpolation"),
    ("lanczos", "no network: a little sharper"),
)
_NAMES = Argument(
    ["names"], nargs=-1, required=True, metavar="NAME...", about="As `vsr models` lists."
)
_JSON = Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of a table.")
_OFFLINE = Option(["--offline"], is_flag=True, help="Never download; only say what is missing.")


class _Models(click.Group):
    """Lists where no subcommand is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return ["list", "get", "path", "verify"]


@click.group(cls=_Models, name="models", context_settings=SETTINGS, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, get, find and check models; without a subcommand, list them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, as_json=False)


@command.command("list", cls=Command, params=[_JSON], examples=("vsr models list --json",))
def list_models(as_json: bool) -> None:
    """List the models that -n takes."""
    from vsr.models.catalog import published  # noqa: PLC0415 - only when asked

    entries = published()
    if as_json:
        click.echo(json.dumps([_facts(entry) for entry in entries], indent=2))
        return
    head = ("name", "scale", "architecture", "size", "licence", "where", "good at")
    rows = [
        (
            entry.name,
            f"x{entry.scale}",
            entry.architecture,
            _size(entry),
            entry.licence,
            where(entry),
            entry.purpose,
        )
        for entry in entries
    ]
    rows += [(name, "any", "-", "-", "-", "built in", purpose) for name, purpose in _FREE]
    click.echo("\n".join(table(rows, head=head)))


def where(entry: "Published") -> str:
    """`embedded`, `cached`, or `download` where it is not here yet; the file is not read."""
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked

    if entry.embedded is not None:
        return "embedded"
    return "cached" if cached_path(entry).is_file() else "download"


def _size(entry: "Published") -> str:
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked

    file = cached_path(entry)
    count = file.stat().st_size if file.is_file() else entry.size
    return size(count) if count else "-"


def _facts(entry: "Published") -> dict[str, Any]:
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked

    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "family": entry.family,
        "architecture": entry.architecture,
        "scale": entry.scale,
        "size": entry.size,
        "licence": entry.licence,
        "purpose": entry.purpose,
        "where": where(entry),
        "path": str(cached_path(entry)),
        "url": entry.url,
        "sha256": entry.sha256,
    }


@command.command(
    "get",
    cls=Command,
    params=[
        _NAMES,
        _OFFLINE,
        Option(["--yes"], is_flag=True, help="Trust files whose digest is not known beforehand."),
    ],
    examples=("vsr models get realesr-animevideov3 realesrgan-x4plus",),
)
def get(names: Sequence[str], offline: bool, yes: bool) -> None:
    """Download models, so that they work offline from then on."""
    from vsr.cli.download import fetch  # noqa: PLC0415 - only when asked

    for entry in _with_twins(_named(names)):
        click.echo(str(fetch(entry, offline=offline, yes=yes)))


@command.command("path", cls=Command, params=[_NAMES], examples=("vsr models path esrgan",))
def path(names: Sequence[str]) -> None:
    """Print where the files of models lie."""
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked

    for entry in _named(names):
        found = cached_path(entry)
        if not found.is_file():
            msg = f"{entry.name} is not downloaded: run `vsr models get {entry.name}`"
            raise ModelError(msg)
        click.echo(str(found))


@command.command(
    "verify",
    cls=Command,
    params=[
        Argument(["names"], nargs=-1, metavar="[NAME...]", about="Default: all that are here."),
    ],
    examples=("vsr models verify",),
)
def verify(names: Sequence[str]) -> None:
    """Compare the files of models with their published digests."""
    from vsr import checkpoints  # noqa: PLC0415 - only when asked
    from vsr.models.catalog import published  # noqa: PLC0415

    entries = _named(names) if names else published()
    status = {entry.name: checkpoints.verify(entry) for entry in entries}
    shown = {name: state for name, state in status.items() if names or state != "absent"}
    if shown:
        click.echo("\n".join(table(shown.items())))
    bad = [f"{name} is {state}" for name, state in shown.items() if state in ("damaged", "absent")]
    if bad:
        msg = f"{', '.join(bad)}: run `vsr models get` for it"
        raise CheckpointError(msg)


def _named(names: Sequence[str]) -> "list[Published]":
    """The checkpoints of all names, each once; a family's name means all of its scales."""
    from vsr.models.catalog import variants  # noqa: PLC0415 - only when asked

    return list({entry.name: entry for name in names for entry in variants(name)}.values())


def _with_twins(entries: "list[Published]") -> "list[Published]":
    twins = [entry.denoise_twin for entry in entries if entry.denoise_twin]
    return list({entry.name: entry for entry in [*entries, *_named(twins)]}.values())
