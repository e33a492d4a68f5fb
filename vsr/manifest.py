"""The record of a finished job: with what it was made, how, and what came out; as JSON."""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self, override

from vsr.errors import SourceError, SourceNotFoundError, UsageError
from vsr.io.atomic import PartialFile, sink_error
from vsr.io.folder import Stills
from vsr.io.journal import JobFolder
from vsr.planning import UpscaleJob
from vsr.recording import from_plain, plain

_FORMAT: Final = 1
_NO_RECORD: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
_TAG: Final = "VSR_MANIFEST"
_LIBRARIES: Final = ("vsr", "torch", "av", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file as it was.

    Attributes:
        path: Where.
        size: Bytes.
        sha256: Of its content.
    """

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Reads a file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
        return cls(path=str(path.absolute()), size=size, sha256=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is known of a finished job.

    Attributes:
        job: What was asked for.
        inputs: The source, or all its pictures.
        output: The result; None if it is many pictures.
        model: The network, with a digest of its weights.
        decided: What was chosen for what the job left open, by name.
        computed: Engine, precision, tile, batch and workers.
        versions: Of the libraries.
        machine: System and cores.
        frames: Pictures in the result.
        segments: Digests of the encoded segments.
        begun: When, in ISO 8601.
        timing: Seconds, and the share of them that each stage was busy.
        warnings: What was warned of.
    """

    job: UpscaleJob
    inputs: tuple[Content, ...]
    output: Content | None
    model: str
    decided: Mapping[str, str]
    computed: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    frames: int
    segments: tuple[str, ...]
    begun: str
    timing: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Writes the record in one step; an older one is replaced.

        Raises:
            SinkError: It cannot be written.
        """
        told = {entry: getattr(self, entry) for entry in self.__slots__}
        told["job"] = plain(self.job)
        told["inputs"] = [asdict(content) for content in self.inputs]
        told["output"] = None if self.output is None else asdict(self.output)
        text = json.dumps({"format": _FORMAT, **told}, indent=1, default=dict)
        with PartialFile(path, overwrite=True) as file:
            try:
                file.write(f"{text}\n".encode())
            except OSError as error:
                raise sink_error(path, error) from error
            file.commit()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a record.

        Raises:
            SourceNotFoundError: There is no such file.
            UsageError: It is none, or of a later version.
        """
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.pop("format") != _FORMAT:
                raise ValueError
            job = from_plain(told.pop("job"))
            inputs = tuple(Content(**content) for content in told.pop("inputs"))
            output = told.pop("output")
            for name in ("segments", "warnings"):
                told[name] = tuple(told[name])
            return cls(job=job, inputs=inputs, output=Content(**output) if output else None, **told)
        except FileNotFoundError as error:
            msg = f"{path} does not exist; `vsr upscale --manifest FILE.json` writes such a record"
            raise SourceNotFoundError(msg) from error
        except _NO_RECORD as error:
            msg = f"{path} is no record of this version of vsr: give a file that --manifest wrote"
            raise UsageError(msg) from error


def record(
    job: UpscaleJob,
    facts: Mapping[str, str],
    folder: JobFolder | None,
    **more: Any,
) -> Manifest:
    """Describes a job that has just been done.

    Args:
        job: What was asked for.
        facts: From `vsr.resuming.facts_of`.
        folder: Of the job's segments, if it had such.
        **more: Other attributes of `Manifest`.

    Raises:
        SourceError: The source cannot be read again.
    """
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    segments = () if folder is None else folder.journal.segments
    return Manifest(
        job=job,
        inputs=contents(job.source),
        output=Content.of(job.target) if job.target.is_file() else None,
        model=facts["the model"],
        decided={
            name.removeprefix("the "): text for name, text in facts.items() if name != "the model"
        },
        versions={**libraries, "python": platform.python_version()},
        machine={
            "system": f"{platform.system()} {platform.machine()}",
            "cores": str(os.cpu_count()),
        },
        segments=tuple(segment.sha256 for segment in segments),
        **more,
    )


def tags_for(job: UpscaleJob, facts: Mapping[str, str]) -> dict[str, str]:
    """What the output itself says of how it was made, if a record is asked for.

    Only what is the same each time, so that the same job gives the same bytes.

    Args:
        job: What was asked for.
        facts: From `vsr.resuming.facts_of`.
    """
    if job.manifest is None:
        return {}
    return {_TAG: "; ".join(f"{name.removeprefix('the ')}: {facts[name]}" for name in facts)}


def contents(source: Path | str | Stills) -> tuple[Content, ...]:
    """The files of a source as they are; none for an address.

    Raises:
        SourceError: One cannot be read.
    """
    paths = source.paths if isinstance(source, Stills) else (source,)
    try:
        return tuple(Content.of(path) for path in paths if isinstance(path, Path))
    except OSError as error:
        msg = f"{source} cannot be read: {error.strerror or error}"
        raise SourceError(msg) from error


def now() -> str:
    """The time, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Collector(logging.Handler):
    """Keeps the texts of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collects what `vsr` warns of meanwhile."""
    handler = _Collector()
    logger = logging.getLogger("vsr")
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)
