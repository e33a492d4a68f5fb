"""The measures by name, and the object that applies the wanted ones to pairs of pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

import numpy as np

from vsr.errors import UsageError
from vsr.judging.niqe import natural, niqe
from vsr.judging.similarity import ms_ssim, ssim_rgb
from vsr.judging.temporal import Steadiness, Temporal
from vsr.judging.viewing import Pair
from vsr.metrics import psnr, ssim

if TYPE_CHECKING:
    from vsr.io.quality_filters import Meter, QualityFilter

type Kind = Literal["pair", "filter", "temporal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is known of a measure.

    Attributes:
        title: For people.
        about: One line.
        kind: `pair` looks at one pair of pictures, `filter` runs in libavfilter over a film,
            `temporal` compares successive frames.
        higher: Whether more is better.
        digits: Decimals that mean something.
    """

    title: str
    about: str
    kind: Kind = "pair"
    higher: bool = True
    digits: int = 4


MEASURES: Final[Mapping[str, Measure]] = {
    "psnr": Measure(title="PSNR", about="dB, on luma, as papers measure it", digits=2),
    "ssim": Measure(title="SSIM", about="on luma, Wang 2004"),
    "msssim": Measure(title="MS-SSIM", about="on luma over five scales, Wang 2003"),
    "psnr-rgb": Measure(title="PSNR RGB", about="dB, on RGB", digits=2),
    "ssim-rgb": Measure(title="SSIM RGB", about="mean over R, G and B"),
    "vmaf": Measure(title="VMAF", about="0 to 100, libvmaf v0.6.1", kind="filter", digits=2),
    "vmaf-neg": Measure(
        title="VMAF NEG",
        about="VMAF without credit for sharpening",
        kind="filter",
        digits=2,
    ),
    "xpsnr": Measure(
        title="XPSNR", about="dB, weighted by what the eye sees", kind="filter", digits=2
    ),
    "lpips": Measure(
        title="LPIPS",
        about="learned distance; needs --lpips and --vgg16 or --alexnet",
        higher=False,
    ),
    "dists": Measure(
        title="DISTS",
        about="structure and texture; needs --dists and --vgg16",
        higher=False,
    ),
    "niqe": Measure(title="NIQE", about="naturalness without original", higher=False, digits=2),
    "tof": Measure(
        title="tOF", about="pixels of wrong motion", kind="temporal", higher=False, digits=3
    ),
    "warp": Measure(
        title="warping error",
        about="8-bit levels along the motion",
        kind="temporal",
        higher=False,
        digits=3,
    ),
    "static": Measure(
        title="static deviation",
        about="8-bit levels of flicker where nothing moves",
        kind="temporal",
        higher=False,
        digits=3,
    ),
}


def measures_in(text: str) -> tuple[str, ...]:
    """Splits a list of measures such as `psnr,ssim`.

    Raises:
        UsageError: A name is unknown or the list is empty.
    """
    names = [name.strip().lower().replace("_", "-") for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in MEASURES]
    if unknown or not names:
        what = f"unknown measure {unknown[0]!r}" if unknown else "no measure given"
        msg = f"{what}: --metrics takes {', '.join(MEASURES)}"
        raise UsageError(msg)
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingOptions:
    """What is measured and how.

    Attributes:
        measures: Names of `MEASURES`.
        crop: Pixels left out along every border, by PSNR, SSIM and MS-SSIM.
        niqe: A fit of NIQE; ours if None.
        vgg16: Torchvision's state dict of VGG16.
        alexnet: Torchvision's state dict of AlexNet, which LPIPS takes before VGG16.
        lpips: Linear weights of LPIPS that belong to one of these.
        dists: Weights of DISTS.
        device: Where LPIPS and DISTS compute.
    """

    measures: tuple[str, ...] = ("psnr", "ssim")
    crop: int = 0
    niqe: Path | None = None
    vgg16: Path | None = None
    alexnet: Path | None = None
    lpips: Path | None = None
    dists: Path | None = None
    device: str = "auto"


type Scored = Callable[[Pair], float]


class Judge:
    """Measures pairs of pictures; what needs weights is loaded once.

    Args:
        options: What is wanted.

    Raises:
        UsageError: Weights that a measure needs were not given.
        CheckpointError: They are something else.
    """

    def __init__(self, options: JudgingOptions) -> None:
        self.options = options
        self._scores = {
            name: self._scorer(name) for name in options.measures if MEASURES[name].kind == "pair"
        }

    def film(self) -> "Sitting":
        """Begins a film, or a single picture."""
        return Sitting(self.options.measures, self._scores)

    def still(self, pair: Pair) -> dict[str, float]:
        """Measures one pair by itself.

        Raises:
            UsageError: A measure that needs successive frames is wanted, or the picture is too
                small.
        """
        moving = [name for name in self.options.measures if MEASURES[name].kind == "temporal"]
        if moving:
            msg = f"{', '.join(moving)} compare successive frames: give films, or other --metrics"
            raise UsageError(msg)
        sitting = self.film()
        sitting.push(pair)
        return sitting.finish()[0]

    def _scorer(self, name: str) -> Scored:
        crop = self.options.crop
        plain: dict[str, Scored] = {
            "psnr": lambda pair: psnr(*pair.luma, crop),
            "ssim": lambda pair: _checked(ssim, "ssim")(*pair.luma, crop),
            "psnr-rgb": lambda pair: psnr(*pair.rgb, crop),
            "ssim-rgb": lambda pair: _checked(ssim_rgb, "ssim-rgb")(*pair.rgb, crop),
            "msssim": lambda pair: ms_ssim(*pair.luma, crop),
        }
        if name == "niqe":
            model = natural(self.options.niqe)
            return lambda pair: niqe(np.rint(pair.luma[1]), model)
        return plain[name] if name in plain else self._learned(name)

    def _learned(self, name: str) -> Scored:
        given = self.options
        weights = given.lpips if name == "lpips" else given.dists
        network = (given.alexnet if name == "lpips" else None) or given.vgg16
        if weights is None or network is None:
            choice = "--vgg16 or --alexnet" if name == "lpips" else "--vgg16"
            msg = (
                f"{name} needs weights, which do not come with vsr: give --{name} FILE and "
                f"{choice} FILE"
            )
            raise UsageError(msg)
        from vsr.engine.devices import resolve_device  # noqa: PLC0415 - imports torch
        from vsr.judging.perceptual import Dists, Lpips  # noqa: PLC0415 - imports torch

        made = Lpips if name == "lpips" else Dists
        compare = made(network, weights, resolve_device(given.device))
        return lambda pair: compare(*pair.rgb)


def _checked(function: Callable[..., float], name: str) -> Callable[..., float]:
    """Says in the user's words that a picture is too small for an 11×11 window."""

    def called(*arguments: object) -> float:
        try:
            return function(*arguments)
        except ValueError as error:
            msg = f"{error}: leave {name} out of --metrics"
            raise UsageError(msg) from error

    return called


class Sitting:
    """The measures of one film as its frames come.

    Args:
        measures: Names in the order of the table.
        scores: Functions of those that look at one pair.
    """

    def __init__(self, measures: Sequence[str], scores: Mapping[str, Scored]) -> None:
        self._measures, self._scores = measures, scores
        self._rows: list[dict[str, float]] = []
        self._filters: dict[str, QualityFilter] = {}
        self._temporal: Temporal | None = None
        moving = [name for name in measures if MEASURES[name].kind == "temporal"]
        if moving:
            self._temporal = Temporal(cast("list[Steadiness]", moving))

    def push(self, pair: Pair) -> dict[str, float]:
        """Takes the next pair.

        Returns:
            What is known at once.

        Raises:
            UsageError: The pictures are too small for a measure, or change in size.
        """
        row = {name: score(pair) for name, score in self._scores.items()}
        if self._temporal is not None:
            row |= self._temporal.push(*pair.luma)
        for name in self._measures:
            if MEASURES[name].kind == "filter":
                self._filter(name, pair).push(pair.reference.frame, pair.result.frame)
        self._rows.append(row)
        return row

    def _filter(self, name: str, pair: Pair) -> "QualityFilter":
        if name not in self._filters:
            from vsr.io.quality_filters import QualityFilter  # noqa: PLC0415 - imports av

            self._filters[name] = QualityFilter(cast("Meter", name), pair.reference.frame)
        return self._filters[name]

    def finish(self) -> list[dict[str, float]]:
        """Gives the scores of every pair, in the order of the measures."""
        for name, judge in self._filters.items():
            for row, score in zip(self._rows, judge.finish(), strict=True):
                row[name] = score
        return [{name: row[name] for name in self._measures} for row in self._rows]
