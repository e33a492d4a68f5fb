"""Jobs on a cluster: the option that names it, and how its jobs show themselves."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import console, door
from vsr.cli.base import Option
from vsr.cli.progress import Json, Reporter, summary
from vsr.cli.signals import Stop
from vsr.errors import VsrError

if TYPE_CHECKING:
    from vsr.jobs import JobResult
    from vsr.planning import UpscaleJob
    from vsr.types import Progress


def cluster_option() -> click.Parameter:
    """`--cluster`."""
    return Option(
        ["--cluster"],
        section="Long jobs",
        metavar="ADDRESS",
        help="Spread segments over a Ray cluster: ray://HOST:PORT, HOST:PORT, or auto for the one "
        "that runs here, else one of this machine alone.",
    )


def run_all(jobs: Sequence["UpscaleJob"], address: str, show: Reporter, stop: Stop) -> int:
    """Runs jobs on a cluster, all at once; one that fails does not stop the others.

    Args:
        jobs: With one device for all.
        address: Of the cluster.
        show: The only job, or all of them as one.
        stop: Asked whether the user wants an end.

    Returns:
        0, or the exit code of the first failure.

    Raises:
        VsrError: The error of the only job, or of the whole cluster; the user's wish to stop.
    """
    from vsr.cluster import driver, rays  # noqa: PLC0415 - torch comes with it

    shared = [driver.on_shared_paths(job) for job in jobs]
    told = _Told(len(jobs), show)
    many = len(jobs) > 1
    title = f"{len(jobs)} files" if many else str(jobs[0].source)
    show.start(title, jobs[0].target.parent if many else jobs[0].target)

    def report(progress: "Progress") -> None:
        stop.check()
        show.update(progress)

    try:
        with closing(rays.RayCrew(address, device=jobs[0].device)) as crew:
            # where a network runs is each node's own affair; the job must not say otherwise
            everywhere = [replace(job, device="auto") for job in shared]
            if many:
                driver.run_all(everywhere, crew, report, finished=told.finished)
            else:
                show.finish(driver.run(everywhere[0], crew, report))
    except BaseException as error:
        verdict = door.judge(error)
        show.fail(verdict.code, verdict.text)
        raise
    return told.ended()


class _Told:
    """What has become of each job so far."""

    def __init__(self, count: int, show: Reporter) -> None:
        self._count, self._show = count, show
        self._codes: dict[str, int] = {}

    def finished(self, job: "UpscaleJob", result: "JobResult | VsrError") -> None:
        """Says what has become of one job."""
        if isinstance(result, VsrError):
            self._codes[str(job.source)] = door.tell(result, subject=str(job.source))
        elif not console.quiet() and not isinstance(self._show, Json):
            console.say(f"vsr: {summary(result)}")

    def ended(self) -> int:
        """Names at the end the jobs that failed."""
        if self._codes:
            names = ", ".join(self._codes)
            console.say(f"vsr: error: {len(self._codes)} of {self._count} files failed: {names}")
        return next(iter(self._codes.values()), 0)


def run_many(
    jobs: Sequence["UpscaleJob"], values: dict[str, Any], show: Reporter, stop: Stop
) -> int:
    """Runs jobs where the options say: on a cluster, or one after another here."""
    if values["cluster"] is not None:
        return run_all(jobs, values["cluster"], show, stop)
    from vsr.cli.upscale import run_all as run_here  # noqa: PLC0415 - the other door

    return run_here(jobs, show, stop)
