"""The steady state: frames in, upscaled frames out, in order, each exactly once.

Batches are submitted ahead of the one that is handed out, as far as the device's lane allows.
Nothing is ever dropped: a batch that does not fit into memory is redone with a smaller batch, then
with smaller tiles; a batch with NaN or infinity is redone in fp32, and so is everything after it.
A picture that does not change is computed once.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from vsr.engine.base import PlaneMap, Upscaler
from vsr.engine.color import Picture
from vsr.engine.devices import Precision
from vsr.engine.repeats import Shot, shots
from vsr.engine.route import route_for
from vsr.engine.staging import Lane, Planes, Ticket, open_lane
from vsr.errors import NonFiniteError, OutOfMemoryError
from vsr.pipeline import batched, never
from vsr.resample import Kernel
from vsr.tiling import smallest_tile
from vsr.trace import Trace
from vsr.types import ColorSpec, Frame

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
        self.settings = settings
        self._factory, self.device, self._kernel = factory, device, kernel
        self._source, self._target = source, target
        _limit(device, settings.max_memory)
        self._lane: Lane = open_lane(device, source, target, settings.batch, settings.workers)
        self._upscaler = factory(settings)
        self._routes: dict[ColorSpec, PlaneMap] = {}
        self._latest: Planes = ()
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
        self._lane.trace = self.trace
        self._finishing = -1
        with self._lane:
            yield from self._flow(groups, self._lane.depth, idle)
        self._latest = ()

    def _flow(
        self, groups: Iterable[list[Shot]], ahead: int, idle: Callable[[], bool] = never
    ) -> Iterator[Frame]:
        flights: deque[_Flight] = deque()
        for group in groups:
            waiting = deque([group])
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

    def _land(self, flight: _Flight) -> Iterator[Frame]:
        try:
            results, finite = flight.ticket.collect() if flight.ticket else ([], True)
        except (RuntimeError, MemoryError) as error:
            self._shrink(error, flight.settings)
            yield from self._flow([flight.shots], ahead=0)
            return
        if not finite:
            yield from self._redo(flight)
            return
        fresh = iter(results)
        for shot in flight.shots:
            if shot.part != self._finishing and self.restart is not None:
                self.restart()
            self._finishing = shot.part
            if shot.new:
                planes = next(fresh)
                self._latest = self.finish(shot.frame, planes) if self.finish else planes
            self.reused += not shot.new
            yield self._finished(shot.frame)

    def _finished(self, frame: Frame) -> Frame:
        return replace(
            frame, planes=self._latest, format=self._target.format, color=self._target.color
        )

    def _redo(self, flight: _Flight) -> Iterator[Frame]:
        frame = flight.shots[0].frame
        if flight.settings.precision == "fp32":
            msg = (
                f"the network gave NaN or infinity in fp32 near {float(frame.seconds):.3f} s: "
                "the checkpoint is damaged or not made for this network"
            )
            raise NonFiniteError(msg)
        if self.settings.precision != "fp32":
            _log.warning(
                "%s overflowed near %.3f s: these frames are redone and the rest done in fp32",
                flight.settings.precision,
                float(frame.seconds),
            )
            self.settings = replace(self.settings, precision="fp32")
            self._rebuild()
        yield from self._flow([flight.shots], ahead=0)

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


def _limit(device: torch.device, max_memory: int | None) -> None:
    if max_memory is not None and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, max_memory / total), device)


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error)
    )
