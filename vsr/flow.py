"""Source, device and sink side by side in three threads; every door goes through here."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from vsr.io.base import FrameSink
from vsr.pipeline import Prefetch, bottleneck, never
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


def flow(
    source: Iterable[Frame],
    upscaler: Upscaling,
    sink: FrameSink,
    size: tuple[int, int],
    total: int | None,
    report: Callable[[Progress], None],
    *,
    ahead: int = 8,
    release: Callable[[], None] | None = None,
) -> tuple[int, Stage | None]:
    """Decodes and upscales in threads of their own, and writes in the caller's.

    Args:
        source: Runs in the decode thread.
        upscaler: Runs in the device thread.
        sink: Gets every frame in order; not finished here.
        size: Width and height of the output, for the reports.
        total: Expected frames, for the reports.
        report: Called from this thread, at most ten times a second.
        ahead: Most decoded frames waiting for the device.
        release: Frees a live source, such as a pipe, that waits for data; called before the decode
            thread is waited for. With it no frame waits for the next: batches may be smaller.

    Returns:
        The number of frames written, and the stage that the others waited for.

    Raises:
        VsrError: The first error of any stage, as itself.
    """
    began = reported = time.perf_counter()
    written = 0
    decoded = Prefetch(source, items=ahead, size=_bytes, most_bytes=_QUEUE_BYTES, name="vsr-decode")
    upscaled = upscaler(decoded, never if release is None else decoded.idle)
    results = Prefetch(upscaled, items=4, size=_bytes, most_bytes=_QUEUE_BYTES, name="vsr-device")
    try:
        for frame in results:
            sink.write(frame)
            written += 1
            now = time.perf_counter()
            if now - reported >= 0.1:
                reported = now
                stage = bottleneck(decoded.waits, results.waits)
                progress = Progress(
                    frames=written, total=total, seconds=now - began, size=size, bottleneck=stage
                )
                report(progress)
    finally:
        decoded.stop()
        results.close()
        if release is not None:
            release()
        decoded.close(None if release is None else _PATIENCE)
    return written, bottleneck(decoded.waits, results.waits)


def _bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in frame.planes)
