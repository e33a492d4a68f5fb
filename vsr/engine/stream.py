"""The steady state: frames in, upscaled frames out, in order, each exactly once.

Batches are submitted ahead of the one that is handed out, as far as the device's lane allows.
Nothing is ever dropped: a batch that does not fit into memory is redone with a smaller batch, then
with smaller tiles; a batch with NaN or infinity is redone in fp32, and so is everything after it.
A picture that does not change is computed once.

A `FrameUpscaler` has three layers: it cuts the stream into groups, computes them, and finishes the
results in order. `vsr.engine.fleet` exchanges the middle one for that of several devices.
"""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from vsr.engine.base import PlaneMap, Upscaler
from vsr.engine.color import Picture
from vsr.engine.devices import Precision
from vsr.engine.repeats import Shot, shots
from vsr.engine.route import route_for
from vsr.engine.staging import Lane, Planes, Result, Ticket, open_lane
from vsr.engine.surfaces import showing
from vsr.errors import NonFiniteError, OutOfMemoryError
from vsr.pipeline import batched, never
from vsr.resample import Kernel
from vsr.tiling import smallest_tile
from vsr.trace import Trace
from vsr.types import ColorSpec, DevicePlanes, Frame

_log = logging.getLogger(__name__)

_REPEATED = 1 / 8
"""What a frame without a new picture weighs in a batch: they need nothing but must not pile up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may change while a job runs.

    Attributes:
        precision: Arithmetic of the network.
        tile: Side of a tile in input pixels, 0 for the whole picture.
        batch: Frames that go through the network together.
        workers: Batches that the CPU computes side by side.
        max_memory: Bytes that a job may take, on the device, or of the host for the CPU; None for
            what is free. It bounds the tile, the batch and the workers (`memory.bounded`), and on
            CUDA PyTorch's allocator for as long as the process lives.
    """

    precision: Precision = "fp32"
    tile: int = 0
    batch: int = 1
    workers: int = 1
    max_memory: int | None = None


type Factory = Callable[[Settings], Upscaler]
"""Makes the upscaler for settings; called again when they change."""

type Finish = Callable[[Frame, Planes], Planes]
"""The last touch to the planes of a result, given the frame that they were made of; the planes that
it is given stay as they are."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch with what is needed to do it again; without a ticket, nothing in it is new."""

    shots: list[Shot]
    ticket: Ticket | None
    settings: Settings


@dataclass(frozen=True, slots=True)
class Batch:
    """What a device made of a group, or of a part of a group that was too large for it.

    Attributes:
        shots: The group or part.
        results: A picture for each of its new pictures.
        finite: Whether all samples were.
        settings: With which they were computed.
    """

    shots: list[Shot]
    results: Sequence[Result]
    finite: bool
    settings: Settings


type Computed = tuple[list[Shot], Sequence[Result]]
"""Shots, and a picture for each of their new pictures."""


class FrameUpscaler:
    """Maps frames to upscaled frames.

    Args:
        factory: Makes the network.
        device: Where it runs.
        source: Every frame's size and format; a frame's own colour tags go before the colour here.
        target: What comes out.
        settings: To begin with; `self.settings` tells what they have become.
        kernel: For chroma, alpha and sizes between the network's.

    Attributes:
        engine: Name of what runs the network.
        reused: Frames so far that got the result of the frame before.
        finish: Called once for each new picture, in order, if set before the first frame.
        restart: Called before the first picture of each part is finished, if set.
        part: Frames in each part of the stream, None for one part: no batch, repeat or memory of
            `finish` crosses from one part into the next.
        trace: Records what the device does, if set before the first frame.
    """

    def __init__(
        self,
        factory: Factory,
        device: torch.device,
        source: Picture,
        target: Picture,
        settings: Settings,
        kernel: Kernel = "bicubic",
    ) -> None:
        self._prepare(device, target, settings)
        self._factory, self._kernel = factory, kernel
        self._source = source
        _limit(device, settings.max_memory)
        self._lane: Lane = open_lane(device, source, target, settings.batch, settings.workers)
        self._upscaler = factory(settings)
        self._routes: dict[ColorSpec, PlaneMap] = {}

    def _prepare(self, device: torch.device, target: Picture, settings: Settings) -> None:
        """Sets what every way to compute needs."""
        self.device, self.settings = device, settings
        self._target = target
        self._latest: Result = ()
        self._finishing = -1
        self.engine = "torch"
        self.reused = 0
        self.finish: Finish | None = None
        self.restart: Callable[[], None] | None = None
        self.part: int | None = None
        self.trace: Trace | None = None

    def __call__(
        self, frames: Iterable[Frame], idle: Callable[[], bool] = never
    ) -> Iterator[Frame]:
        """Upscales a stream of frames.

        Args:
            frames: All of the source picture's size and format.
            idle: Whether the next of them has yet to come. What is under way is then finished and
                handed out first, in smaller batches than usual, so that a pipe waits for nothing.

        Yields:
            One frame for each, same times and side data.

        Raises:
            OutOfMemoryError: Even one frame in the smallest tiles does not fit.
            NonFiniteError: The network gives NaN or infinity even in fp32.
        """
        groups = batched(
            shots(frames, self.part),
            size=lambda: self.settings.batch,
            alike=lambda shot: (shot.part, shot.frame.color),
            idle=idle,
            weight=lambda shot: 1 if shot.new else _REPEATED,
        )
        self._finishing = -1
        with closing(self._computed(groups, idle)) as computed:
            for group, results in computed:
                yield from self._finished(group, results)
        self._latest = ()

    @property
    def where(self) -> str:
        """What computes, as `--device` takes it."""
        return str(self.device)

    @property
    def way(self) -> dict[str, Any]:
        """How it computes, in the words of `vsr.engine.assembly.Wishes`."""
        return {
            "engine": self.engine,
            "precision": self.settings.precision,
            "tile": self.settings.tile,
            "batch": self.settings.batch,
            "workers": self.settings.workers,
        }

    @property
    def ahead(self) -> int:
        """Groups that may be under way while the next is begun."""
        return self._lane.depth

    def leave_results(self) -> bool:
        """Leaves results on the device for an encoder that takes them there; False if it cannot."""
        return self.finish is None and self._lane.leave_results()

    def batches(self, groups: Iterable[list[Shot]], trace: Trace | None = None) -> Generator[Batch]:
        """Computes groups in order, and judges nothing; what a fleet asks of its members.

        Args:
            groups: An empty one says that none is there now: the oldest under way is waited for.
            trace: Records what the device does.

        Yields:
            The groups, or their parts, in order.

        Raises:
            OutOfMemoryError: Even one frame in the smallest tiles does not fit.
        """
        self._lane.trace = trace
        with self._lane:
            yield from self._flow(groups, self._lane.depth)

    def go_on_in(self, precision: Precision) -> None:
        """Computes what begins from now on in another precision."""
        self.settings = replace(self.settings, precision=precision)
        self._rebuild()

    def _computed(
        self, groups: Iterable[list[Shot]], idle: Callable[[], bool]
    ) -> Generator[Computed]:
        """Computes groups in order, in fp32 from the first on that is not finite otherwise."""
        self._lane.trace = self.trace
        with self._lane:
            for batch in self._flow(groups, self._lane.depth, idle):
                yield from self._judged(batch)

    def _judged(self, batch: Batch) -> Iterator[Computed]:
        stale = batch.settings.precision != self.settings.precision  # begun before a change
        if batch.finite and not stale:
            yield batch.shots, batch.results
            return
        if not batch.finite and not stale:
            refuse_in_fp32(batch.shots[0].frame, batch.settings.precision)
            self.go_on_in("fp32")
        for again in self._flow([batch.shots], ahead=0):
            yield from self._judged(again)

    def _flow(
        self, groups: Iterable[list[Shot]], ahead: int, idle: Callable[[], bool] = never
    ) -> Iterator[Batch]:
        flights: deque[_Flight] = deque()
        for group in groups:
            waiting = deque([group] if group else [])
            if flights and not group:
                yield from self._land(flights.popleft())
            while waiting:
                part = self._next_part(waiting)
                flight = self._launch(part)
                if flight is None:
                    waiting.appendleft(part)
                    while flights:
                        yield from self._land(flights.popleft())
                    continue
                flights.append(flight)
                while len(flights) > ahead or (flights and not waiting and idle()):
                    yield from self._land(flights.popleft())
        while flights:
            yield from self._land(flights.popleft())

    def _next_part(self, waiting: deque[list[Shot]]) -> list[Shot]:
        group = waiting.popleft()
        if sum(shot.new for shot in group) <= self.settings.batch:
            return group
        part, rest = group[: self.settings.batch], group[self.settings.batch :]
        waiting.appendleft(rest)
        return part

    def _launch(self, part: list[Shot]) -> _Flight | None:
        """Submits a batch; None if it did not fit and the settings have been shrunk."""
        frames = [shot.frame for shot in part if shot.new]
        if not frames:
            return _Flight(part, None, self.settings)
        try:
            with torch.inference_mode():
                ticket = self._lane.submit(frames, self._route(frames[0].color))
        except (RuntimeError, MemoryError) as error:
            self._shrink(error)
            return None
        return _Flight(part, ticket, self.settings)

    def _land(self, flight: _Flight) -> Iterator[Batch]:
        try:
            results, finite = flight.ticket.collect() if flight.ticket else ([], True)
        except (RuntimeError, MemoryError) as error:
            self._shrink(error, flight.settings)
            yield from self._flow([flight.shots], ahead=0)
            return
        yield Batch(flight.shots, results, finite, flight.settings)

    def _finished(self, group: list[Shot], results: Sequence[Result]) -> Iterator[Frame]:
        fresh = iter(results)
        for shot in group:
            if shot.part != self._finishing and self.restart is not None:
                self.restart()
            self._finishing = shot.part
            if shot.new:
                made = next(fresh)
                if self.finish is not None and not isinstance(made, DevicePlanes):
                    made = self.finish(shot.frame, made)
                self._latest = made
            self.reused += not shot.new
            yield showing(shot.frame, self._latest, self._target)

    def _rebuild(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # batches under way still read the old weights
        self._routes.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # of graphs among others, which nobody else may use
        self._upscaler = self._factory(self.settings)

    def _route(self, color: ColorSpec) -> PlaneMap:
        """The way for frames of this colour; a broadcast may change its tags midway."""
        if color not in self._routes:
            source = self._source
            resolved = color.resolved(source.width, source.height, source.format.family)
            source = replace(source, color=resolved)
            self._routes[color] = route_for(self._upscaler, source, self._target, self._kernel)
        return self._routes[color]

    def _shrink(self, cause: BaseException, failed: Settings | None = None) -> None:
        """Halves the batch, or if that is one, the tile, after something did not fit.

        Args:
            cause: What was raised; raised again if it has to do with something else.
            failed: The settings that were too large, if others may apply by now.
        """
        if not _is_out_of_memory(cause):
            raise cause
        if failed not in (None, self.settings):
            return
        if self.settings.batch > 1:
            self.settings = replace(self.settings, batch=self.settings.batch // 2)
            _log.warning("out of memory: going on with batches of %d", self.settings.batch)
        else:
            self.settings = replace(self.settings, tile=self._smaller_tile(cause))
            _log.warning("out of memory: going on with tiles of %d pixels", self.settings.tile)
        self._rebuild()

    def _smaller_tile(self, cause: BaseException) -> int:
        spec = self._upscaler.spec
        whole = max(self._source.width, self._source.height)
        tile = -(-(self.settings.tile or whole) // 2)
        if spec.tiling == "none" or tile < smallest_tile(spec.overlap, spec.multiple_of):
            msg = (
                f"out of memory on {self.device} with one frame and tiles of "
                f"{self.settings.tile or whole} pixels: use a smaller model or --device cpu"
            )
            raise OutOfMemoryError(msg) from cause
        return tile


def refuse_in_fp32(frame: Frame, precision: Precision) -> None:
    """Says that a batch which is not finite is redone in fp32.

    Args:
        frame: The first of the batch.
        precision: In which it was computed.

    Raises:
        NonFiniteError: That was fp32.
    """
    if precision == "fp32":
        msg = (
            f"the network gave NaN or infinity in fp32 near {float(frame.seconds):.3f} s: "
            "the checkpoint is damaged or not made for this network"
        )
        raise NonFiniteError(msg)
    _log.warning(
        "%s overflowed near %.3f s: these frames are redone and the rest done in fp32",
        precision,
        float(frame.seconds),
    )


def _limit(device: torch.device, max_memory: int | None) -> None:
    if max_memory is not None and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, max_memory / total), device)


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error)
    )
