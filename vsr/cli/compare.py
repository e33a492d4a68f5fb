"""`vsr compare`: stills of pictures or films side by side, with enlarged crops."""

from pathlib import Path
from typing import Any, override

import click

from vsr.cli import console
from vsr.cli.base import Argument, Command, Option
from vsr.cli.values import TimeType
from vsr.errors import SourceNotFoundError, UsageError

_FILE = click.Path(path_type=Path)
_PAGES = (".html", ".htm")
_EXAMPLES = (
    "vsr compare movie.mp4 movie_x4.mkv -o compared.png",
    "vsr compare bicubic.png ours.png original.png --crop 100,80,60,45",
    "vsr compare a.mkv b.mkv --at 0:12 --at 1:03.5 -o compared.html",
)


class BoxType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`X,Y,W,H` in pixels."""

    name = "x,y,w,h"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if len(parts) != 4 or not all(part.isdecimal() and len(part) < 7 for part in parts):
            self.fail(f"{value!r} is no crop: write X,Y,W,H in pixels such as 100,80,60,45")
        box = tuple(map(int, parts))
        if min(box[2:]) < 4:
            self.fail(f"a crop is at least 4x4 pixels, got {box[2]}x{box[3]}", param, ctx)
        return box


def _options() -> list[click.Parameter]:
    return [
        Option(
            ["-o", "--output"],
            type=_FILE,
            default=Path("compared.png"),
            show_default=True,
            metavar="FILE",
            help="A .png, or an .html page with a slider.",
        ),
        Option(
            ["--at"],
            type=TimeType(),
            multiple=True,
            metavar="TIME",
            help="Time in films; may be repeated. Default: the middle.",
        ),
        Option(
            ["--crop"],
            type=BoxType(),
            multiple=True,
            metavar="X,Y,W,H",
            help="Part to enlarge, in pixels of the largest input; may be repeated. Default: where "
            "they differ most.",
        ),
        Option(
            ["--crops"],
            type=click.IntRange(0, 4),
            default=2,
            show_default=True,
            help="How many parts are chosen.",
        ),
        Option(
            ["--zoom"],
            type=click.IntRange(1, 16),
            default=4,
            show_default=True,
            help="Enlargement of chosen parts.",
        ),
        Option(["--labels"], metavar="A,B,...", help="Names. Default: those of the files."),
        Option(
            ["--fit"],
            type=click.Choice(["bicubic", "nearest"]),
            default="bicubic",
            show_default=True,
            help="Brings smaller inputs to the size of the largest.",
        ),
        Option(
            ["--align"],
            type=click.Choice(["time", "start"]),
            default="time",
            show_default=True,
            help="Count times from the first input's beginning, or from each one's own.",
        ),
        Option(["-y", "--overwrite"], is_flag=True, help="Replace an output that exists."),
    ]


@click.command(
    cls=Command,
    params=[
        Argument(
            ["inputs"],
            nargs=-1,
            type=_FILE,
            metavar="A B [C...]",
            about="Pictures or films, in the order of the columns.",
        ),
        *_options(),
    ],
    examples=_EXAMPLES,
    no_args_is_help=True,
)
def command(**values: Any) -> None:
    """Show pictures or films side by side at the same times, with enlarged crops."""
    _check(values)
    from vsr.io.image_sink import write_whole  # noqa: PLC0415 - only when asked
    from vsr.judging.compare import Box, CompareOptions, compare  # noqa: PLC0415 - imports torch
    from vsr.judging.sheet import COLUMN, comparison_page, sheet  # noqa: PLC0415
    from vsr.judging.stills import png  # noqa: PLC0415

    inputs, output = values["inputs"], values["output"]
    side = COLUMN // values["zoom"]
    options = CompareOptions(
        at=values["at"],
        boxes=tuple(Box(x=x, y=y, width=w, height=h) for x, y, w, h in values["crop"]),
        count=values["crops"],
        box=(side, side * 3 // 4),
        labels=tuple(part.strip() for part in (values["labels"] or "").split(",") if part.strip()),
        kernel=values["fit"],
        align=values["align"],
    )
    moments = compare(inputs, options)
    if output.suffix.lower() in _PAGES:
        title = " · ".join(moments[0].pictures)
        data = comparison_page(moments, title).encode("utf-8")
    else:
        data = png(sheet(moments))
    write_whole(output, data, overwrite=values["overwrite"])
    if not console.quiet():
        times = ", ".join(moment.title for moment in moments if moment.title)
        console.say(f"vsr: {output}: {len(inputs)} inputs{f' at {times}' if times else ''}")


def _check(values: dict[str, Any]) -> None:
    from vsr.io.atomic import check_target  # noqa: PLC0415 - only when asked

    inputs, output = values["inputs"], values["output"]
    if len(inputs) < 2:
        msg = f"{len(inputs)} input given: compare needs two or more"
        raise UsageError(msg)
    for path in inputs:
        if not path.exists():
            msg = f"{path} does not exist; check the name"
            raise SourceNotFoundError(msg)
        if output.exists() and path.samefile(output):
            msg = f"{output} is one of the inputs: write somewhere else with -o"
            raise UsageError(msg)
    if output.suffix.lower() not in (".png", *_PAGES):
        msg = f"-o {output} has the suffix {output.suffix!r}: use .png or .html"
        raise UsageError(msg)
    check_target(output, overwrite=values["overwrite"])
