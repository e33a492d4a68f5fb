"""One file in, one file out, and nothing half-written."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.errors import UnsupportedSourceError
from vsr.flow import flow
from vsr.io.av_sink import AvSink
from vsr.io.base import FrameSink
from vsr.io.image_sink import ImageSink
from vsr.planning import HLG, PQ, Prepared, UpscaleJob, prepare
from vsr.types import Progress, Stage, VideoInfo

if TYPE_CHECKING:
    from vsr.engine.loading import Model
    from vsr.engine.stream import FrameUpscaler

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """Who watches over the download of a model.

    Attributes:
        confirm: Asked before a file without a pinned digest is downloaded; None refuses.
        progress: Told (bytes so far, bytes in all).
    """

    confirm: Callable[[str], bool] | None = None
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What a finished job did.

    Attributes:
        frames: Frames written, equal to the frames presented in the source.
        seconds: Wall time.
        target: The file that was written.
        size: Width and height of the output.
        bottleneck: The stage that the others waited for.
        damaged: Frames of the source that were concealed.
        peak_host_bytes: Most memory that the process ever held, None where unknown.
        precision: Arithmetic at the end.
        device: Where the network ran.
    """

    frames: int
    seconds: float
    target: Path
    size: tuple[int, int]
    bottleneck: Stage | None
    damaged: int
    peak_host_bytes: int | None
    precision: str
    device: str


def run(
    job: UpscaleJob,
    report: Callable[[Progress], None] = lambda _: None,
    fetching: Fetching = Fetching(),
) -> JobResult:
    """Upscales one file.

    Args:
        job: What to do.
        report: Called from this thread, at most ten times a second and once at the end.
        fetching: Who watches over a download, if the model needs one.

    Returns:
        What was done.

    Raises:
        VsrError: Nothing is left under the target's name that was not there before.
    """
    from vsr.engine.loading import find_model  # noqa: PLC0415 - torch is slow to import

    began = time.perf_counter()
    with ExitStack() as stack:
        prepared = prepare(job, stack)
        picture = prepared.picture
        model = find_model(
            job.model,
            path=job.model_path,
            factor=prepared.factor,
            denoise=job.denoise,
            offline=job.offline,
            confirm=fetching.confirm,
            progress=fetching.progress,
        )
        _warn_about_hdr(prepared.info, model)
        upscaler = _upscaler(job, prepared, model)
        sink = _open_sink(job, prepared)
        stack.callback(sink.abort)
        size = (picture.width, picture.height)
        written, stage = flow(prepared.source, upscaler, sink, size, picture.frame_count, report)
        if written == 0:
            msg = f"no frame of {job.source} could be decoded: the file is damaged or empty"
            raise UnsupportedSourceError(msg)
        sink.finish()
        seconds = time.perf_counter() - began
        report(
            Progress(frames=written, total=written, seconds=seconds, size=size, bottleneck=stage)
        )
        return JobResult(
            frames=written,
            seconds=seconds,
            target=job.target,
            size=size,
            bottleneck=stage,
            damaged=prepared.source.damage.frames,
            peak_host_bytes=_peak_memory(),
            precision=upscaler.settings.precision,
            device=str(upscaler.device),
        )


def _upscaler(job: UpscaleJob, prepared: Prepared, model: "Model") -> "FrameUpscaler":
    from vsr.engine.color import Picture  # noqa: PLC0415
    from vsr.engine.loading import frame_upscaler  # noqa: PLC0415

    info, picture, plan = prepared.info, prepared.picture, prepared.plan
    source = Picture(width=info.width, height=info.height, format=info.format, color=prepared.color)
    target = Picture(
        width=picture.width, height=picture.height, format=plan.format, color=plan.color
    )
    return frame_upscaler(
        model,
        source,
        target,
        device=job.device,
        precision=job.precision,
        tile=job.tile,
        tile_pad=job.tile_pad,
        batch=job.batch,
        tta=job.tta,
    )


def _open_sink(job: UpscaleJob, prepared: Prepared) -> FrameSink:
    plan, source = prepared.plan, prepared.source
    if isinstance(plan, ImageSink):
        return plan
    first = source.first_pts * source.info.time_base
    start, end = (None if at is None else first + at for at in (job.options.start, job.options.end))
    return AvSink(plan, prepared.picture, job.source, trim=(start, end))


def _warn_about_hdr(info: VideoInfo, model: "Model") -> None:
    if info.color.transfer in (PQ, HLG) and model.learned:
        name = "PQ" if info.color.transfer == PQ else "HLG"
        _log.warning("the network was trained on SDR and sees %s values as they are", name)


def _peak_memory() -> int | None:
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
