"""Source, device and sink side by side in three threads; every door goes through here."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from vsr.io.base import FrameSink
from vsr.pipeline import Prefetch, bottleneck, never
from vsr.trace import Trace, each_spanned, spanned
from vsr.types import Frame, Progress, Stage

_QUEUE_BYTES = 256 << 20
_PATIENCE = 5.0
"""Seconds for a released source to let go of its thread."""


class Upscaling(Protocol):
    """Maps a stream of frames to a stream of as many frames."""

    def __call__(
        self, frames: Iterable[Frame], idle: Callable[[], bool] = never
    ) -> Iterator[Frame]:
        """Yields one frame for each, in order; without delay where `idle` says that none waits."""
        ...


@dataclass(frozen=True, slots=True)
class Flown:
    """What went through.

    Attributes:
        frames: How many were written.
        bottleneck: The stage that the others waited for, None if none did noticeably.
        busy: Share of the time, from 0 to 1, that each stage had work to do.
    """

    frames: int
    bottleneck: Stage | None
    busy: Mapping[Stage, float]


def flow(
    source: Iterable[Frame],
    upscaler: Upscaling,
    sink: FrameSink,
    size: tuple[int, int],
    total: int | None,
    report: Callable[[Progress], None],
    *,
    begun: int = 0,
    ahead: int = 8,
    release: Callable[[], None] | None = None,
    trace: Trace | None = None,
) -> Flown:
    """Decodes and upscales in threads of their own, and writes in the caller's.

    Args:
        source: Runs in the decode thread.
        upscaler: Runs in the device thread.
        sink: Gets every frame in order; not finished here.
        size: Width and height of the output, for the reports.
        total: Expected frames, for the reports.
        report: Called from this thread, at most ten times a second.
        begun: Frames that an earlier run has done, for the reports.
        ahead: Most decoded frames waiting for the device.
        release: Frees a live source, such as a pipe, that waits for data; called before the decode
            thread is waited for. With it no frame waits for the next: batches may be smaller.
        trace: Records what the stages do.

    Raises:
        VsrError: The first error of any stage, as itself.
    """
    began = reported = now = time.perf_counter()
    written, encoding = 0, 0.0
    read = source if trace is None else each_spanned(source, trace, "decode")
    decoded = Prefetch(read, items=ahead, size=_bytes, most_bytes=_QUEUE_BYTES, name="vsr-decode")
    upscaled = upscaler(decoded, never if release is None else decoded.idle)
    results = Prefetch(upscaled, items=4, size=_bytes, most_bytes=_QUEUE_BYTES, name="vsr-device")
    try:
        for frame in results:
            given = time.perf_counter()
            if begun and not written:  # what went before was decoded once more, and no work
                began = given
            with spanned(trace, "encode"):
                sink.write(frame)
            written += 1
            now = time.perf_counter()
            encoding += now - given
            if now - reported >= 0.1:
                reported = now
                stage = bottleneck(decoded.waits, results.waits)
                progress = Progress(
                    frames=begun + written,
                    total=total,
                    seconds=now - began,
                    size=size,
                    bottleneck=stage,
                    begun=begun,
                )
                report(progress)
    finally:
        decoded.stop()
        results.close()
        if release is not None:
            release()
        decoded.close(None if release is None else _PATIENCE)
    whole = max(now - began, 1e-9)
    idle: dict[Stage, float] = {
        "decode": decoded.waits.put,
        "device": decoded.waits.get + results.waits.put,
        "encode": whole - encoding,
    }
    busy = {stage: min(1.0, max(0.0, 1 - seconds / whole)) for stage, seconds in idle.items()}
    return Flown(written, bottleneck(decoded.waits, results.waits), busy)


def _bytes(frame: Frame) -> int:
    return frame.nbytes
