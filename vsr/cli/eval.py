"""`vsr eval`: how near results come to their originals, and models to the truth."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr import __version__
from vsr.cli import console
from vsr.cli.base import Argument, Command, Option
from vsr.cli.tables import table
from vsr.cli.values import DeviceType
from vsr.errors import SourceNotFoundError, UsageError

if TYPE_CHECKING:
    from vsr.judging.evaluation import Evaluation, Report
    from vsr.judging.gallery import Gallery
    from vsr.judging.grid import Grid
    from vsr.judging.measures import JudgingOptions

_FILE = click.Path(path_type=Path)
_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".npz", ".pb", ".mat")
_EXAMPLES = (
    "vsr eval originals/ results/",
    "vsr eval original.mkv ours.mkv theirs.mkv -m psnr,vmaf,tof --html report.html",
    "vsr eval --models bicubic,vsr-fast --sets set5 --sets set14 --scales 2,4",
    "vsr eval --models bicubic,vsr-fast --sets film.mkv --scales 2 --frames 50 -m psnr,vmaf,warp",
    "vsr eval HR/ SR/ -m lpips --lpips alex.pth --alexnet alexnet-owt-7be5be79.pth",
)


def _grid_options() -> list[click.Parameter]:
    section = "Models over data sets"
    return [
        Option(
            ["--models"],
            section=section,
            metavar="NAME,...",
            help="Names of `vsr models`, bicubic, or paths of checkpoints.",
        ),
        Option(
            ["--sets"],
            section=section,
            multiple=True,
            type=_FILE,
            metavar="DIR",
            help="Folder of originals, pictures or films, or with HR and LR_bicubic in it; or a "
            "film. May be repeated.",
        ),
        Option(
            ["--scales"],
            section=section,
            default="2,4",
            show_default=True,
            metavar="N,...",
            help="Whole factors.",
        ),
        Option(
            ["--lr", "lowering"],
            section=section,
            type=click.Choice(["auto", "files", "make"]),
            default="auto",
            show_default=True,
            help="Low resolution: files of LR_bicubic, or made as MATLAB does; auto: files where "
            "there are any.",
        ),
        Option(
            ["--frames"],
            section=section,
            type=click.IntRange(1),
            metavar="N",
            help="Only the first N frames of each film.",
        ),
    ]


def _network_options() -> list[click.Parameter]:
    section = "Networks"
    return [
        Option(
            ["-d", "--device"],
            section=section,
            type=DeviceType(),
            default="auto",
            show_default=True,
            help="Where networks run: auto, cpu, cuda or cuda:N.",
        ),
        Option(
            ["--precision"],
            section=section,
            type=click.Choice(["fp32", "fp16", "bf16", "int8", "auto"]),
            default="fp32",
            show_default=True,
            help="Arithmetic of networks.",
        ),
        Option(
            ["-t", "--tile"],
            section=section,
            type=click.IntRange(0),
            default=0,
            metavar="PIXELS",
            help="Side of a tile; 0, the default, is the whole picture.",
        ),
        Option(["--offline"], section=section, is_flag=True, help="Never download a model."),
    ]


def _measure_options() -> list[click.Parameter]:
    section = "Measures"
    return [
        Option(
            ["-m", "--metrics"],
            section=section,
            default="psnr,ssim",
            show_default=True,
            metavar="NAME,...",
            help="psnr ssim msssim psnr-rgb ssim-rgb vmaf vmaf-neg xpsnr lpips dists niqe; of "
            "films also tof warp static.",
        ),
        Option(
            ["--crop"],
            section=section,
            type=click.IntRange(0, 1024),
            metavar="PIXELS",
            help="Border left out by PSNR and SSIM. Default: the scale with --models, otherwise 0.",
        ),
        Option(
            ["--align"],
            section=section,
            type=click.Choice(["time", "start"]),
            default="time",
            show_default=True,
            help="Match films by their times, or by times counted from their first frames.",
        ),
        *(
            Option([f"--{name}"], section=section, type=_FILE, metavar="FILE", help=text)
            for name, text in (
                ("vgg16", "Torchvision's VGG16, for LPIPS and DISTS."),
                ("alexnet", "Torchvision's AlexNet, for LPIPS."),
                ("lpips", "Linear weights of LPIPS v0.1 for that network."),
                ("dists", "Weights of DISTS: alpha and beta."),
                ("niqe", "Another fit of NIQE, such as niqe_pris_params.npz."),
            )
        ),
    ]


def _output_options() -> list[click.Parameter]:
    section = "Output"
    return [
        Option(["--each"], section=section, is_flag=True, help="List every picture or frame."),
        Option(
            ["--json"],
            section=section,
            metavar="FILE",
            help="Write everything as JSON; - prints it instead of the table.",
        ),
        Option(
            ["--csv"],
            section=section,
            metavar="FILE",
            help="Write every picture or frame as CSV; - prints it instead of the table.",
        ),
        Option(
            ["--html"],
            section=section,
            type=_FILE,
            metavar="FILE",
            help="Write a page with a slider between pictures and plots over time.",
        ),
        Option(
            ["--samples"],
            section=section,
            type=click.IntRange(1, 64),
            default=6,
            show_default=True,
            help="Most pictures of a film or set in the page, beside the worst.",
        ),
        Option(
            ["-y", "--overwrite"],
            section=section,
            is_flag=True,
            help="Replace outputs that exist.",
        ),
    ]


@click.command(
    cls=Command,
    params=[
        Argument(
            ["inputs"],
            nargs=-1,
            type=_FILE,
            metavar="[ORIGINAL RESULT...]",
            about="Folders of pictures, pictures or films; names or times match.",
        ),
        *_grid_options(),
        *_network_options(),
        *_measure_options(),
        *_output_options(),
    ],
    examples=_EXAMPLES,
    no_args_is_help=True,
)
def command(**values: Any) -> None:
    """Measure results against their originals, or models on data sets."""
    _check(values)
    from vsr.judging.gallery import Gallery  # noqa: PLC0415 - only when asked

    gallery = Gallery(values["samples"]) if values["html"] else None
    options = _judging(values)
    with _progress() as report:
        if values["inputs"]:
            found = _compared(values, options, gallery, report)
        else:
            from vsr.judging.grid import run_grid  # noqa: PLC0415 - imports torch

            found = run_grid(_grid(values), options, gallery=gallery, report=report)
    _write(found, gallery, values)


def _check(values: dict[str, Any]) -> None:
    """Finds what cannot work before anything is computed."""
    inputs, grid = values["inputs"], values["models"] or values["sets"]
    if bool(inputs) == bool(grid):
        msg = "give ORIGINAL and RESULT, or --models with --sets, and not both"
        raise UsageError(msg)
    if grid and not (values["models"] and values["sets"]):
        msg = f"--{'sets' if values['models'] else 'models'} is missing beside the other"
        raise UsageError(msg)
    if len(inputs) == 1:
        msg = f"{inputs[0]} is the original; name its results after it"
        raise UsageError(msg)
    weights = [values[name] for name in ("vgg16", "alexnet", "lpips", "dists", "niqe")]
    for path in [*inputs, *values["sets"], *filter(None, weights)]:
        if not path.exists():
            msg = f"{path} does not exist; check the name"
            raise SourceNotFoundError(msg)
    if values["json"] == "-" and values["csv"] == "-":
        msg = "--json - and --csv - both print: write one of them to a file"
        raise UsageError(msg)
    from vsr.io.atomic import check_target  # noqa: PLC0415 - only when asked

    for path in _targets(values):
        if any(source.exists() and path.exists() and source.samefile(path) for source in inputs):
            msg = f"{path} is one of the inputs: write the report somewhere else"
            raise UsageError(msg)
        check_target(path, overwrite=values["overwrite"])


def _targets(values: dict[str, Any]) -> list[Path]:
    named = [values["json"], values["csv"], values["html"]]
    return [Path(name) for name in named if name and str(name) != "-"]


def _judging(values: dict[str, Any]) -> "JudgingOptions":
    from vsr.judging.measures import JudgingOptions, measures_in  # noqa: PLC0415

    return JudgingOptions(
        measures=measures_in(values["metrics"]),
        crop=values["crop"] or 0,
        niqe=values["niqe"],
        vgg16=values["vgg16"],
        alexnet=values["alexnet"],
        lpips=values["lpips"],
        dists=values["dists"],
        device=values["device"],
    )


def _compared(
    values: dict[str, Any],
    options: "JudgingOptions",
    gallery: "Gallery | None",
    report: "Report",
) -> "Evaluation":
    from vsr.judging.evaluation import evaluate  # noqa: PLC0415 - only when asked
    from vsr.judging.measures import Judge  # noqa: PLC0415

    original, *results = values["inputs"]
    return evaluate(
        original,
        results,
        Judge(options),
        align=values["align"],
        gallery=gallery,
        report=report,
    )


def _grid(values: dict[str, Any]) -> "Grid":
    from vsr.judging.grid import Grid  # noqa: PLC0415 - imports torch

    models = tuple(dict.fromkeys(filter(None, map(str.strip, values["models"].split(",")))))
    for model in models:
        if model.endswith(_CHECKPOINTS) and not Path(model).is_file():
            msg = f"{model} does not exist; check the name"
            raise SourceNotFoundError(msg)
    return Grid(
        models=models,
        sets=values["sets"],
        scales=_scales(values["scales"]),
        lowering=values["lowering"],
        crop=values["crop"],
        device=values["device"],
        precision=values["precision"],
        tile=values["tile"],
        offline=values["offline"],
        frames=values["frames"] or 0,
    )


def _scales(text: str) -> tuple[int, ...]:
    parts = [part.strip().lower().strip("x") for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 16 for part in parts):
        msg = f"--scales takes whole factors from 1 to 16 such as 2,4, got {text!r}"
        raise UsageError(msg)
    return tuple(dict.fromkeys(int(part) for part in parts))


@contextmanager
def _progress() -> "Iterator[Report]":
    """A count on a terminal, nothing elsewhere."""
    if console.quiet() or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm  # noqa: PLC0415 - only when a bar is drawn

    tqdm.monitor_interval = 0
    with tqdm(unit=" pairs", dynamic_ncols=True, leave=False, file=sys.stderr) as bar:

        def report(item: str) -> None:
            bar.set_postfix_str(item, refresh=False)
            bar.update()

        yield report


def _write(found: "Evaluation", gallery: "Gallery | None", values: dict[str, Any]) -> None:
    from vsr.io.image_sink import write_whole  # noqa: PLC0415 - only when asked
    from vsr.judging import tables  # noqa: PLC0415

    made: list[tuple[Any, str]] = []
    if values["json"]:
        made.append((values["json"], tables.as_json(found)))
    if values["csv"]:
        made.append((values["csv"], tables.as_csv(found)))
    if values["html"] and gallery is not None:
        from vsr.judging.page import page  # noqa: PLC0415 - only when asked

        text = page(found, gallery.exhibits(), _title(values), f"vsr {__version__}")
        made.append((values["html"], text))
    printed = False
    for where, text in made:
        if str(where) == "-":
            click.echo(text, nl=False)
            printed = True
        else:
            write_whole(Path(where), text.encode("utf-8"), overwrite=values["overwrite"])
    if not printed:
        _print(found, each=values["each"])
    for note in found.notes:
        console.say(f"vsr: {note}") if not console.quiet() else None


def _print(found: "Evaluation", *, each: bool) -> None:
    from vsr.judging import tables  # noqa: PLC0415 - only when asked

    blocks: list[tuple[Sequence[str], list[list[str]]]] = [tables.summary(found)]
    if each:
        blocks.insert(0, tables.each(found))
    click.echo("\n\n".join("\n".join(table(rows, head=head)) for head, rows in blocks))


def _title(values: dict[str, Any]) -> str:
    if values["inputs"]:
        names = [path.name or str(path) for path in values["inputs"]]
        return f"{names[0]}: {', '.join(names[1:])}"
    return f"{values['models'].replace(',', ', ')} on {', '.join(p.name for p in values['sets'])}"
