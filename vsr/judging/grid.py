"""Models over data sets, as the papers' tables are made.

A data set is a folder with `HR` and perhaps `LR_bicubic/X2` beside it, a plain folder of originals,
or a single file. Originals are pictures or films (see `films`). Low resolution is the file of
`LR_bicubic` where there is one (`babyx2.png`); otherwise it is made as MATLAB's `imresize` makes
it: antialiased bicubic, one axis after the other, the 8-bit picture rounded after each. The
original is cropped to a multiple of the scale, as many border pixels as the scale are left out, and
gray pictures stay gray.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.engine.loading import load_model
from vsr.errors import SourceError, UsageError
from vsr.judging.evaluation import Evaluation, Report, Score
from vsr.judging.films import Screening, lowered_film, members
from vsr.judging.gallery import Entry, Gallery
from vsr.judging.measures import Judge, JudgingOptions
from vsr.judging.viewing import Pair, View, frame_of, read_view
from vsr.resample import resize

if TYPE_CHECKING:
    from vsr.engine.loading import OnPictures

type Samples = NDArray[np.uint8]
"""Gray of shape (H, W), or RGB of shape (H, W, 3)."""
type _Place = tuple[int, int, int, int]
"""Numbers of scale, set, film in it, and model: the order of the table."""
type Lowering = Literal["auto", "files", "make"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is run on what.

    Attributes:
        models: Names of the catalogue, kernels, or paths of checkpoints.
        sets: Folders of data sets, or single files.
        scales: Whole factors.
        lowering: Where low resolution comes from; `auto` takes files where there are any.
        crop: Border pixels left out; None for as many as the scale.
        device: Where networks run.
        precision: Of networks.
        tile: Side of a tile in input pixels, 0 for whole pictures.
        offline: Never download a model.
        frames: Frames taken of a film, from its beginning; 0 for all.
    """

    models: tuple[str, ...]
    sets: tuple[Path, ...]
    scales: tuple[int, ...]
    lowering: Lowering = "auto"
    crop: int | None = None
    device: str = "auto"
    precision: Literal["fp32", "fp16", "bf16", "int8", "auto"] = "fp32"
    tile: int = 0
    offline: bool = False
    frames: int = 0


def run_grid(
    grid: Grid,
    options: JudgingOptions,
    *,
    gallery: Gallery | None = None,
    report: Report = lambda _: None,
) -> Evaluation:
    """Runs every model at every scale on every set.

    Raises:
        ModelError: A model is unknown or cannot be loaded.
        UsageError: No model has one of the scales, or a picture is too small.
        SourceError: A set cannot be read, or lacks the files that were asked for.
    """
    scores: list[tuple[_Place, Score]] = []
    notes: list[str] = []
    found = [members(folder) for folder in grid.sets]
    for scale in grid.scales:
        crop = scale if grid.crop is None else grid.crop
        judge = Judge(replace(options, crop=crop))
        for row, model in enumerate(grid.models):
            upscaler = _loaded(model, scale, grid)
            if upscaler is None:
                notes.append(f"{model} has no network for x{scale}")
                continue
            bench = _Bench(grid, scale, model, upscaler, judge, gallery, notes)
            for column, (folder, (pictures, films)) in enumerate(
                zip(grid.sets, found, strict=True)
            ):
                for part, score in bench.scores(folder, pictures, films):
                    report(f"{model} {score.group}: {score.item}")
                    scores.append(((grid.scales.index(scale), column, part, row), score))
    if not scores:
        msg = f"nothing to evaluate: {notes[0] if notes else 'no models, sets or scales'}"
        raise UsageError(msg)
    scores.sort(key=itemgetter(0))
    kept = tuple(score for _, score in scores)
    return Evaluation(measures=options.measures, scores=kept, notes=tuple(dict.fromkeys(notes)))


def group_of(folder: Path, scale: int, film: Path | None = None) -> str:
    """The name of a set, or of a film in it, at a scale."""
    inner = f"/{film.name}" if film is not None and film != folder else ""
    return f"{folder.absolute().name}{inner} x{scale}"


def _loaded(model: str, scale: int, grid: Grid) -> "OnPictures | None":
    upscaler = load_model(
        model,
        scale=scale,
        device=grid.device,
        precision=grid.precision,
        tile=grid.tile,
        offline=grid.offline,
    )
    return upscaler if upscaler.spec.scale == scale else None


@dataclass(frozen=True, slots=True)
class _Bench:
    """A model at a scale, and who judges it."""

    grid: Grid
    scale: int
    model: str
    upscaler: "OnPictures"
    judge: Judge
    gallery: Gallery | None
    notes: list[str]

    def scores(
        self, folder: Path, pictures: Sequence[Path], films: Sequence[Path]
    ) -> Iterator[tuple[int, Score]]:
        """Runs the model on a set; with each score, the number of the film, 0 for pictures."""
        if pictures:
            yield from ((0, score) for score in self._pictures(folder, pictures))
        for part, film in enumerate(films, 1):
            yield from ((part, score) for score in self._film(folder, film))

    def _pictures(self, folder: Path, originals: Sequence[Path]) -> Iterator[Score]:
        group = group_of(folder, self.scale)
        pictures = _pictures(folder, originals, self.scale, self.grid.lowering)
        for place, (name, low, high) in enumerate(pictures):
            made = enlarged(self.upscaler, low)
            pair = Pair(View(frame_of(high)), View(frame_of(made)), f"{self.model} on {name}")
            values = self.judge.still(pair)
            if self.gallery is not None:
                entry = Entry(title=f"{group}: {name}", pair=pair, values=values)
                self.gallery.offer(group, place, self.model, entry)
            yield Score(group=group, item=name, label=self.model, values=values)

    def _film(self, folder: Path, film: Path) -> Iterator[Score]:
        low = None
        if self.grid.lowering != "make":
            low = lowered_film(folder, film, self.scale)
        if low is None and self.grid.lowering == "files":
            msg = f"{film.name} has no low resolution for x{self.scale}: --lr make computes it"
            raise SourceError(msg)
        group = group_of(folder, self.scale, film)
        most = self.grid.frames
        screening = Screening(film, low, self.scale, partial(lowered, scale=self.scale), most)
        upscale = partial(enlarged, self.upscaler)
        yield from screening.scores(group, self.model, upscale, self.judge, self.gallery)
        if most:
            self.notes.append(f"{film.name}: at most {most} frames, from the beginning")
        elif note := screening.counts.note(film.name):
            self.notes.append(note)


def _pictures(
    folder: Path, originals: Sequence[Path], scale: int, lowering: Lowering
) -> Iterator[tuple[str, Samples, Samples]]:
    """The name, low and high resolution of every picture of a set."""
    lows = folder / "LR_bicubic" / f"X{scale}"
    if lowering == "files" and not lows.is_dir():
        msg = f"{lows} does not exist: --lr make computes low resolution"
        raise SourceError(msg)
    filed = lowering != "make" and lows.is_dir()
    for path in originals:
        view = read_view(path)
        height, width = (side // scale for side in view.rgb.shape[:2])
        if min(height, width) == 0:
            msg = f"{path} is {view.size[0]}x{view.size[1]}, too small for x{scale}"
            raise SourceError(msg)
        low = _filed(lows, path, scale) if filed else view
        gray = (view.gray or low.gray) and view.colorless and low.colorless
        high, small = (v.rgb[..., 0] if gray else v.rgb for v in (view, low))
        high = high[: height * scale, : width * scale]
        if not filed:
            small = lowered(high, scale)
        elif small.shape[:2] != (height, width):
            msg = (
                f"low resolution of {path.name} is {small.shape[1]}x{small.shape[0]}, expected "
                f"{width}x{height}: --lr make computes it"
            )
            raise SourceError(msg)
        yield path.stem, small, high


def _filed(lows: Path, original: Path, scale: int) -> View:
    for name in (f"{original.stem}x{scale}", original.stem):
        found = lows / f"{name}{original.suffix}"
        if found.is_file():
            return read_view(found)
    msg = (
        f"{lows} has no {original.stem}x{scale}{original.suffix}: --lr make computes low resolution"
    )
    raise SourceError(msg)


def lowered(high: Samples, scale: int) -> Samples:
    """Low resolution as MATLAB's `imresize(high, 1 / scale)` makes it of an 8-bit picture.

    Args:
        high: Sides are multiples of `scale`.
        scale: Whole factor.

    Returns:
        Same channels; rounded after each axis, rows first, as MATLAB does.
    """
    planes = torch.from_numpy(np.ascontiguousarray(high)).double()
    planes = planes[None] if high.ndim == 2 else planes.permute(2, 0, 1)
    height, width = (side // scale for side in high.shape[:2])
    for columns in (planes.shape[2], width):
        planes = resize(planes, height, columns, "bicubic").add(0.5).floor().clamp(0, 255)
    made = planes.to(torch.uint8).numpy()
    return made[0] if high.ndim == 2 else np.ascontiguousarray(made.transpose(1, 2, 0))


def enlarged(upscaler: "OnPictures", low: Samples) -> Samples:
    """Upscales a picture as a program does that writes 8-bit pictures."""
    planes = low[None] if low.ndim == 2 else low.transpose(2, 0, 1)
    x = torch.from_numpy(np.ascontiguousarray(planes)).to(upscaler.device).float()[None] / 255
    codes = np.rint(upscaler(x)[0].float().cpu().double().numpy() * 255).astype(np.uint8)
    return codes[0] if low.ndim == 2 else np.ascontiguousarray(codes.transpose(1, 2, 0))
