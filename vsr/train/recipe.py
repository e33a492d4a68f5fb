"""What a training run is: a recipe, read strictly from TOML. Free of torch.

    version = 1
    title = "…"
    scale = 4

    [network]                       an architecture of `vsr.models`, or a translator
    architecture = "rrdb"
    config = { blocks = 23 }

    [data]                          see `vsr.train.data`
    …

    [[stages]]                      one after another; each begins with the last one's network
    name = "psnr"
    steps = 1_000_000
    losses = [{ kind = "l1" }]
    optimiser = { rate = 2e-4 }

Every table is a dataclass here, whose fields are its keys.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vsr.errors import SourceNotFoundError, UsageError
from vsr.train.settings import (
    ContrastSettings,
    CycleSettings,
    GanSettings,
    LossSettings,
    OptimiserSettings,
    ScheduleSettings,
    ValidationSettings,
)
from vsr.train.strict import Within, override, structure

type Task = Literal["restore", "contrast", "translate", "cycle", "noise"]
type Precision = Literal["fp32", "bf16", "fp16"]
type Table = Mapping[str, Any]

VERSION = 1
_SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Which network is trained.

    Attributes:
        architecture: One of `vsr.models` for the tasks `restore` and `contrast`; `unet` or `resnet`
            for `translate` and `cycle`; `noise` for `noise`.
        config: Its hyperparameters, checked by the architecture.
        init: `small` draws convolutions as He et al. 2015 do, times 0.1, which lets deep residual
            networks train (ESRGAN, section 3.1); `identity` lets hidden layers of plain networks
            begin near the identity; `normal` draws with a deviation of 0.02 (DCGAN, pix2pix);
            `default` is PyTorch's.
        start: A checkpoint of the same network to go on from.
    """

    architecture: str
    config: Table = field(default_factory=dict)
    init: Literal["default", "small", "identity", "normal"] = "default"
    start: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of a run with its own losses, rate and length.

    Attributes:
        name: Of its checkpoint.
        task: What is learned: `restore` from low to high resolution; `contrast` also what
            degradations are (DASR); `translate` from clean to damaged pictures (pix2pix); `cycle`
            the same without pairs (CycleGAN); `noise` what damage adds.
        steps: Updates of the network.
        batch: Samples per update, over all devices.
        losses: Added, each times its weight.
        gan: An adversarial loss besides; None for none.
        cycle: Of the task `cycle`.
        contrast: Of the task `contrast`.
        optimiser: Of the network.
        schedule: Factor of the rate at every step.
        begin: Whether the network is the previous stage's, or drawn anew.
        ema: Decay of the moving average of the weights, which is what is saved; 0 for none.
        precision: Arithmetic of forward and backward passes; weights are always float32.
        clip: Largest norm of the gradient; None for any.
        data: Keys that differ from the recipe's `[data]`.
    """

    name: str
    task: Task = "restore"
    steps: Annotated[int, Within(1)]
    batch: Annotated[int, Within(1, 65536)] = 16
    losses: tuple[LossSettings, ...] = ()
    gan: GanSettings | None = None
    cycle: CycleSettings = field(default_factory=CycleSettings)
    contrast: ContrastSettings = field(default_factory=ContrastSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    begin: Literal["previous", "anew"] = "previous"
    ema: Annotated[float, Within(0, 0.999999)] = 0.999
    precision: Precision = "fp32"
    clip: Annotated[float, Within(0)] | None = None
    data: Table = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.losses and self.gan is None and self.task not in {"contrast", "cycle"}:
            msg = "a stage needs losses or a gan, got neither: add losses = [{ kind = 'l1' }]"
            raise UsageError(msg)
        if self.task in {"cycle", "noise"} and self.gan is None:
            msg = f"the task {self.task!r} needs a gan, got none: add [stages.gan]"
            raise UsageError(msg)
        if not self.name.replace("-", "").replace("_", "").isalnum():
            msg = f"a stage's name becomes a file's: letters, digits, - and _, got {self.name!r}"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run.

    Attributes:
        version: Of the recipes' language; this program reads 1.
        title: A line for `vsr train --list`.
        paper: Where the settings come from.
        scale: High-resolution pixels per low-resolution pixel; 1 for translators.
        seed: Of everything that is drawn.
        network: What is trained.
        data: What it is trained on, `vsr.train.data.DataSettings` as a table.
        stages: One after another.
        validation: Pictures to measure on now and then; the network that does best on them is
            kept as `STAGE-best.safetensors`. None for none.
        interpolate: Share of the last stage's network in a mixture with the first one's, made at
            the end (ESRGAN, section 3.4); None for none.
        save_every: Steps between states that a run can go on from.
        log_every: Steps between lines of the log.
        sample_every: Steps between pictures of samples; 0 for none.
        samples: Pictures in them.
        workers: Processes that make samples, per device; 0 makes them in between.
        most_skipped: Updates in a row that may be left out for gradients that are not finite.
        tensorboard: Whether TensorBoard's log is written besides `log.jsonl`.
    """

    version: int
    title: str
    paper: str = ""
    scale: Annotated[int, Within(1, 16)] = 4
    seed: Annotated[int, Within(0, 2**31 - 1)] = 0
    network: NetworkSettings
    data: Table
    stages: tuple[Stage, ...]
    validation: ValidationSettings | None = None
    interpolate: Annotated[float, Within(0, 1)] | None = None
    save_every: Annotated[int, Within(1)] = 5000
    log_every: Annotated[int, Within(1)] = 100
    sample_every: Annotated[int, Within(0)] = 5000
    samples: Annotated[int, Within(1, 64)] = 4
    workers: Annotated[int, Within(0, 256)] = 4
    most_skipped: Annotated[int, Within(0)] = 100
    tensorboard: bool = False

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            msg = f"a recipe needs stages with different names, got {names or 'none'}"
            raise UsageError(msg)
        if self.interpolate is not None and len(names) < 2:
            msg = "interpolate mixes the networks of two stages, the recipe has one: remove it"
            raise UsageError(msg)


def read_recipe(path: Path, assignments: Sequence[str] = ()) -> tuple[Recipe, dict[str, Any]]:
    """Reads a recipe.

    Args:
        path: A TOML file.
        assignments: Lines such as `stages[0].steps=1000` that change it; see `strict.override`.

    Returns:
        The recipe, and the table that it came from, with the changes.

    Raises:
        SourceNotFoundError: There is no such file.
        UsageError: It is not TOML, of another version, or not understood in every key.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError as error:
        msg = f"there is no recipe {path}: see `vsr train --list` for those that ship"
        raise SourceNotFoundError(msg) from error
    # besides what is no TOML: a number of thousands of digits, brackets a thousand deep
    except (ValueError, RecursionError, OSError) as error:
        msg = f"the recipe {path} cannot be read as TOML: {error}"
        raise UsageError(msg) from error
    override(table, assignments)
    try:
        return parse_recipe(table), table
    except UsageError as error:
        msg = f"recipe {path.name}: {error}"
        raise UsageError(msg) from error


def parse_recipe(table: Mapping[str, Any]) -> Recipe:
    """Builds a recipe from its table.

    Raises:
        UsageError: As `read_recipe`.
    """
    version = table.get("version")
    if version != VERSION or isinstance(version, bool):
        said = "no version" if version is None else f"version {version!r}"
        msg = f"has {said}: this program reads version {VERSION}"
        raise UsageError(msg)
    return structure(Recipe, table)


def shipped() -> dict[str, Path]:
    """The recipes that come with the program, by name."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The path of a recipe: a file, or the name of one that ships.

    Raises:
        SourceNotFoundError: Neither.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return path
    known = shipped()
    if name not in known:
        msg = f"there is no recipe {name!r}: give a .toml file or one of {', '.join(known)}"
        raise SourceNotFoundError(msg)
    return known[name]
