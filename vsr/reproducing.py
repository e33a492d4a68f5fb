"""Does a recorded job once more, and compares what comes out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vsr import jobs
from vsr.errors import SourceError
from vsr.io.folder import Stills
from vsr.manifest import Content, Manifest, contents
from vsr.planning import UpscaleJob
from vsr.types import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """How a second run compares with the first.

    Attributes:
        same: Whether the outputs are equal, byte by byte.
        frames: Pictures in the new output.
        segment: The first segment that differs, counted from 0; None if none does, or if there are
            none.
        changes: What differs in circumstances: (name, then, now).
        output: The new output, if it was kept.
    """

    same: bool
    frames: int
    segment: int | None
    changes: tuple[tuple[str, str, str], ...]
    output: Path | None


def reproduce(
    record: Path,
    output: Path | None = None,
    *,
    source: Path | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Reproduction:
    """Does a recorded job once more.

    Args:
        record: The manifest.
        output: Where the new result stays; it is made in a temporary folder and removed if None.
        source: Where the input lies now, if it was moved.
        report: As of `vsr.jobs.run`.

    Raises:
        SourceError: The input is not what it was.
        VsrError: As the job itself.
    """
    before = Manifest.load(record)
    job = before.job if source is None else replace(before.job, source=source)
    _check(before, job)
    with TemporaryDirectory(prefix="vsr-") as folder:
        target = output or Path(folder) / before.job.target.name
        told = Path(folder) / "manifest.json"
        again = replace(job, target=target, manifest=told, profile=None, restart=False)
        jobs.run(again, report, alike=before.computed)
        after = Manifest.load(told)
    return Reproduction(
        same=_digest(before.output) == _digest(after.output),
        frames=after.frames,
        segment=_first_difference(before.segments, after.segments),
        changes=tuple(_changes(before, after)),
        output=output,
    )


def _check(before: Manifest, job: UpscaleJob) -> None:
    """The input must be what it was; pictures are told one by one."""
    if isinstance(job.source, str):
        msg = f"{job.source} is an address, so nobody knows whether it is what it was: download it"
        raise SourceError(msg)
    paths = job.source.paths if isinstance(job.source, Stills) else (job.source,)
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        msg = f"the input {missing} is not there any more: name it with --input"
        raise SourceError(msg)
    for then, now in zip(before.inputs, contents(job.source), strict=True):
        if then.sha256 != now.sha256:
            msg = f"{now.path} is not the recorded input: it had {then.size} bytes, now {now.size}"
            same_size = f"{now.path} is not the recorded input: its content has changed"
            raise SourceError(same_size if then.size == now.size else msg)


def _digest(content: Content | None) -> str | None:
    return None if content is None else content.sha256


def _first_difference(before: tuple[str, ...], after: tuple[str, ...]) -> int | None:
    if before == after:
        return None
    pairs = enumerate(zip(before, after, strict=False))
    return next((n for n, (then, now) in pairs if then != now), min(len(before), len(after)))


def _changes(before: Manifest, after: Manifest) -> Iterator[tuple[str, str, str]]:
    if before.model != after.model:
        yield "model", before.model, after.model
    for part in ("decided", "versions", "machine", "computed"):
        then, now = getattr(before, part), getattr(after, part)
        for name in {**then, **now}:
            if then.get(name) != now.get(name):
                yield name, str(then.get(name, "none")), str(now.get(name, "none"))
