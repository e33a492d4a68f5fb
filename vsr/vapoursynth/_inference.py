"""The one thread in which a filter's network runs, whichever threads VapourSynth asks from.

A thread that computes with torch gets an OpenMP pool of its own, so computing where the requests
arrive would keep as many pools as the host has threads. The thread is a `ThreadPoolExecutor`'s: it
ends when the filter is freed, and the interpreter waits for it before it takes itself down. Where
several devices compute, each has a thread of the fleet as long as frames are asked for.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

from vsr.engine import assembly
from vsr.engine.base import Upscaler
from vsr.engine.color import Picture
from vsr.engine.devices import resolve_devices
from vsr.engine.faces import finish_for
from vsr.engine.fleet import Fleet
from vsr.engine.loading import Model, StudioLuma, factory, settings_for
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.errors import UnsupportedSourceError
from vsr.types import UNSPECIFIED, ColorSpec, Frame

_log = logging.getLogger(__name__)
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How to compute, as `vsr.engine.assembly.Wishes` has it."""

    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    tile_pad: int | None = None
    batch: int | None = None
    tta: bool = False


@dataclass(slots=True)
class _Request:
    frames: list[Frame]
    answer: Future[list[Frame]] = field(default_factory=Future)
    done: list[Frame] = field(default_factory=list)

    @property
    def kind(self) -> tuple[ColorSpec, bool]:
        return self.frames[0].color, self.frames[0].format.alpha


class Inference:
    """Upscales groups of frames for any number of threads.

    Groups that wait go through the device one behind the other without a pause, so that uploads,
    arithmetic and downloads overlap; nobody waits for a group that has not been asked for. Several
    devices take groups by their speed, as for a file, and the next as soon as it is asked for.

    Args:
        load: Finds the model; called once, in the inference thread.
        source: What comes in, its colour and alpha left open: each frame brings its own.
        target: What comes out, likewise.
        wishes: How to compute.

    Raises:
        VsrError: The model, the device or a setting cannot be used.
    """

    def __init__(
        self, load: Callable[[], Model], source: Picture, target: Picture, wishes: Wishes
    ) -> None:
        self._source, self._target = source, target
        self._upscalers: dict[tuple[ColorSpec, bool], FrameUpscaler] = {}
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._request_left = 0
        self._wanted = True
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vsr-vapoursynth")
        self._thread.submit(self._compose, load, wishes).result()

    @property
    def batch(self) -> int:
        """Frames that should come together."""
        return self._settings.batch

    @property
    def devices(self) -> int:
        """How many compute."""
        return len(self._devices)

    def __call__(self, frames: list[Frame]) -> list[Frame]:
        """Upscales a group and waits for it.

        Args:
            frames: At least one and at most `batch`, all with the same colour tags, and all or
                none with alpha.

        Returns:
            One frame for each; its colour is complete.

        Raises:
            VsrError: As `FrameUpscaler` does, or the matrix is needed and unknown.
        """
        request = _Request(frames)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
        self._thread.submit(self._work)
        return request.answer.result()

    def _compose(self, load: Callable[[], Model], wishes: Wishes) -> None:
        self._model, self._devices = load(), resolve_devices(wishes.device)
        self._wishes = wishes
        bare = factory(self._model, self._devices[0], tile_pad=wishes.tile_pad, tta=wishes.tta)

        def make(settings: Settings) -> Upscaler:
            upscaler = bare(settings)
            return StudioLuma(upscaler) if upscaler.spec.luma == "studio" else upscaler

        keep = lru_cache(maxsize=2) if len(self._devices) == 1 else lru_cache(maxsize=0)
        self._make: Callable[[Settings], Upscaler] = keep(make)
        fitting = [
            settings_for(
                self._model,
                device,
                (self._source.width, self._source.height),
                precision=wishes.precision,
                tile=wishes.tile,
                batch=wishes.batch,
            )
            for device in dict.fromkeys(self._devices)
        ]
        self._settings = min(fitting, key=lambda settings: settings.batch)
        self._channels = self._make(self._settings).spec.channels

    def _work(self) -> None:
        """Serves all who wait; those whose request an earlier call has served find nothing."""
        while self._waiting:
            taken: deque[_Request] = deque()
            kind = self._waiting[0].kind
            try:
                self._serve(kind, taken)
            except BaseException as error:  # noqa: BLE001 - handed to those who asked
                self._upscalers.pop(kind, None)  # batches under way are lost with it
                for request in taken or [self._waiting.popleft()]:
                    request.answer.set_exception(error)

    def _serve(self, kind: tuple[ColorSpec, bool], taken: deque[_Request]) -> None:
        self._wanted, self._request_left = True, 0
        upscaler = self._upscaler(kind)
        for frame in upscaler(self._frames(kind, taken), self._paused):
            request = taken[0]
            request.done.append(frame)
            if len(request.done) == len(request.frames):
                with self._changed:
                    taken.popleft()
                    self._changed.notify_all()
                request.answer.set_result(request.done)

    def _frames(self, kind: tuple[ColorSpec, bool], taken: deque[_Request]) -> Iterator[Frame]:
        """Frames of one kind as long as somebody waits.

        A group that does not fill a batch is the last, so that what shares a batch, and with it the
        last bit of a result, never depends on who asks when.
        """
        full = True
        while full and self._awaited(taken) and self._waiting[0].kind == kind:
            with self._changed:
                request = self._waiting.popleft()
                taken.append(request)
                self._request_left = len(request.frames)
            for frame in request.frames:
                self._request_left -= 1
                yield frame
            full = len(request.frames) == self.batch

    def _awaited(self, taken: deque[_Request]) -> bool:
        """Whether somebody waits; while several devices compute, one who may come is waited for."""
        with self._changed:
            while len(self._devices) > 1 and taken and not self._waiting and self._wanted:
                self._changed.wait()
            return bool(self._waiting) and self._wanted

    def _paused(self) -> bool:
        """Whether the next frame of a fleet has yet to be asked for."""
        return len(self._devices) > 1 and not self._request_left and not self._waiting

    def _no_more(self) -> None:
        """Lets go of the thread that waits for somebody to ask."""
        with self._changed:
            self._wanted = False
            self._changed.notify_all()

    def _upscaler(self, kind: tuple[ColorSpec, bool]) -> FrameUpscaler:
        """Kinds share one device's network; only buffers and colour conversion are their own."""
        if kind not in self._upscalers:
            color, alpha = kind
            resolved = self._resolved(color)
            source = _complete(self._source, resolved, alpha=alpha)
            color = _output_color(resolved, self._target)
            target = _complete(self._target, color, alpha=alpha)
            make = self._single if len(self._devices) == 1 else self._fleet
            self._upscalers[kind] = make(source, target)
        return self._upscalers[kind]

    def _single(self, source: Picture, target: Picture) -> FrameUpscaler:
        device = self._devices[0]
        upscaler = FrameUpscaler(
            self._make, device, source, target, self._settings, self._model.kernel
        )
        upscaler.finish = finish_for(self._model.faces, device, source, target)
        return upscaler

    def _fleet(self, source: Picture, target: Picture) -> FrameUpscaler:
        """Several devices as one, in the way of one of them; each kind has its own networks."""
        asked = asdict(self._wishes) | {"batch": self._settings.batch, "engine": "torch"}
        upscaler = assembly.frame_upscaler(
            self._model, source, target, assembly.Wishes(**asked, tune="off")
        )
        upscaler.restart = None  # as with one device, streams end wherever nobody asks
        if isinstance(upscaler, Fleet):
            upscaler.free_source = self._no_more
        return upscaler

    def _resolved(self, color: ColorSpec) -> ColorSpec:
        source, target = self._source, self._target
        if color.transfer in _HDR and self._model.learned:
            text = "the network was trained on SDR and sees %s values as they are"
            _log.warning(text, _HDR[color.transfer])
        yuv_to_rgb = source.format.family == "yuv" and (
            self._channels == 3 or target.format.family == "rgb"
        )
        if yuv_to_rgb and source.format.floating and color.matrix == UNSPECIFIED:
            msg = (
                "a floating-point YUV clip of unknown matrix cannot be converted to RGB: set it "
                "with std.SetFrameProps(clip, _Matrix=1)"
            )
            raise UnsupportedSourceError(msg)
        return color.resolved(source.width, source.height, source.format.family)


def _complete(picture: Picture, color: ColorSpec, *, alpha: bool) -> Picture:
    return replace(picture, color=color, format=replace(picture.format, alpha=alpha))


def _output_color(source: ColorSpec, target: Picture) -> ColorSpec:
    """The source's meaning, unless RGB is made of YUV or gray: that is always full range."""
    if target.format.family != "rgb" or source.matrix == 0:
        return source
    return replace(source, matrix=0, full_range=True, siting=0)
