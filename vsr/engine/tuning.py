"""Finds by trying which engine, batch and number of workers are fastest for a job.

What was found is remembered for each device, network and size, so that a job begins at once the
next time, and two runs give the same bytes.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal, cast

import numpy as np

from vsr.engine.color import Picture
from vsr.engine.devices import Precision
from vsr.engine.experience import Experience
from vsr.engine.stream import FrameUpscaler
from vsr.errors import DeviceError, OutOfMemoryError, UsageError
from vsr.types import Frame, Plane

_log = logging.getLogger(__name__)

type Tune = Literal["auto", "full", "off"]

_PACKAGES: Final = ("vsr", "torch", "triton", "openvino", "onnxruntime", "tensorrt")
_MOST_REMEMBERED: Final = 500
_EXPERIENCE: Final = Experience("tuning.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to run a job.

    Attributes:
        engine: Name of `vsr.engine.engines`.
        precision: Arithmetic of the network.
        batch: Frames that go through the network together.
        workers: Batches that the CPU computes side by side.
    """

    engine: str = "torch"
    precision: Precision = "fp32"
    batch: int = 1
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """How fast a choice was: frames per second from planes to planes."""

    choice: Choice
    fps: float


def try_all(
    choices: Sequence[Choice],
    make: Callable[[Choice], FrameUpscaler],
    source: Picture,
    budget: float,
) -> list[Trial]:
    """Times choices on noise of the job's own size and format.

    Args:
        choices: What to try.
        make: Puts the network on the device for a choice.
        source: Frames of the job.
        budget: Seconds for all of them together; each runs for two batches at least.

    Returns:
        The trials that worked, the fastest first.
    """
    trials = []
    for choice in choices:
        try:
            upscaler = make(choice)
            fps = _rate(upscaler, source, choice, budget / len(choices))
        except (OutOfMemoryError, DeviceError, UsageError) as error:
            _log.info("%s cannot be used here: %s", _text(choice), error)
            continue
        trials.append(Trial(choice, fps))
    return sorted(trials, key=lambda trial: -trial.fps)


def _rate(upscaler: FrameUpscaler, source: Picture, choice: Choice, seconds: float) -> float:
    ahead = choice.batch * choice.workers
    results = upscaler(_noise(source))
    for _ in range(2 * ahead):
        next(results)
    began, count = time.perf_counter(), 0
    while True:
        for _ in range(ahead):
            next(results)
        count += ahead
        passed = time.perf_counter() - began
        if passed >= seconds:
            results.close()  # type: ignore[attr-defined]  # it is a generator
            return count / passed


def _noise(picture: Picture) -> Iterator[Frame]:
    """Two pictures in turns, without end: one that stayed would be computed once."""
    random = np.random.default_rng(0)
    shapes = picture.format.plane_shapes(picture.width, picture.height)
    most = (1 << picture.format.bits) - 1
    pair: list[tuple[Plane, ...]] = [
        tuple(
            cast("Plane", (random.random(shape) * most).astype(picture.format.dtype))
            for shape in shapes
        )
        for _ in range(2)
    ]
    number = 0
    while True:
        yield Frame(
            planes=pair[number % 2],
            format=picture.format,
            color=picture.color,
            pts=number,
            time_base=Fraction(1, 25),
        )
        number += 1


def _text(choice: Choice) -> str:
    return f"{choice.engine} {choice.precision}, batch {choice.batch}, workers {choice.workers}"


def key_for(**facts: object) -> str:
    """Names a job: its device, network, size and wishes, and the versions that compute it."""
    versions = {name: _version(name) for name in _PACKAGES}
    text = json.dumps({**facts, **versions}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def remembered(key: str) -> Choice | None:
    """The fastest choice that an earlier trial found for a job."""
    found = _EXPERIENCE.read().get(key)
    if found is None:
        return None
    try:
        return Choice(**found)
    except TypeError:
        _log.info("%s is of another version of vsr: trying again", _EXPERIENCE.path)
        return None


def remember(key: str, choice: Choice) -> None:
    """Keeps a choice for the next time; a folder that cannot be written is no obstacle."""
    known = _EXPERIENCE.read()
    known.pop(key, None)
    known[key] = asdict(choice)
    kept = dict(list(known.items())[-_MOST_REMEMBERED:])
    _EXPERIENCE.write(kept)
