"""Many pictures, each to its own file; sizes may differ, and a broken one does not stop the others.

Pictures are decoded side by side, go to the device in groups of one size, and are encoded side by
side. What is finished already stays as it is, so that a stopped job goes on where it was.
"""

import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vsr.errors import SinkError, UsageError, VsrError
from vsr.flow import flow
from vsr.io.atomic import tidy_folder
from vsr.io.chunks import PictureTags
from vsr.io.folder_sink import Once, check_folder, make_folder
from vsr.io.image_sink import write_whole
from vsr.io.picture_encoders import PictureEncoder
from vsr.io.picture_tags import read_tags
from vsr.io.stills import FLOAT_WARNING, read_still
from vsr.io.workers import Workers, ordered
from vsr.jobs import Fetching, load, peak_memory, upscaler_for, warn_about_hdr, write_trace
from vsr.pipeline import never
from vsr.planning import UpscaleJob, output_picture
from vsr.trace import Trace
from vsr.types import ColorSpec, Frame, Progress, Stage, VideoInfo

if TYPE_CHECKING:
    from vsr.engine.loading import Model
    from vsr.engine.stream import FrameUpscaler

_log = logging.getLogger(__name__)

_WINDOW: Final = 8
"""Pictures of other sizes that may wait while those of one size are upscaled."""
_WINDOW_BYTES: Final = 256 << 20
_KEPT: Final = 3
"""Sizes whose networks stay ready on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderJob:
    """Which pictures to upscale, and how.

    Attributes:
        pairs: Source and target of every picture.
        target: Folder that all targets lie in; made if only its last part is missing.
        how: Everything else; its source and target mean nothing.

    Raises:
        UsageError: Two targets are one file, or a target is a source.
    """

    pairs: Sequence[tuple[Path, Path]]
    target: Path
    how: UpscaleJob

    def __post_init__(self) -> None:
        sources = {os.path.realpath(source): source for source, _ in self.pairs}
        seen: dict[str, Path] = {}
        for source, target in self.pairs:
            place = os.path.realpath(target)
            if place in sources:
                msg = f"the output {target} is one of the inputs: use another -o or --suffix"
                raise UsageError(msg)
            if place in seen:
                msg = (
                    f"{seen[place]} and {source} would both become {target}: "
                    "use -f auto, which keeps the suffixes, or rename one"
                )
                raise UsageError(msg)
            seen[place] = source


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderResult:
    """What a finished job did.

    Attributes:
        frames: Pictures written.
        skipped: Pictures that were there already.
        failed: Error of every picture that could not be done, by its source.
        seconds: Wall time.
        target: The folder.
        size: Width and height of the last picture.
        bottleneck: The stage that the others waited for.
        damaged: Always 0: a damaged picture counts as failed.
        peak_host_bytes: Most memory that the process ever held, None where unknown.
        reused: Pictures that were equal to the one before, and were not computed again.
        busy: Share of the time that each stage had work to do.
    """

    frames: int
    skipped: int
    failed: Mapping[Path, VsrError]
    seconds: float
    target: Path
    size: tuple[int, int]
    bottleneck: Stage | None
    damaged: int
    peak_host_bytes: int | None
    reused: int = 0
    busy: Mapping[Stage, float] = field(default_factory=dict)


def run(
    job: FolderJob,
    report: Callable[[Progress], None] = lambda _: None,
    fetching: Fetching | None = None,
) -> FolderResult:
    """Upscales pictures.

    Args:
        job: What to do.
        report: Called from this thread, at most ten times a second and once at the end.
        fetching: Who watches over a download, if the model needs one.

    Returns:
        What was done; pictures that failed are named there.

    Raises:
        VsrError: The whole job cannot go on: the device or the model fails, the disk is full, or
            the user stopped it. Pictures finished so far stay.
    """
    began = time.perf_counter()
    check_folder(job.target)
    overwrite = job.how.sink.overwrite
    todo = [pair for pair in job.pairs if overwrite or not os.path.lexists(pair[1])]
    work = _Work(job, todo)
    stage: Stage | None = None
    reused, busy = 0, dict[Stage, float]()
    for folder in {target.parent for _, target in todo}:
        tidy_folder(folder)
    if todo:
        sink = _Saver(work)
        try:
            upscaler = _BySize(work, fetching or Fetching())
            told = partial(_tell, report, work)
            flown = flow(
                work.frames(), upscaler, sink, (0, 0), len(todo), told, trace=upscaler.trace
            )
            stage, busy, reused = flown.bottleneck, dict(flown.busy), upscaler.reused
            write_trace(upscaler.trace, job.how)
            sink.finish()
        finally:
            sink.abort()
    seconds = time.perf_counter() - began
    report(
        Progress(
            frames=work.written, total=len(todo), seconds=seconds, size=work.size, bottleneck=stage
        )
    )
    return FolderResult(
        frames=work.written,
        skipped=len(job.pairs) - len(todo),
        failed=work.failed,
        seconds=seconds,
        target=job.target,
        size=work.size,
        bottleneck=stage,
        damaged=0,
        reused=reused,
        busy=busy,
        peak_host_bytes=peak_memory(),
    )


def _tell(report: Callable[[Progress], None], work: "_Work", progress: Progress) -> None:
    report(replace(progress, size=work.size))


@lru_cache(maxsize=16)
def _encoder(suffix: str, picture: VideoInfo, quality: float | None) -> PictureEncoder:
    return PictureEncoder(suffix, picture, quality)


@dataclass(frozen=True, slots=True)
class _Picture:
    """What is known of a picture on its way."""

    target: Path
    info: VideoInfo
    color: ColorSpec
    output: VideoInfo
    encoder: PictureEncoder
    tags: PictureTags

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for pictures that can share a network on the device."""
        return (
            (self.info.width, self.info.height, self.info.format, self.color),
            (self.output.width, self.output.height, self.encoder.format, self.encoder.color),
        )


@dataclass(slots=True)
class _Work:
    """What the stages of a job share; a frame's time is the number of its picture."""

    job: FolderJob
    todo: Sequence[tuple[Path, Path]]
    pictures: dict[int, _Picture] = field(default_factory=dict)
    failed: dict[Path, VsrError] = field(default_factory=dict)
    written: int = 0
    size: tuple[int, int] = (0, 0)
    warn: Once = field(default_factory=Once)

    def frames(self) -> Iterator[Frame]:
        """Decodes; a picture that cannot be read is noted and left out."""
        read = ordered(self._read, range(len(self.todo)), self.job.how.readers, "vsr-read")
        for frame in read:
            if frame is not None:
                yield frame

    def _read(self, number: int) -> Frame | None:
        source, target = self.todo[number]
        how = self.job.how
        try:
            still = read_still(source, how.options)
            color, output = output_picture(how, still.info)
            encoder = _encoder(target.suffix, output, how.quality)
            tags = read_tags(source)
        except VsrError as error:
            self.failed[source] = error
            return None
        for loss in (*encoder.losses, *([FLOAT_WARNING] if still.floating else [])):
            self.warn(loss)
        self.pictures[number] = _Picture(target, still.info, color, output, encoder, tags)
        return replace(still.frame, pts=number, time_base=Fraction(1))

    def of(self, frame: Frame) -> _Picture:
        """The picture that a frame belongs to."""
        return self.pictures[frame.pts]


class _BySize:
    """Sends each group of pictures of one kind through a network made for it."""

    def __init__(self, work: _Work, fetching: Fetching) -> None:
        self._work, self._fetching = work, fetching
        self._upscalers: OrderedDict[tuple[object, ...], FrameUpscaler] = OrderedDict()
        self._models: dict[Fraction, Model] = {}
        self.trace = Trace() if work.job.how.profile else None
        self.reused = 0

    def __call__(
        self, frames: Iterable[Frame], idle: Callable[[], bool] = never
    ) -> Iterator[Frame]:
        upstream = iter(frames)
        waiting: deque[Frame] = deque()
        while True:
            if not waiting:
                first = next(upstream, None)
                if first is None:
                    return
                waiting.append(first)
            picture = self._work.of(waiting[0])
            alike = self._alike(picture.kind, waiting, upstream)
            upscaler = self._upscaler(picture)
            before = upscaler.reused
            yield from upscaler(alike, idle)
            self.reused += upscaler.reused - before

    def _alike(
        self, kind: tuple[object, ...], waiting: deque[Frame], upstream: Iterator[Frame]
    ) -> Iterator[Frame]:
        """Pictures of one kind, until too many others wait."""
        for _ in range(len(waiting)):
            frame = waiting.popleft()
            if self._work.of(frame).kind == kind:
                yield frame
            else:
                waiting.append(frame)
        while len(waiting) < _WINDOW and sum(map(_bytes, waiting)) < _WINDOW_BYTES:
            following = next(upstream, None)
            if following is None:
                return
            if self._work.of(following).kind == kind:
                yield following
            else:
                waiting.append(following)

    def _upscaler(self, picture: _Picture) -> "FrameUpscaler":
        kind = picture.kind
        if kind not in self._upscalers:
            while len(self._upscalers) >= _KEPT:
                self._upscalers.popitem(last=False)
            info, output, encoder = picture.info, picture.output, picture.encoder
            factor = max(Fraction(output.width, info.width), Fraction(output.height, info.height))
            model = self._model(factor)
            warn_about_hdr(info, model)
            self._upscalers[kind] = upscaler_for(
                self._work.job.how,
                model,
                (info, picture.color),
                (output, encoder.format, encoder.color),
                frames=len(self._work.job.pairs),
            )
            self._upscalers[kind].trace = self.trace
        self._upscalers.move_to_end(kind)
        return self._upscalers[kind]

    def _model(self, factor: Fraction) -> "Model":
        if factor not in self._models:
            known = next((model.faces for model in self._models.values()), None)
            if len(self._models) >= _KEPT:
                self._models.clear()
            self._models[factor] = load(self._work.job.how, factor, self._fetching, known)
        return self._models[factor]


def _bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in frame.planes)


class _Saver:
    """A `FrameSink` that encodes and writes pictures side by side, each under its own name."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._workers = Workers[bool](work.job.how.writers, "vsr-write")

    def write(self, frame: Frame) -> None:
        """Hands one picture to the encoders; waits while they have enough."""
        while self._workers.full(_bytes(frame)):
            self._take()
        self._work.size = (frame.width, frame.height)
        self._workers.submit(partial(self._save, frame), _bytes(frame))

    def _take(self) -> None:
        self._work.written += self._workers.take()

    def _save(self, frame: Frame) -> bool:
        work = self._work
        picture = work.pictures.pop(frame.pts)
        folder = picture.target.parent
        try:
            data = picture.encoder.encode(frame, picture.tags, work.warn)
            if not folder.is_dir():
                make_folder(folder, work.job.target)
            write_whole(picture.target, data, overwrite=work.job.how.sink.overwrite, tidy=False)
        except VsrError as error:
            if isinstance(error, SinkError) and isinstance(error.__cause__, OSError):
                raise  # the disk is full or gone: the next picture would fare no better
            work.failed[work.todo[frame.pts][0]] = error
            return False
        return True

    def finish(self) -> None:
        """Waits until every picture is written."""
        while len(self._workers):
            self._take()

    def abort(self) -> None:
        """Waits for the pictures that are being written; each is complete or absent."""
        self._workers.close()
