"""`vsr models show`: one network in detail. Torch only when it runs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.base import Argument, Command, Option
from vsr.cli.models_files import named
from vsr.cli.tables import size, table
from vsr.cli.values import SizeType

if TYPE_CHECKING:
    from vsr.cli.values import Size
    from vsr.engine.model_facts import ModelFacts
    from vsr.models._base import InputSpec
    from vsr.models.catalog import Published

_TILING = {
    "exact": "exact: tiles that overlap by {overlap} pixels give the bits of the whole picture",
    "approximate": "approximate: tiles overlap by {overlap} pixels, less than the network sees",
    "none": "none: the network looks at the whole picture",
}
_FIELD = {
    "exact": "{overlap} pixels to each side",
    "approximate": "wider than {overlap} pixels to each side",
    "none": "the whole picture",
}


@click.command(
    "show",
    cls=Command,
    params=[
        Argument(["name"], metavar="NAME|FILE", about="As `vsr models` lists, or a checkpoint."),
        Option(
            ["--size"],
            type=SizeType(),
            default="1920x1080",
            show_default=True,
            metavar="WxH",
            help="Source size that memory is estimated for.",
        ),
        Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of text."),
    ],
    examples=("vsr models show vsr-fast-x2", "vsr models show my.pth --size 1280x720"),
)
def show(name: str, size: "Size", as_json: bool) -> None:
    """Show layers, parameters, arithmetic, memory, tiling and licence of a network."""
    from vsr.errors import UsageError  # noqa: PLC0415 - only when asked

    if size.width is None or size.height is None:
        msg = f"--size {size.text} is no size in pixels: expected WxH, such as 1920x1080"
        raise UsageError(msg)
    picture = (size.width, size.height)
    found: list[tuple[str, ModelFacts, Published | None]]
    found = [(entry.name, _of_entry(entry), entry) for entry in named(name)]
    found = found or [(Path(name).name, _of_file(name), None)]
    if as_json:
        click.echo(json.dumps([_plain(*known, picture) for known in found], indent=2))
    else:
        texts = ["\n".join(table(_rows(*known, picture))) for known in found]
        click.echo("\n\n".join(texts))


def _of_entry(entry: "Published") -> "ModelFacts":
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked
    from vsr.engine.model_facts import facts_of_entry, facts_of_file  # noqa: PLC0415

    path = cached_path(entry)
    return facts_of_file(path, entry.licence) if path.is_file() else facts_of_entry(entry)


def _of_file(name: str) -> "ModelFacts":
    from vsr.engine.model_facts import facts_of_file  # noqa: PLC0415 - torch comes with it

    return facts_of_file(Path(name))


def _plain(
    name: str, facts: "ModelFacts", entry: "Published | None", picture: tuple[int, int]
) -> dict[str, Any]:
    return {
        "name": name,
        **asdict(facts),
        "memory": {"size": picture, "bytes_fp32": facts.memory(*picture)},
        "psnr": dict(entry.psnr) if entry else {},
        "url": entry.url if entry else None,
        "page": entry.page if entry else None,
        "sha256": entry.sha256 if entry else None,
    }


def _rows(
    name: str, facts: "ModelFacts", entry: "Published | None", picture: tuple[int, int]
) -> list[tuple[str, str]]:
    spec, cost = facts.spec, facts.cost
    memory = facts.memory(*picture)
    whole = f"for {picture[0]}x{picture[1]} in one piece"
    layers = ", ".join(f"{count} {kind}" for kind, count in cost.layers.items())
    colour = {1: f"1 (luma, {spec.luma} range)", 3: "3 (RGB)"}.get(spec.channels or 0, "any")
    sides = f"multiples of {spec.multiple_of}, at least {spec.minimum}"
    rows = [
        ("name", name),
        ("architecture", facts.architecture),
        ("paper", facts.paper),
        ("settings", ", ".join(f"{key} {value}" for key, value in facts.config.items())),
        ("scale", f"x{spec.scale}"),
        ("channels", colour),
        ("sides", "any" if spec.multiple_of == spec.minimum == 1 else sides),
        ("parameters", f"{cost.parameters:,}"),
        ("layers", f"{sum(cost.layers.values())}: {layers}"),
        ("FLOP", f"{cost.flops:,} per input pixel (counted on {cost.side}x{cost.side})"),
        ("receptive field", _FIELD[spec.tiling].format(overlap=spec.overlap)),
        ("tiling", _tiling(spec)),
        ("half", "fp16 and bf16" if spec.half else "bf16 only: fp16 overflows"),
        (
            "memory",
            f"about {size(memory)} in fp32, {size(memory // 2)} in half precision, {whole}",
        ),
        ("licence", facts.licence or "not stated"),
    ]
    if entry is not None:
        rows += _published(entry)
    rows += [(f"header: {key}", value) for key, value in sorted(facts.header.items())]
    if not facts.weights:
        by_hand = entry is not None and entry.url is None
        how = "get it by hand, then name the file" if by_hand else f"run `vsr models get {name}`"
        rows.append(("weights", f"not here; {how}"))
    return rows


def _tiling(spec: "InputSpec") -> str:
    text = _TILING[spec.tiling].format(overlap=spec.overlap)
    if spec.tiling != "approximate":
        return text
    if spec.tile_error is None:
        return f"{text}; how far off they are has not been measured"
    return f"{text}; measured to be off by at most {255 * spec.tile_error:.2g} of 255"


def _published(entry: "Published") -> list[tuple[str, str]]:
    figures = ", ".join(f"{name} {value:.2f} dB" for name, value in entry.psnr.items())
    rows = [("good at", entry.purpose)]
    rows += [("PSNR", f"{figures} (luma, as published)")] if figures else []
    rows += [("aliases", ", ".join(entry.aliases))] if entry.aliases else []
    rows += [("from", entry.url or entry.page or "")] if entry.url or entry.page else []
    if entry.url:
        rows.append(("sha256", entry.sha256 or "not pinned: first download must be confirmed"))
    return rows
