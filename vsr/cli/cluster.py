"""Jobs on a cluster: the option that names it, and how its jobs show themselves."""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from vsr.cli import console, door
from vsr.cli.base import Option
from vsr.cli.progress import Json, Reporter, summary
from vsr.cli.signals import Stop
from vsr.errors import UsageError, VsrError

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


def work_dir_option() -> click.Parameter:
    """`--work-dir`."""
    return Option(
        ["--work-dir"],
        section="Long jobs",
        metavar="PATH|URL",
        help="With --cluster: a folder that all nodes share, or a URL such as s3://BUCKET/PREFIX, "
        "through which segments travel. Default: Ray's object store.",
    )


def run_all(
    jobs: Sequence["UpscaleJob"],
    address: str,
    show: Reporter,
    stop: Stop,
    *,
    work_dir: str | None = None,
) -> int:
    """Runs jobs on a cluster, all at once; one that fails does not stop the others.

    Args:
        jobs: With one device for all.
        address: Of the cluster.
        show: The only job, or all of them as one.
        stop: Asked whether the user wants an end.
        work_dir: Through which segments travel; None for Ray's object store.

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
            if many:
                driver.run_all(shared, crew, report, finished=told.finished, work_dir=work_dir)
            else:
                show.finish(driver.run(shared[0], crew, report, work_dir=work_dir))
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
    work_dir = values["work_dir"]
    if values["cluster"] is not None:
        return run_all(jobs, values["cluster"], show, stop, work_dir=work_dir)
    if work_dir is not None:
        msg = "--work-dir is where a cluster's segments travel: give --cluster, or leave it out"
        raise UsageError(msg)
    from vsr.cli.upscale import run_all as run_here  # noqa: PLC0415 - the other door

    return run_here(jobs, show, stop)
