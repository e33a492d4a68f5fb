"""`vsr models`: lists models; gets, finds and checks their files. Free of torch.

What describes a network or makes a file of it is in `models_show` and `models_make`.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.base import Argument, Command, Group, Option
from vsr.cli.models_files import OFFLINE, TRUST
from vsr.cli.models_make import blend, convert, export
from vsr.cli.models_show import show
from vsr.cli.models_speed import speed
from vsr.cli.tables import size, table
from vsr.errors import CheckpointError, ModelError, UnknownModelError

if TYPE_CHECKING:
    from vsr.checkpoints import Remote
    from vsr.engine.speeds import Speed
    from vsr.faces.catalog import FaceCheckpoint
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


@click.group(cls=Group, name="models")
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, describe, get, check, mix, convert and export models; by itself, list them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, as_json=False)


@command.command("list", cls=Command, params=[_JSON], examples=("vsr models list --json",))
def list_models(as_json: bool) -> None:
    """List the models that -n takes, and those of --face-enhance."""
    from vsr.engine.speeds import remembered_speeds  # noqa: PLC0415
    from vsr.faces.catalog import face_checkpoints  # noqa: PLC0415 - only when asked
    from vsr.models.catalog import published  # noqa: PLC0415

    entries, speeds = published(), remembered_speeds()
    if as_json:
        facts = [_facts(entry) for entry in entries]
        for fact in facts:
            found = speeds.get(fact["name"])
            fact["speed"] = asdict(found) if found else None
        facts += [_face_facts(entry) for entry in face_checkpoints()]
        click.echo(json.dumps(facts, indent=2))
        return
    columns = (
        "name,scale,architecture,params,FLOP/px,fps here,Set5/Set14 dB,size,licence,where,good at"
    )
    rows = [
        (
            entry.name,
            f"x{entry.scale}",
            entry.architecture,
            thousands(entry.parameters),
            thousands(entry.flops),
            f"{speeds[entry.name].fps:.3g}" if entry.name in speeds else "-",
            _published(entry),
            _size(entry),
            entry.licence,
            where(entry),
            entry.purpose,
        )
        for entry in entries
    ]
    rows += [
        (e.name, "-", "face", "-", "-", "-", "-", _size(e), e.licence, where(e), e.purpose)
        for e in face_checkpoints()
    ]
    none = ("-",) * 7
    rows += [(name, "any", *none, "built in", purpose) for name, purpose in _FREE]
    click.echo("\n".join(table(rows, head=columns.split(","))))
    click.echo(_about_speeds(speeds.values()))


def _about_speeds(speeds: "Collection[Speed]") -> str:
    """Where the figures of the column come from."""
    where_and_how = dict.fromkeys(f"{speed.device} ({speed.how})" for speed in speeds)
    if not where_and_how:
        return "fps: nothing measured on this machine yet; `vsr models speed NAME...` does it"
    return f"fps: measured here at 640x360 on {'; '.join(where_and_how)}"


def where(entry: "Remote") -> str:
    """`embedded`, `cached`, or how it gets here, `download` or `by hand`; the file is not read."""
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked

    if entry.embedded is not None:
        return "embedded"
    if cached_path(entry).is_file():
        return "cached"
    return "by hand" if entry.url is None else "download"


def thousands(count: int | None) -> str:
    """Writes a count with three digits.

    >>> thousands(621_424), thousands(35_853_696), thousands(8), thousands(None)
    ('621k', '35.9M', '8', '-')
    """
    if count is None:
        return "-"
    value = float(count)
    for unit in ("", "k", "M", "G"):
        if value < 999.5 or unit == "G":
            break
        value /= 1000
    digits = 0 if not unit or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{unit}"


def _published(entry: "Published") -> str:
    figures = [entry.psnr.get(name) for name in ("Set5", "Set14")]
    texts = ["-" if figure is None else f"{figure:.2f}" for figure in figures]
    return "/".join(texts) if any(figures) else "-"


def _size(entry: "Remote") -> str:
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
        "parameters": entry.parameters,
        "flops": entry.flops,
        "psnr": dict(entry.psnr),
        "licence": entry.licence,
        "purpose": entry.purpose,
        "where": where(entry),
        "path": str(cached_path(entry)),
        "url": entry.url,
        "page": entry.page,
        "sha256": entry.sha256,
    }


def _face_facts(entry: "FaceCheckpoint") -> dict[str, Any]:
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked

    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "architecture": "face",
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
        OFFLINE,
        TRUST,
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
    from vsr.faces.catalog import face_checkpoints  # noqa: PLC0415
    from vsr.models.catalog import published  # noqa: PLC0415

    known: list[Published | FaceCheckpoint] = [*published(), *face_checkpoints()]
    entries = _named(names) if names else known
    status = {entry.name: checkpoints.verify(entry) for entry in entries}
    shown = {name: state for name, state in status.items() if names or state != "absent"}
    if shown:
        click.echo("\n".join(table(shown.items())))
    bad = [f"{name} is {state}" for name, state in shown.items() if state in ("damaged", "absent")]
    if bad:
        msg = f"{', '.join(bad)}: run `vsr models get` for it"
        raise CheckpointError(msg)


def _named(names: Sequence[str]) -> "list[Published | FaceCheckpoint]":
    """The checkpoints of all names, each once; a family's name means all of its scales."""
    return list({entry.name: entry for name in names for entry in _meant(name)}.values())


def _meant(name: str) -> "Sequence[Published | FaceCheckpoint]":
    from vsr.faces.catalog import find_face_checkpoint  # noqa: PLC0415 - when asked
    from vsr.models.catalog import variants  # noqa: PLC0415

    try:
        return variants(name)
    except UnknownModelError as error:
        try:
            return [find_face_checkpoint(name)]
        except UnknownModelError:
            raise error from None


def _with_twins(
    entries: "list[Published | FaceCheckpoint]",
) -> "list[Published | FaceCheckpoint]":
    twins = [getattr(entry, "denoise_twin", None) for entry in entries]
    every = [*entries, *_named([twin for twin in twins if twin])]
    return list({entry.name: entry for entry in every}.values())


for made in (show, blend, convert, export, speed):
    command.add_command(made)
