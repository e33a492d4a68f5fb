"""One file in, one file out, and nothing half-written."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vsr.errors import UnsupportedSourceError
from vsr.flow import Flown, flow
from vsr.io.atomic import sink_error
from vsr.io.folder import Stills
from vsr.io.hardware import present, works
from vsr.io.plan import OutputPlan
from vsr.manifest import collected, now, record, tags_for
from vsr.outputs import is_faithful, open_sink
from vsr.planning import HLG, PQ, Plan, UpscaleJob, prepare
from vsr.resuming import announced, behind, computed, facts_for, job_folder, way_of
from vsr.trace import Trace
from vsr.types import ColorSpec, PixelFormat, Progress, Stage, VideoInfo

if TYPE_CHECKING:
    from vsr.engine.assembly import Wishes
    from vsr.engine.color import Picture
    from vsr.engine.faces import FaceModel
    from vsr.engine.loading import Model
    from vsr.engine.stream import FrameUpscaler
    from vsr.engine.tuning import Trial

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
        reused: Frames whose picture was that of the frame before, and was not computed again.
        busy: Share of the time that each stage had work to do.
        begun: Frames of them that an earlier run had written.
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
    reused: int = 0
    busy: Mapping[Stage, float] = field(default_factory=dict)
    begun: int = 0

    @property
    def progress(self) -> Progress:
        """The last report."""
        return Progress(
            frames=self.frames,
            total=self.frames,
            seconds=self.seconds,
            size=self.size,
            bottleneck=self.bottleneck,
            begun=self.begun,
        )


def run(
    job: UpscaleJob,
    report: Callable[[Progress], None] = lambda _: None,
    fetching: Fetching = Fetching(),
    alike: Mapping[str, Any] = MappingProxyType({}),
) -> JobResult:
    """Upscales one file.

    Args:
        job: What to do.
        report: Called from this thread, at most ten times a second and once at the end.
        fetching: Who watches over a download, if the model needs one.
        alike: How an earlier run computed, from its record; decided anew if empty.

    Returns:
        What was done.

    Raises:
        VsrError: Nothing is left under the target's name that was not there before.
    """
    began, date = time.perf_counter(), now()
    with ExitStack() as stack:
        warned = stack.enter_context(collected())
        prepared = prepare(_kept_on_device(job), stack)
        picture = prepared.picture
        model = load(job, prepared.factor, fetching, lossy=prepared.info.lossy)
        warn_about_hdr(prepared.info, model)
        plan = prepared.plan
        facts = facts_for(job, prepared, model)
        folder = job_folder(job, prepared, facts)
        stack.enter_context(announced(folder, job.target))
        if folder is not None:
            stack.callback(folder.close)
        upscaler = upscaler_for(
            job,
            model,
            (prepared.info, prepared.color),
            (picture, plan.format, plan.color),
            frames=picture.frame_count,
            alike=computed(folder) or alike,
        )
        if job.options.hwaccel == "cuda":
            _leave_results(upscaler, plan)
        faithful = is_faithful(model) and job.faces is None
        tags = tags_for(job, facts)
        sink = open_sink(job, prepared, folder, tags, faithful=faithful)
        stack.callback(sink.abort)
        begun = 0 if folder is None else folder.journal.frames
        if folder is not None:
            upscaler.part = folder.frames
            folder.note(computed=way_of(upscaler))
        size = (picture.width, picture.height)
        trace = Trace() if job.profile else None
        upscaler.trace = trace
        frames = behind(iter(prepared.source), folder)
        flown = flow(
            frames, upscaler, sink, size, picture.frame_count, report, begun=begun, trace=trace
        )
        if begun + flown.frames == 0:
            msg = f"no frame of {job.source} could be decoded: the file is damaged or empty"
            raise UnsupportedSourceError(msg)
        sink.finish()
        write_trace(trace, job)
        damaged = prepared.source.damage.frames
        done = job_result(job, flown, upscaler, size, began, damaged, begun=begun)
        if job.manifest is not None:
            timing = {"seconds": done.seconds, "busy": dict(done.busy), "begun": begun}
            made = record(
                job, facts, folder, computed=way_of(upscaler),
                frames=done.frames, begun=date, timing=timing, warnings=tuple(warned),
            )  # fmt: skip
            made.save(job.manifest)
        report(done.progress)
        return done


def _kept_on_device(job: UpscaleJob) -> UpscaleJob:
    """The job with decoded frames that stay where they are computed, if nobody else needs them.

    Only where hardware decoding was asked for by name: elsewhere repeated pictures are found.
    """
    if job.options.hwaccel != "cuda" or job.faces is not None or isinstance(job.source, Stills):
        return job
    if not present():
        return job
    from vsr.engine.devices import resolve_devices  # noqa: PLC0415 - torch is slow to import
    from vsr.engine.surfaces import enter  # noqa: PLC0415 - likewise

    chosen = resolve_devices(job.device)
    if len(chosen) > 1 or chosen[0].type != "cuda":
        return job
    enter(chosen[0])
    return replace(job, options=replace(job.options, keep_on=chosen[0].index or 0))


def _leave_results(upscaler: "FrameUpscaler", plan: Plan) -> None:
    """Lets NVENC take the results from the device, if that works."""
    if not isinstance(plan, OutputPlan) or not plan.encoder.codec.endswith("_nvenc"):
        return
    if upscaler.device.type != "cuda":
        return
    from vsr.engine.surfaces import enter  # noqa: PLC0415 - torch is slow to import

    enter(upscaler.device)
    if works(upscaler.device.index or 0, plan.encoder.id, plan.format):
        upscaler.leave_results()


def job_result(
    job: UpscaleJob,
    flown: Flown,
    upscaler: "FrameUpscaler",
    size: tuple[int, int],
    began: float,
    damaged: int,
    *,
    begun: int = 0,
) -> JobResult:
    """What a job that ends now did.

    Args:
        job: What was to be done.
        flown: What went through.
        upscaler: Which computed it.
        size: Width and height of the output.
        began: When, by `time.perf_counter`.
        damaged: Frames of the source that were concealed.
        begun: Frames that an earlier run did.
    """
    return JobResult(
        frames=begun + flown.frames,
        begun=begun,
        seconds=time.perf_counter() - began,
        target=job.target,
        size=size,
        bottleneck=flown.bottleneck,
        damaged=damaged,
        peak_host_bytes=peak_memory(),
        precision=upscaler.settings.precision,
        device=upscaler.where,
        reused=upscaler.reused,
        busy=flown.busy,
    )


def write_trace(trace: Trace | None, job: UpscaleJob) -> None:
    """Writes what was recorded to where the job asks for it.

    Raises:
        SinkError: It cannot be written there.
    """
    if trace is None or job.profile is None:
        return
    try:
        trace.write(job.profile)
    except OSError as error:
        raise sink_error(job.profile, error) from error


def load(
    job: UpscaleJob,
    factor: Fraction,
    fetching: Fetching,
    faces: "FaceModel | None" = None,
    *,
    lossy: bool = False,
) -> "Model":
    """Loads the networks that a job asks for.

    Args:
        job: Which.
        factor: Output over input size.
        fetching: Who watches over a download.
        faces: Those that restore faces, if an earlier call has loaded them.
        lossy: Whether a codec has left out detail of the source.

    Raises:
        ModelError: No such model, or its checkpoint cannot be used.
    """
    from vsr.engine.loading import find_model  # noqa: PLC0415 - torch is slow to import

    model = find_model(
        job.model,
        path=job.model_path,
        factor=factor,
        denoise=job.denoise,
        lossy=lossy,
        offline=job.offline,
        confirm=fetching.confirm,
        progress=fetching.progress,
    )
    if job.faces is None:
        return model
    from vsr.engine.faces import find_faces  # noqa: PLC0415 - torch is slow to import

    faces = faces or find_faces(
        job.faces,
        offline=job.offline,
        confirm=fetching.confirm,
        progress=fetching.progress,
    )
    return replace(model, faces=faces)


def upscaler_for(
    job: UpscaleJob,
    model: "Model",
    source: tuple[VideoInfo, ColorSpec],
    target: tuple[VideoInfo, PixelFormat, ColorSpec],
    *,
    frames: int | None,
    alike: Mapping[str, Any] = MappingProxyType({}),
) -> "FrameUpscaler":
    """Puts a job's network on its device.

    Args:
        job: How.
        model: Which.
        source: The pictures that come, and their resolved colour.
        target: Size of the pictures to make, and the format and colour that the sink takes.
        frames: How many come, None if unknown.
        alike: How an earlier run computed, from `computed`.
    """
    from vsr.engine.assembly import frame_upscaler  # noqa: PLC0415 - torch is slow to import

    wishes = _wishes(job, frames)
    if alike:
        wishes = replace(wishes, tune="off", **alike)
    return frame_upscaler(model, *_ends(source, target), wishes, rotation=source[0].rotation)


def try_out(job: UpscaleJob) -> "list[Trial]":
    """Tries every way to compute a job on noise of its size, and remembers the fastest.

    Returns:
        What was tried, the fastest first.

    Raises:
        VsrError: The job cannot work.
    """
    from vsr.engine.assembly import tune  # noqa: PLC0415 - torch is slow to import

    with ExitStack() as stack:
        prepared = prepare(job, stack)
        model = load(job, prepared.factor, Fetching(), lossy=prepared.info.lossy)
        plan = prepared.plan
        target = (prepared.picture, plan.format, plan.color)
        ends = _ends((prepared.info, prepared.color), target)
        return tune(model, *ends, _wishes(job, None))


def _ends(
    source: tuple[VideoInfo, ColorSpec], target: tuple[VideoInfo, PixelFormat, ColorSpec]
) -> "tuple[Picture, Picture]":
    from vsr.engine.color import Picture  # noqa: PLC0415 - torch is slow to import

    info, color = source
    picture, form, wanted = target
    return (
        Picture(width=info.width, height=info.height, format=info.format, color=color),
        Picture(width=picture.width, height=picture.height, format=form, color=wanted),
    )


def _wishes(job: UpscaleJob, frames: int | None) -> "Wishes":
    from vsr.engine.assembly import Wishes  # noqa: PLC0415 - torch is slow to import

    return Wishes(
        device=job.device,
        engine=job.engine,
        precision=job.precision,
        tile=job.tile,
        tile_pad=job.tile_pad,
        batch=job.batch,
        tta=job.tta,
        frames=frames,
        tune=job.tune,
        max_memory=job.max_memory,
    )


def warn_about_hdr(info: VideoInfo, model: "Model") -> None:
    """Says that a network does not know HDR, where it gets such."""
    if info.color.transfer in (PQ, HLG) and model.learned:
        name = "PQ" if info.color.transfer == PQ else "HLG"
        _log.warning("the network was trained on SDR and sees %s values as they are", name)


def peak_memory() -> int | None:
    """Most bytes that this process ever held, None where unknown."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
