"""Lanes that carry planes to a device and back.

A CUDA lane owns three streams and a ring of slots. A slot has a pinned host buffer and a device
buffer for each direction, allocated once. Frames are copied into pinned memory, uploaded on one
stream, computed on another and downloaded on a third; events order them, and the host waits only
for the event of the batch that it hands out. Pictures that lie on the device already are taken from
there, and results can be left there for an encoder that takes them (`vsr.engine.surfaces`). A host
lane does the same on the CPU, where there is nothing to carry: its slots are workers, each with its
share of the threads.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Barrier
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vsr.engine.base import PlaneMap
from vsr.engine.color import Picture, torch_dtype
from vsr.engine.surfaces import SurfacePool, fits, upload
from vsr.trace import Trace, spanned
from vsr.types import DevicePlanes, Frame, Plane

type Planes = tuple[Plane, ...]
type Result = Planes | DevicePlanes
"""A picture on the host, or left on the device."""


class Ticket(Protocol):
    """A batch under way."""

    def collect(self) -> tuple[Sequence[Result], bool]:
        """Waits; gives the picture of each frame, the caller's own, and whether all were finite."""
        ...


class Lane(Protocol):
    """Runs batches on a device, in order, while it is entered."""

    depth: int
    """Batches that may be under way while the next is submitted."""
    trace: Trace | None
    """Records what the device does."""

    def leave_results(self) -> bool:
        """Leaves results on the device from now on; False if it cannot, and nothing changes."""
        ...

    def __enter__(self) -> object:
        """Starts what a stream needs."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stops it; what is under way is finished or forgotten."""
        ...

    def submit(self, frames: Sequence[Frame], kernel: PlaneMap) -> Ticket:
        """Starts a batch."""
        ...


def open_lane(
    device: torch.device, source: Picture, target: Picture, batch: int, workers: int
) -> Lane:
    """Makes the lane of a device.

    Args:
        device: Where the kernel runs.
        source: Frames that will be submitted.
        target: Frames that will be collected.
        batch: Most frames of a submission.
        workers: Batches that the CPU computes side by side.
    """
    if device.type == "cuda":
        return CudaLane(device, source, target, batch)
    return HostLane(source, batch, workers)


class Layout:
    """Where the planes of a batch lie in one flat buffer of bytes.

    Args:
        picture: One frame.
        batch: Most frames.
    """

    def __init__(self, picture: Picture, batch: int) -> None:
        fmt = picture.format
        self.dtype = torch_dtype(fmt)
        self.shapes = fmt.plane_shapes(picture.width, picture.height)
        sizes = [batch * h * w * fmt.dtype.itemsize for h, w in self.shapes]
        padded = [size + -size % 256 for size in sizes]
        self.offsets = [sum(padded[:k]) for k in range(len(padded))]
        self.item, self.bytes = fmt.dtype.itemsize, sum(padded)

    def views(self, buffer: Tensor, count: int) -> tuple[Tensor, ...]:
        """The planes (count, h, w) inside a flat uint8 buffer."""
        return tuple(
            buffer[offset : offset + count * h * w * self.item].view(self.dtype).view(count, h, w)
            for offset, (h, w) in zip(self.offsets, self.shapes, strict=True)
        )


def _fill(views: tuple[Tensor, ...], frames: Sequence[Frame]) -> None:
    for p, view in enumerate(views):
        rows = view.numpy()
        for n, frame in enumerate(frames):
            if frame.surface is None:
                np.copyto(rows[n], frame.planes[p])


@dataclass(frozen=True, slots=True)
class HostTicket:
    """A batch under way on the CPU."""

    result: "Future[tuple[tuple[Tensor, ...], Tensor]]"

    def collect(self) -> tuple[list[Planes], bool]:
        """See `Ticket`."""
        planes, health = self.result.result()
        arrays = [plane.numpy() for plane in planes]
        frames = [tuple(array[n] for array in arrays) for n in range(arrays[0].shape[0])]
        return frames, bool(torch.isfinite(health))


class HostLane:
    """Runs batches on the CPU: at once, or on workers side by side.

    Threads that share one picture wait for each other after every layer, and longer so where other
    programs or the encoder want the cores too; workers with pictures of their own do not.

    Args:
        source: Frames that will be submitted.
        batch: Most frames of a submission.
        workers: Batches computed side by side; each gets an equal share of PyTorch's threads. With
            one, the caller's thread computes.
    """

    def __init__(self, source: Picture, batch: int, workers: int = 1) -> None:
        self._layout = Layout(source, batch)
        self.depth = workers if workers > 1 else 0
        self.trace: Trace | None = None
        self._free = self._buffers()
        self._pool: ThreadPoolExecutor | None = None

    def leave_results(self) -> bool:
        """See `Lane`; there is no other place than the host."""
        return False

    def _buffers(self) -> list[Tensor]:
        return [torch.empty(self._layout.bytes, dtype=torch.uint8) for _ in range(self.depth + 1)]

    def __enter__(self) -> None:
        """Starts the workers."""
        if self.depth:
            self._free = self._buffers()  # batches that were cancelled kept theirs
            self._pool = _pool(self.depth)

    def __exit__(self, *_: object) -> None:
        """Waits for what the workers are at."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def submit(self, frames: Sequence[Frame], kernel: PlaneMap) -> HostTicket:
        """See `Lane`."""
        buffer = self._free.pop()
        if self._pool is not None:
            return HostTicket(self._pool.submit(self._compute, buffer, frames, kernel))
        done: Future[tuple[tuple[Tensor, ...], Tensor]] = Future()
        done.set_result(self._compute(buffer, frames, kernel))
        return HostTicket(done)

    def _compute(
        self, buffer: Tensor, frames: Sequence[Frame], kernel: PlaneMap
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        try:
            with torch.inference_mode(), spanned(self.trace, "network"):
                views = self._layout.views(buffer, len(frames))
                _fill(views, frames)
                upload(frames, views)
                return kernel(views)
        finally:
            self._free.append(buffer)


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads of which each computes with its share of the cores; the caller's number stays."""
    cores = torch.get_num_threads()
    share = max(1, cores // workers)
    met = Barrier(workers)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first look takes over the program's number
        torch.set_num_threads(share)
        met.wait()

    pool = ThreadPoolExecutor(workers, "vsr-worker")
    wait([pool.submit(begin) for _ in range(workers)])
    torch.set_num_threads(cores)
    return pool


class _Slot:
    """Buffers and events of one batch under way."""

    def __init__(self, device: torch.device, source: Layout, target: Layout) -> None:
        def pinned(size: int) -> Tensor:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)

        def on_device(size: int) -> Tensor:
            return torch.empty(size, dtype=torch.uint8, device=device)

        self.host_in, self.host_out = pinned(source.bytes), pinned(target.bytes)
        self.device_in, self.device_out = on_device(source.bytes), on_device(target.bytes)
        self.health, self.device_health = (
            torch.zeros(1, pin_memory=True),
            torch.zeros(1, device=device),
        )
        self.uploaded, self.computed, self.downloaded = (torch.cuda.Event() for _ in range(3))  # type: ignore[no-untyped-call]
        self.begun: tuple[torch.cuda.Event, ...] | None = None
        self.decoded = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.kept: tuple[DevicePlanes, ...] = ()
        self.surfaces: list[DevicePlanes] = []

    def time(self) -> None:
        """Lets the events tell times, which costs a little: when each stream began, and ended."""
        self.uploaded, self.computed, self.downloaded, *begun = (
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(6)
        )
        self.begun = tuple(begun)

    def begin(self, stream: int) -> None:
        """Marks that a stream, 0 upload, 1 compute, 2 download, turns to this batch."""
        if self.begun is not None:
            self.begun[stream].record()


class _Clock:
    """Tells when something happened on a GPU, in the host's time."""

    def __init__(self, device: torch.device, trace: Trace) -> None:
        self._trace, self._device = trace, device
        self._zero = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._zero.record(torch.cuda.current_stream(device))
        self._zero.synchronize()
        self._host = time.perf_counter()

    def record(self, slot: _Slot) -> None:
        """Adds the spans of a batch that has been downloaded."""
        for name, begun, ended in zip(
            ("upload", "compute", "download"),
            slot.begun or (),
            (slot.uploaded, slot.computed, slot.downloaded),
            strict=False,
        ):
            began, took = self._zero.elapsed_time(begun) / 1e3, begun.elapsed_time(ended) / 1e3
            self._trace.add(name, self._host + began, took, f"{self._device} {name}")


@dataclass(slots=True)
class CudaTicket:
    """A batch under way on a GPU."""

    slot: _Slot
    layout: Layout
    count: int
    free: list[_Slot]
    clock: "_Clock | None"

    def collect(self) -> tuple[Sequence[Result], bool]:
        """See `Ticket`."""
        self.slot.downloaded.synchronize()
        self.slot.kept = ()  # the uploads have passed, and the decoder may have its memory back
        if self.clock is not None:
            self.clock.record(self.slot)
        frames = self._left() or self._copied()
        healthy = bool(torch.isfinite(self.slot.health[0]))
        self.free.append(self.slot)
        return frames, healthy

    def _left(self) -> list[DevicePlanes]:
        left, self.slot.surfaces = self.slot.surfaces, []
        return left

    def _copied(self) -> list[Planes]:
        arrays = [view.numpy() for view in self.layout.views(self.slot.host_out, self.count)]
        return [tuple(array[n].copy() for array in arrays) for n in range(self.count)]


class CudaLane:
    """Runs batches on a GPU with uploads, arithmetic and downloads overlapping.

    Args:
        device: The GPU.
        source: Frames that will be submitted.
        target: Frames that will be collected.
        batch: Most frames of a submission.
        depth: Batches under way while the next is submitted.
    """

    def __init__(
        self, device: torch.device, source: Picture, target: Picture, batch: int, depth: int = 2
    ) -> None:
        self.depth = depth
        self.trace: Trace | None = None
        self._device = device
        self._source, self._target = Layout(source, batch), Layout(target, batch)
        self._upload, self._compute, self._download = (
            torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            for _ in range(3)
        )
        self._free = [_Slot(device, self._source, self._target) for _ in range(depth + 1)]
        self._clock: _Clock | None = None
        self._picture = target
        self._pool: SurfacePool | None = None
        torch.cuda.current_stream(device).synchronize()

    def leave_results(self) -> bool:
        """See `Lane`."""
        if fits(self._picture):
            self._pool = SurfacePool(self._device, self._picture)
        return self._pool is not None

    def __enter__(self) -> None:
        """Sets the clock if a trace is recorded; streams and slots stay."""
        if self.trace is not None and self._clock is None:
            self._clock = _Clock(self._device, self.trace)
            for slot in self._free:
                slot.time()

    def __exit__(self, *_: object) -> None:
        """Likewise; what is under way ends by itself."""

    def submit(self, frames: Sequence[Frame], kernel: PlaneMap) -> CudaTicket:
        """See `Lane`; returns as soon as the work is queued."""
        slot, count = self._free.pop(), len(frames)
        try:
            self._queue(slot, frames, kernel)
        except BaseException:
            self._upload.synchronize()  # the host buffer is about to be refilled
            slot.kept, slot.surfaces = (), []
            self._free.append(slot)
            raise
        return CudaTicket(slot, self._target, count, self._free, self._clock)

    def _queue(self, slot: _Slot, frames: Sequence[Frame], kernel: PlaneMap) -> None:
        count = len(frames)
        _fill(self._source.views(slot.host_in, count), frames)
        views = self._source.views(slot.device_in, count)
        with torch.cuda.stream(self._upload):
            slot.begin(0)
            self._carry(slot, frames, views)
            slot.uploaded.record()
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(slot.uploaded)
            slot.begin(1)
            planes, health = kernel(views)
            if self._pool is not None:
                slot.surfaces = [self._pool.put([p[n] for p in planes]) for n in range(count)]
            else:
                self._settle(slot, planes, count)
            slot.device_health.copy_(health.view(1))
            slot.computed.record()
        with torch.cuda.stream(self._download):
            self._download.wait_event(slot.computed)
            slot.begin(2)
            if self._pool is None:
                slot.host_out.copy_(slot.device_out, non_blocking=True)
            slot.health.copy_(slot.device_health, non_blocking=True)
            slot.downloaded.record()

    def _carry(self, slot: _Slot, frames: Sequence[Frame], views: tuple[Tensor, ...]) -> None:
        """Brings a batch into its slot, on the upload stream: from the host, and from surfaces."""
        on_device = [frame.surface is not None for frame in frames]
        if not all(on_device):
            slot.device_in.copy_(slot.host_in, non_blocking=True)
        if any(on_device):
            # FFmpeg's decoder writes its pictures on the default stream
            slot.decoded.record(torch.cuda.default_stream(self._device))
            self._upload.wait_event(slot.decoded)
            slot.kept = upload(frames, views)

    def _settle(self, slot: _Slot, planes: tuple[Tensor, ...], count: int) -> None:
        for view, plane in zip(self._target.views(slot.device_out, count), planes, strict=True):
            view.copy_(plane)
