"""What makes a job the same job, so that what an earlier run has finished can be used."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vsr.io.folder import Stills
from vsr.io.formats import ffmpeg_name
from vsr.io.identity import identity
from vsr.io.journal import JobFolder
from vsr.io.plan import OutputPlan
from vsr.planning import Prepared, UpscaleJob
from vsr.recording import plain, settings
from vsr.types import Frame

if TYPE_CHECKING:
    from vsr.engine.loading import Model
    from vsr.engine.stream import FrameUpscaler

_log = logging.getLogger(__name__)

_NEUTRAL: Final = frozenset(
    {
        "scale", "width", "height", "model", "model_path", "denoise", "device", "offline",
        "profile", "manifest", "readers", "writers", "verify", "tune", "restart", "segment",
        "keep_after", "faces.path", "options.threads", "options.hwaccel", "options.keep_on",
        "options.allow_url", "sink.overwrite", "sink.encoder", "sink.container", "sink.allow_url",
    }
)  # fmt: skip
"""Settings that change nothing, or what they change is told by other facts."""


def can_resume(job: UpscaleJob, prepared: Prepared) -> bool:
    """Whether an interrupted run can be gone on with."""
    # an address may give something else next time; pictures are whole one by one
    return isinstance(prepared.plan, OutputPlan) and isinstance(job.source, Path | Stills)


def facts_for(job: UpscaleJob, prepared: Prepared, model: "Model") -> dict[str, str]:
    """What `facts_of` says, where somebody asks: who goes on with the job, or its record."""
    asked = can_resume(job, prepared) or job.manifest is not None
    return facts_of(job, prepared, model) if asked else {}


def job_folder(job: UpscaleJob, prepared: Prepared, facts: Mapping[str, str]) -> JobFolder | None:
    """Opens the folder where a job keeps its segments; None if the output is pictures.

    Args:
        job: What is to be done.
        prepared: What was decided.
        facts: From `facts_for`.

    Raises:
        JournalError: An unfinished job of the same target is another one.
        SinkError: The folder cannot be made.
    """
    plan = prepared.plan
    if not isinstance(plan, OutputPlan):
        return None
    known = facts if can_resume(job, prepared) else None
    return opened(job, plan.path, known, prepared.picture.frame_count)


def opened(
    job: UpscaleJob, target: Path, facts: Mapping[str, str] | None, total: int | None
) -> JobFolder:
    """Opens the folder where a job keeps its segments, and says what is there.

    Args:
        job: What is to be done.
        target: Of the job.
        facts: From `facts_of`; None if it cannot be gone on with.
        total: Frames, if they are known.

    Raises:
        JournalError: An unfinished job of the same target is another one.
        SinkError: The folder cannot be made.
    """
    if facts is None:
        return JobFolder(target, frames=job.segment, keep_after=job.keep_after)
    folder = JobFolder(
        target,
        frames=job.segment,
        facts=facts,
        restart=job.restart,
        keep_after=job.keep_after,
    )
    folder.note(job=plain(job), total=total)
    if folder.journal.frames:
        _log.warning(
            "going on with the unfinished %s: %d frames are there already",
            job.target,
            folder.journal.frames,
        )
    return folder


def facts_of(job: UpscaleJob, prepared: Prepared, model: "Model") -> dict[str, str]:
    """What decides about the bytes of a job's output, in words, the most telling first.

    Raises:
        SourceError: The source cannot be read.
    """
    from vsr.engine.devices import described  # noqa: PLC0415 - torch is slow
    from vsr.engine.fingerprint import fingerprint  # noqa: PLC0415 - likewise

    picture, plan = prepared.picture, prepared.plan
    facts = {
        "an input of": job.source if isinstance(job.source, str) else identity(job.source),
        "the size": f"{picture.width}x{picture.height}",
        "the model": fingerprint(model),
        "the pixel format": ffmpeg_name(plan.format),
    }
    if isinstance(plan, OutputPlan):
        facts["the encoder"] = plan.encoder.id
        facts["the container"] = plan.container.name
        facts["segments of"] = f"{job.segment} frames"
    asked = {name: text for name, text in settings(job).items() if name not in _NEUTRAL}
    return {
        **facts,
        **{f"the setting {name}": text for name, text in asked.items()},
        "the device": described(job.device),
        **{f"the version of {name}": metadata.version(name) for name in ("vsr", "torch", "av")},
    }


def computed(folder: JobFolder | None) -> Mapping[str, Any]:
    """How an earlier run computed, which the next one must do alike; nothing if there was none."""
    if folder is None or not folder.kept:
        return {}
    noted = folder.journal.notes.get("computed")
    return noted if isinstance(noted, Mapping) else {}


def way_of(upscaler: "FrameUpscaler") -> dict[str, Any]:
    """How an upscaler computes; what `computed` gives back to the next run."""
    return upscaler.way


def behind(source: Iterator[Frame], folder: JobFolder | None) -> Iterator[Frame]:
    """The frames that are still to be done.

    Earlier ones are decoded and let go: only so does every decoder come to the very same pictures.
    """
    if folder is None:
        return source
    if folder.journal.complete:
        return iter(())
    return islice(source, folder.journal.frames, None)


@contextmanager
def announced(folder: JobFolder | None, target: Path) -> Iterator[None]:
    """Says what is kept when a job ends early."""
    try:
        yield
    except BaseException:
        if folder is not None:
            announce(folder, target)
        raise


def announce(folder: JobFolder, target: Path) -> None:
    """Says what is kept, if anything is."""
    if folder.kept:
        text = "%d frames of %s are kept: the same command goes on from there"
        _log.warning(text, folder.journal.frames, target)
