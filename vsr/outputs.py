"""Where a job's frames go, and who compares the result with its source before it gets its name."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.errors import SourceNotFoundError, VerificationError
from vsr.io.atomic import faulty
from vsr.io.av_sink import AvSink
from vsr.io.av_source import AvSource
from vsr.io.base import FrameSink
from vsr.io.folder import Stills
from vsr.io.journal import JobFolder
from vsr.io.plan import OutputPlan
from vsr.models.catalog import published
from vsr.planning import Prepared, UpscaleJob

if TYPE_CHECKING:
    from vsr.engine.loading import Model

_log = logging.getLogger(__name__)


def is_faithful(model: "Model") -> bool:
    """Whether a network is known to keep what a picture looks like."""
    return not model.learned or any(
        entry.name == model.name for entry in published() if entry.embedded
    )


def open_sink(
    job: UpscaleJob,
    prepared: Prepared,
    folder: JobFolder | None,
    tags: Mapping[str, str],
    *,
    faithful: bool,
) -> FrameSink:
    """Opens where a job's frames go.

    Args:
        job: What is to be done.
        prepared: And with which files.
        folder: Where its segments are kept, if it has such.
        tags: Further tags of the file.
        faithful: Whether the network is known to keep what a picture looks like.

    Raises:
        SinkError: The file cannot be made.
    """
    plan, source = prepared.plan, prepared.source
    if not isinstance(plan, OutputPlan):
        return plan
    plan = replace(plan, tags=tags)
    if isinstance(job.source, Stills):
        return AvSink(plan, prepared.picture, None, folder=folder)
    first = source.first_pts * source.info.time_base
    start, end = (None if at is None else first + at for at in (job.options.start, job.options.end))
    judge = _judge(job, prepared, faithful=faithful)
    trim = (start, end)
    return AvSink(plan, prepared.picture, job.source, trim=trim, judge=judge, folder=folder)


_LOOKS = frozenset({"luma", "detail", "broken", "colour", "order"})
"""What a network may change, if it was made to: brightness, colour, detail."""


def _judge(
    job: UpscaleJob, prepared: Prepared, *, faithful: bool
) -> Callable[[Path, int], None] | None:
    """Who compares the finished file with its source; nobody where that is far away.

    Args:
        job: What was to be done.
        prepared: And with which files.
        faithful: Whether the network is known to keep what a picture looks like.
    """
    source, picture = job.source, prepared.picture
    if not (job.verify and isinstance(source, Path) and isinstance(prepared.source, AvSource)):
        return None
    from vsr.verification import Expected, verify  # noqa: PLC0415 - only where it is asked for

    turned = picture.rotation % 180 != 0
    expected = Expected(
        width=picture.height if turned else picture.width,
        height=picture.width if turned else picture.height,
        start=job.options.start,
        end=job.options.end,
        audio=job.sink.audio,
        subtitles=job.sink.subtitles,
        audio_codec=job.sink.audio_codec,
        color=job.color,
        stream=prepared.source.stream_index,
    )

    def judge(path: Path, frames: int) -> None:
        try:
            report = verify(source, path, replace(expected, frames=frames))
        except SourceNotFoundError:
            _log.warning("%s is gone, so the output cannot be compared with it", source)
            return
        for finding in report.findings:
            _log.info("verified: %s: %s", finding.check, finding.text)
        looks = [fault.text for fault in report.faults if fault.check in _LOOKS and not faithful]
        for text in looks:
            _log.warning("the network changes what is seen: %s", text)
        wrong = [fault.text for fault in report.faults if fault.text not in looks]
        if wrong:
            msg = (
                f"the output is not right, so it lies as {faulty(job.target)}: {wrong[0]}; "
                "please report this, or use --no-verify"
            )
            raise VerificationError(msg)

    return judge
