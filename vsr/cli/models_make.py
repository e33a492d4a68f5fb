"""`vsr models blend`, `convert` and `export`: new files from models. Torch only when they run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vsr.cli.base import Argument, Command, Option
from vsr.cli.models_files import OFFLINE, OVERWRITE, TRUST, checked_output, located, output
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.engine.blends import Loaded

_SAFE = ".safetensors"


@click.command(
    "blend",
    cls=Command,
    params=[
        Argument(
            ["models"],
            nargs=-1,
            required=True,
            metavar="A B | 'A*W+B*W...'",
            about="Two names or files, or one mixture whose weights sum to 1.",
        ),
        Option(
            ["--alpha"],
            type=click.FloatRange(0, 1),
            metavar="SHARE",
            help="Share of B, as in ESRGAN's paper: (1 - SHARE) of A and SHARE of B.",
        ),
        output(_SAFE),
        OVERWRITE,
        OFFLINE,
        TRUST,
    ],
    examples=(
        "vsr models blend RRDB_PSNR_x4 RRDB_ESRGAN_x4 --alpha 0.8 -o calm.safetensors",
        "vsr models blend 'a.pth*0.5+b.pth*0.3+c.pth*0.2' -o mean.safetensors",
    ),
)
def blend(models: Sequence[str], alpha: float | None, **values: Any) -> None:
    """Interpolate the weights of networks of one architecture into a new file."""
    from vsr.checkpoints.blending import Share, check_shares, parse_blend  # noqa: PLC0415

    if len(models) == 1 and alpha is None:
        shares = parse_blend(models[0])
    elif len(models) == 2 and alpha is not None:
        shares = check_shares([Share(models[0], round(1 - alpha, 9)), Share(models[1], alpha)])
    else:
        msg = "give two models and --alpha, or one mixture such as 'A*0.8+B*0.2' without it"
        raise UsageError(msg)
    files = {
        share.name: located(share.name, offline=values["offline"], yes=values["yes"])
        for share in shares
    }
    target = checked_output(
        values["output"], _SAFE, overwrite=values["overwrite"], sources=tuple(files.values())
    )
    from vsr.engine.blends import load_blend  # noqa: PLC0415 - torch comes with it

    _save(target, load_blend(shares, files.__getitem__), {})
    click.echo(f"{target}: {' + '.join(f'{share.weight:g} {share.name}' for share in shares)}")


@click.command(
    "convert",
    cls=Command,
    params=[
        Argument(
            ["files"],
            nargs=-1,
            required=True,
            type=click.Path(path_type=Path),
            metavar="FILE...",
            about="A .pth, .pt, .ckpt, .npz, .pb, .mat or ncnn .param; several are parts of one.",
        ),
        Option(
            ["--set", "hints"],
            multiple=True,
            metavar="NAME=VALUE",
            help="A setting that tensors cannot tell, such as luma=full or scale=3; repeatable.",
        ),
        Option(["--licence"], metavar="SPDX", help="To be noted in the file's header."),
        output(_SAFE),
        OVERWRITE,
    ],
    examples=(
        "vsr models convert RealESRGAN_x4plus.pth -o RealESRGAN_x4plus.safetensors",
        "vsr models convert net_g.pth net_p.pth -o DASR.safetensors",
        "vsr models convert realesr-animevideov3-x4.param -o anime.safetensors",
    ),
)
def convert(
    files: Sequence[Path], hints: Sequence[str], licence: str | None, **values: Any
) -> None:
    """Rewrite a checkpoint as safetensors that says what it is and where it came from."""
    target = checked_output(
        values["output"], _SAFE, overwrite=values["overwrite"], sources=tuple(files)
    )
    given = dict(map(_setting, hints))
    from vsr.engine.blends import join_checkpoints  # noqa: PLC0415 - torch comes with it

    loaded = join_checkpoints(files, given)
    extra = {"source": " + ".join(path.name for path in files), "source_sha256": loaded.digest}
    count = _save(target, loaded, {**extra, **({"licence": licence} if licence else {})})
    click.echo(f"{target}: {loaded.arch.id}, {count:,} parameters")


def _setting(text: str) -> tuple[str, Any]:
    """`name=value`; the value is JSON, or a word."""
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        msg = f"--set {text!r} is not NAME=VALUE"
        raise UsageError(msg)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _save(target: Path, loaded: "Loaded", extra: dict[str, str]) -> int:
    """Writes a network that has proven to be complete, and gives its number of parameters."""
    from vsr import __version__  # noqa: PLC0415 - only when asked
    from vsr.checkpoints import save_checkpoint  # noqa: PLC0415

    module, _ = loaded.network()
    kept = {k: v for k, v in loaded.metadata.items() if k not in {"architecture", "config"}}
    header = {"written_by": f"vsr {__version__}", **kept, **extra}
    foreign = loaded.arch.realise is not None  # others read it by the names that it came with
    state = loaded.state if foreign else module.state_dict()
    save_checkpoint(target, state, loaded.arch.id, loaded.config, header)
    return sum(parameter.numel() for parameter in module.parameters())


@click.command(
    "export",
    cls=Command,
    params=[
        Argument(["name"], metavar="NAME|FILE", about="As `vsr models` lists, or a checkpoint."),
        Option(
            ["--precision"],
            type=click.Choice(["fp32", "fp16"]),
            default="fp32",
            show_default=True,
            help="Type of the graph's weights and of both its ends.",
        ),
        output(".onnx"),
        OVERWRITE,
        OFFLINE,
        TRUST,
    ],
    examples=("vsr models export realesr-animevideov3 -o anime.onnx",),
)
def export(name: str, precision: Literal["fp32", "fp16"], **values: Any) -> None:
    """Write a network as ONNX, any batch and size, and compare the graph with it."""
    source = located(name, offline=values["offline"], yes=values["yes"])
    target = checked_output(
        values["output"], ".onnx", overwrite=values["overwrite"], sources=(source,)
    )
    from vsr.engine.exporting import export_checkpoint  # noqa: PLC0415 - torch comes with it
    from vsr.io.atomic import PartialFile  # noqa: PLC0415

    data, about = export_checkpoint(source, precision)
    with PartialFile(target, overwrite=values["overwrite"]) as file:
        file.write(data)
        file.commit()
    click.echo(f"{target}: {about}")
