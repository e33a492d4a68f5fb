"""`vsr train`: trains a network as a recipe says."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import console
from vsr.cli.base import Argument, Command, Option
from vsr.cli.progress import clock
from vsr.cli.signals import Stop
from vsr.cli.tables import table
from vsr.cli.values import DeviceType
from vsr.errors import UsageError

if TYPE_CHECKING:
    from tqdm import tqdm

    from vsr.train.loop import TrainProgress

_EXAMPLES = (
    "vsr train --list",
    "vsr train bicubic-l1-small --data photos/ --validate set5/HR -o runs/first",
    "vsr train esrgan --data DIV2K/ --vgg vgg19.pth -o runs/esrgan --set stages[*].batch=8",
    "vsr train mine.toml -o runs/mine        # again: goes on where it was",
    "torchrun --nproc-per-node 4 -m vsr train mine.toml -o runs/mine",
)
_LINE_SECONDS = 5.0
_BAR_SECONDS = 0.2
_SHOWN = ("loss_", "psnr", "valid_psnr")
_HIDDEN = "_before"


def _parameters() -> list[click.Parameter]:
    return [
        Argument(
            ["recipe"],
            required=False,
            metavar="[RECIPE]",
            about="A .toml file, or the name of a recipe that ships (see --list).",
        ),
        Option(
            ["-o", "--output", "folder"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where the run lies; a run that lies there already goes on. Default: runs/NAME.",
        ),
        Option(
            ["--data", "folders"],
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="DIR",
            help="Pictures or videos to learn from, instead of the recipe's; may be repeated.",
        ),
        Option(
            ["--validate"],
            type=click.Path(path_type=Path),
            multiple=True,
            metavar="DIR",
            help="Pictures to measure PSNR and SSIM on now and then, never learned from; the best "
            "network is kept as STAGE-best.safetensors. May be repeated.",
        ),
        Option(
            ["--vgg"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="VGG's weights in torchvision's layout, for perceptual losses that name none.",
        ),
        Option(
            ["--set", "assignments"],
            multiple=True,
            metavar="KEY=VALUE",
            help="Change the recipe, such as stages[0].steps=1000 or data.patch=64.",
        ),
        Option(
            ["-d", "--device"],
            type=DeviceType(),
            default="auto",
            help="auto, cpu, cuda or cuda:N. Default: auto.",
        ),
        Option(["--restart"], is_flag=True, help="Begin anew, though a run lies there."),
        Option(["--list", "listing"], is_flag=True, help="List the recipes that ship, and exit."),
        Option(["--check"], is_flag=True, help="Only read the recipe, and say what it does."),
        Option(
            ["--progress", "style"],
            type=click.Choice(["bar", "line", "none"]),
            help="On stderr. Default: bar on a terminal, else a line now and then.",
        ),
    ]


@click.command(cls=Command, params=_parameters(), examples=_EXAMPLES)
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> None:
    """Train a network; the checkpoint serves `vsr upscale --model-path` at once."""
    if values["listing"]:
        _list()
        return
    if values["recipe"] is None:
        msg = "RECIPE is missing: give a .toml file, or a name that `vsr train --list` shows"
        raise UsageError(msg)
    from vsr.train.recipe import find_recipe, read_recipe  # noqa: PLC0415 - only when asked

    path = find_recipe(values["recipe"])
    recipe, facts = read_recipe(path, _assignments(path, values))
    if values["check"]:
        click.echo("\n".join(_described(recipe)))
        return
    from vsr.train.loop import TrainJob, train  # noqa: PLC0415 - torch comes with it

    folder = values["folder"] or Path("runs") / path.stem
    job = TrainJob(
        recipe=recipe,
        table=facts,
        folder=folder,
        device=values["device"],
        restart=values["restart"],
    )
    show = _Shower(values["style"], path.stem)
    try:
        with _asked(ctx.find_object(Stop) or Stop()) as stopping:
            result = train(job, show.update, stopping)
    finally:
        show.close()
    if not console.quiet() and os.environ.get("RANK", "0") == "0":
        said = f"{result.steps} steps in {clock(result.seconds)}"
        skipped = f", {result.skipped} updates left out" if result.skipped else ""
        console.say(f"vsr: {result.checkpoint}: {said}{skipped}")
        if result.best is not None:
            console.say(f"vsr: {result.best}: the best in validation")


def _list() -> None:
    import tomllib  # noqa: PLC0415 - only when asked

    from vsr.train.recipe import shipped  # noqa: PLC0415

    facts = {name: tomllib.loads(path.read_text("utf-8")) for name, path in shipped().items()}
    rows = [
        (
            name,
            f"x{recipe.get('scale', 4)}",
            recipe["network"]["architecture"],
            " → ".join(stage["name"] for stage in recipe["stages"]),
            recipe["title"],
        )
        for name, recipe in facts.items()
    ]
    click.echo("\n".join(table(rows, head=("name", "scale", "network", "stages", "what"))))


def _assignments(path: Path, values: Mapping[str, Any]) -> Sequence[str]:
    """What options change, as if it had been set; `--set` has the last word."""
    import json  # noqa: PLC0415 - a JSON string is a TOML string

    changes = []
    for name, key in (("folders", "data"), ("validate", "validation")):
        if values[name]:
            changes.append(f"{key}.folders={json.dumps([str(each) for each in values[name]])}")
    if values["vgg"] is not None:
        changes += _vgg_places(path, json.dumps(str(values["vgg"])))
    return [*changes, *values["assignments"]]


def _vgg_places(path: Path, weights: str) -> Iterator[str]:
    """An assignment for every loss of kind `vgg` that names no file."""
    import tomllib  # noqa: PLC0415 - only when asked

    try:
        stages = tomllib.loads(path.read_text("utf-8")).get("stages", [])
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return  # reading the recipe says why
    for s, stage in enumerate(stages):
        for k, loss in enumerate(stage.get("losses", [])):
            if loss.get("kind") == "vgg" and "weights" not in loss:
                yield f"stages[{s}].losses[{k}].weights={weights}"


def _described(recipe: Any) -> list[str]:
    """What a recipe does, in a few lines."""
    rows = [
        (
            stage.name,
            stage.task,
            f"{stage.steps} steps of {stage.batch}",
            f"{stage.optimiser.kind} {stage.optimiser.rate:g}, {stage.schedule.kind}",
            " + ".join([*(loss.kind for loss in stage.losses), *(["gan"] if stage.gan else [])]),
        )
        for stage in recipe.stages
    ]
    head = f"{recipe.title}: {recipe.network.architecture} x{recipe.scale}"
    return [head, *table(rows, indent=2)]


@contextlib.contextmanager
def _asked(stop: Stop) -> Iterator[Callable[[], bool]]:
    """Lets the first signal wait until a step is done and its state written; a second one cannot.

    Args:
        stop: Where signals are remembered, for the exit code.

    Yields:
        Whether a signal came.
    """
    handlers: dict[signal.Signals, Any] = {}
    wished: list[signal.Signals] = []

    def receive(number: int, frame: FrameType | None) -> None:
        before = handlers[signal.Signals(number)]
        if wished and callable(before):
            before(number, frame)
        else:
            wished.append(signal.Signals(number))
            stop.signal = wished[0]

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: none can come
                handlers[number] = signal.signal(number, receive)
        yield lambda: bool(wished)
    finally:
        for number, before in handlers.items():
            signal.signal(number, before)


class _Shower:
    """Shows a run on stderr: a bar, a line now and then, or nothing.

    Args:
        style: None for a bar on a terminal and lines elsewhere.
        name: Of the recipe.
    """

    def __init__(self, style: str | None, name: str) -> None:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.style = "none" if console.quiet() else style or ("bar" if terminal else "line")
        self.name = console.one_line(name)
        self._bar: tqdm[Any] | None = None
        self._stage, self._next = -1, time.monotonic() + _LINE_SECONDS

    def update(self, progress: "TrainProgress") -> None:
        """Shows how far the run is."""
        if self.style == "bar":
            with contextlib.suppress(OSError):  # the terminal has gone; the work goes on
                self._draw(progress)
        elif self.style == "line" and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            console.say(f"vsr: {self.name}: {described(progress)}")

    def _draw(self, progress: "TrainProgress") -> None:
        from tqdm import tqdm  # noqa: PLC0415 - only when a bar is drawn

        if self._bar is None or progress.number != self._stage:
            self.close()
            tqdm.monitor_interval = 0  # no helper thread
            self._stage = progress.number
            self._bar = tqdm(
                total=progress.steps,
                desc=f"{self.name} {progress.stage}",
                dynamic_ncols=True,
                leave=False,
                file=sys.stderr,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}",
            )
            self._next = 0.0
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _BAR_SECONDS
            self._bar.n = progress.step
            self._bar.set_postfix_str(", ".join(facts(progress)), refresh=True)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()
            self._bar = None


def described(progress: "TrainProgress") -> str:
    """One line about a running training."""
    share = 100 * progress.step // progress.steps
    where = f"{progress.stage} {progress.step}/{progress.steps} ({share} %)"
    return ", ".join([where, *facts(progress)])


def facts(progress: "TrainProgress") -> list[str]:
    """Speed, time to go, losses and PSNR, as short texts."""
    said = [f"{progress.per_second:.2f} steps/s"]
    if progress.per_second > 0:
        left = (progress.steps - progress.step) / progress.per_second
        said.append(f"ETA {clock(left)}")
    shown = {
        k: v for k, v in progress.facts.items() if k.startswith(_SHOWN) and not k.endswith(_HIDDEN)
    }
    said += [f"{name.removeprefix('loss_')} {value:.4g}" for name, value in shown.items()]
    return [*said, *([f"{progress.skipped} left out"] if progress.skipped else [])]
