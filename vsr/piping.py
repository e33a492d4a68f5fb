"""A video in at one pipe, upscaled, out at another: y4m, raw video, NUT, Matroska.

Memory is bounded by a few frames, and no frame waits for a later one. Nothing can be undone in a
pipe, so everything that can fail early does so before the header of the output leaves.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

from vsr.errors import SourceError, UnsupportedSourceError, UsageError, VsrError
from vsr.flow import flow
from vsr.io.atomic import PartialFile, sink_error
from vsr.io.av_source import AvSource, open_source
from vsr.io.base import FrameSink
from vsr.io.ends import (
    ByteReader,
    ByteSink,
    ByteWriter,
    descriptor_of,
    is_stream,
    open_reader,
    open_writer,
    stdout_for_data,
)
from vsr.io.formats import ffmpeg_name
from vsr.io.rawvideo import RawSink, RawSource, RawSpec
from vsr.io.stream_sink import StreamSink
from vsr.io.stream_source import MAGICS, StreamSource
from vsr.io.y4m import MAGIC, Y4mSink, Y4mSource, header_for
from vsr.jobs import (
    Fetching,
    JobResult,
    load,
    peak_memory,
    upscaler_for,
    warn_about_hdr,
    write_trace,
)
from vsr.planning import UpscaleJob, stored_size
from vsr.trace import Trace
from vsr.types import ColorSpec, Frame, Progress, VideoInfo

if TYPE_CHECKING:
    from vsr.engine.stream import FrameUpscaler

_log = logging.getLogger(__name__)

type PipeFormat = Literal["y4m", "nut", "matroska", "rawvideo"]
type PipeSource = Y4mSource | RawSource | StreamSource | AvSource

FORMATS: Final[tuple[PipeFormat, ...]] = get_args(PipeFormat.__value__)
_SUFFIXES: Final[dict[str, PipeFormat]] = {
    ".y4m": "y4m",
    ".nut": "nut",
    ".mkv": "matroska",
    ".yuv": "rawvideo",
    ".raw": "rawvideo",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeJob:
    """What to upscale between two pipes.

    Attributes:
        upscale: What to do. Its source and target are `-` for the standard streams, a descriptor
            such as `/dev/fd/3`, a FIFO or a file; how to encode does not apply, since what leaves
            is lossless.
        format: Of the output; by the suffix of the target or as the input's if None.
        raw: What the input's bytes stand for, if they are raw video.
        matrix: H.273 matrix coefficients of the input, whatever it says; y4m, NUT and raw video
            have no word for it.
        full_range: Whether its samples are full range, likewise.
    """

    upscale: UpscaleJob
    format: PipeFormat | None = None
    raw: RawSpec | None = None
    matrix: int | None = None
    full_range: bool | None = None

    def told(self, color: ColorSpec) -> ColorSpec:
        """Corrects the tags of the input."""
        matrix = color.matrix if self.matrix is None else self.matrix
        full = color.full_range if self.full_range is None else self.full_range
        return replace(color, matrix=matrix, full_range=full)


def run(
    job: PipeJob,
    report: Callable[[Progress], None] = lambda _: None,
    fetching: Fetching | None = None,
) -> JobResult:
    """Upscales from pipe to pipe; while standard output is one, prints go to standard error.

    Args:
        job: What to do.
        report: Called from this thread, at most ten times a second and once at the end.
        fetching: Who watches over a download, if the model needs one.

    Returns:
        What was done.

    Raises:
        VsrError: A damaged input is one after the frames before the damage have been written.
        BrokenPipeError: Nobody reads the output any more.
    """
    work, began = job.upscale, time.perf_counter()
    with ExitStack() as stack:
        output = _early_output(job, stack)
        source, release = _opened(job, output, stack)
        info = replace(source.info, color=job.told(source.info.color))
        picture = _picture(work, info)
        begin = _sink_for(job, source, picture)
        upscaler = _upscaler(work, info, picture, fetching or Fetching())
        output = output or open_writer(
            str(work.target), overwrite=work.sink.overwrite, source=str(work.source)
        )
        stack.callback(output.discard)
        size = (picture.width, picture.height)
        frames = _UpToError(replace(frame, color=job.told(frame.color)) for frame in source)
        try:
            sink = begin(output)
            stack.callback(sink.abort)
            ahead = max(4, 2 * upscaler.settings.batch)
            trace = Trace() if work.profile else None
            upscaler.trace = trace
            flown = flow(
                frames, upscaler, sink, size, None, report,
                ahead=ahead, release=release, trace=trace,
            )  # fmt: skip
            written, stage = flown.frames, flown.bottleneck
            write_trace(trace, work)
            _conclude(frames, sink, written, kept=not isinstance(output, PartialFile))
        except OSError as error:
            if isinstance(error, VsrError | BrokenPipeError):
                raise
            raise sink_error(work.target, error) from error
        seconds = time.perf_counter() - began
        report(
            Progress(frames=written, total=written, seconds=seconds, size=size, bottleneck=stage)
        )
        return JobResult(
            frames=written,
            seconds=seconds,
            target=work.target,
            size=size,
            bottleneck=stage,
            damaged=source.damage.frames if isinstance(source, StreamSource | AvSource) else 0,
            peak_host_bytes=peak_memory(),
            precision=upscaler.settings.precision,
            device=str(upscaler.device),
            reused=upscaler.reused,
            busy=flown.busy,
        )


class _UpToError:
    """The frames of a source up to its first error, which is kept: what came before it counts."""

    def __init__(self, source: Iterable[Frame]) -> None:
        self._source = source
        self.error: SourceError | None = None

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._source
        except SourceError as error:
            self.error = error


def _conclude(frames: _UpToError, sink: FrameSink, written: int, *, kept: bool) -> None:
    """Ends the output, and then tells what was wrong with the input.

    Args:
        frames: Of the source, at their end.
        sink: Of the output.
        written: Frames in it.
        kept: Whether an incomplete output is worth ending well, as one that has been sent is.
    """
    error = frames.error
    if error is None and not written:
        error = UnsupportedSourceError("the input has a header and no frame: nothing was upscaled")
    if error is None or kept:
        sink.finish()
    if error is not None:
        raise error


def _early_output(job: PipeJob, stack: ExitStack) -> ByteSink | None:
    """Takes standard output before anything can print to it; None if the output is a path."""
    number = descriptor_of(str(job.upscale.target), 1)
    if number is None:
        return None
    output = open_writer(str(job.upscale.target))
    stack.callback(output.discard)
    if number == 1:
        stack.enter_context(stdout_for_data())
    return output


def _opened(
    job: PipeJob, output: ByteSink | None, stack: ExitStack
) -> tuple[PipeSource, Callable[[], None]]:
    """Opens the source, and tells how to free a thread that waits for it."""
    work, options = job.upscale, job.upscale.options
    reader = stack.enter_context(open_reader(str(work.source)))
    if isinstance(output, ByteWriter):
        reader.listen(output)
    source: PipeSource
    begins = b"" if job.raw is not None else _beginning(reader)
    if job.raw is not None:
        source = RawSource(
            reader,
            job.raw,
            deinterlace=options.deinterlace == "on",
            max_pixels=options.max_pixels,
        )
    elif begins == MAGIC:
        source = Y4mSource(reader, deinterlace=options.deinterlace, max_pixels=options.max_pixels)
    elif begins in MAGICS:
        source = StreamSource(
            reader,
            MAGICS[begins],
            deinterlace=options.deinterlace,
            strict=options.strict,
            max_pixels=options.max_pixels,
        )
    elif not is_stream(str(work.source)):
        source = open_source(str(work.source), options)
        _log.info("%s is read as a file; its sound does not go into a pipe", work.source)
    else:
        raise _unknown(reader, begins)
    stack.callback(source.close)
    return source, reader.release


def _beginning(reader: ByteReader) -> bytes:
    """The magic bytes that a stream begins with, or what it begins with instead.

    No more is waited for than a decision needs: a short header may be all that comes for now.
    """
    known = (MAGIC, *MAGICS)
    begins = b""
    for magic in sorted(known, key=len):
        begins = reader.peek(len(magic))
        if begins == magic or not any(other.startswith(begins) for other in known):
            break
    return begins


def _unknown(reader: ByteReader, begins: bytes) -> UnsupportedSourceError:
    if not begins:
        return UnsupportedSourceError(
            f"{reader.name} is empty: the program before it sent nothing, see what it says"
        )
    return UnsupportedSourceError(
        f"{reader.name} begins with {begins[:10]!r} and is neither y4m, NUT nor Matroska: use "
        "`ffmpeg … -f yuv4mpegpipe -`, or say with --raw what it is"
    )


def _picture(work: UpscaleJob, info: VideoInfo) -> VideoInfo:
    """What comes out, in the source's format and colour, untagged parts filled in."""
    if work.color != "keep":
        msg = f"--color {work.color} does not work in a pipe: let ffmpeg convert behind it"
        raise UsageError(msg)
    width, height = stored_size(work, info)
    color = info.color.resolved(info.width, info.height, info.format.family)
    return replace(info, width=width, height=height, color=color, frame_count=None)


def _format(job: PipeJob, source: PipeSource) -> PipeFormat:
    """The output's format: as asked, by its suffix, or as the input's."""
    if job.format is not None:
        return job.format
    by_suffix = _SUFFIXES.get(job.upscale.target.suffix.lower())
    if by_suffix is not None:
        return by_suffix
    if isinstance(source, StreamSource):
        return "nut" if source.container.format.name == "nut" else "matroska"
    return "rawvideo" if isinstance(source, RawSource) else "y4m"


def _sink_for(
    job: PipeJob, source: PipeSource, picture: VideoInfo
) -> Callable[[ByteSink], FrameSink]:
    """Finds out whether the output can be written, and gives the function that begins it."""
    name = _format(job, source)
    if name in ("nut", "matroska"):
        streams = source if isinstance(source, StreamSource) else None
        return partial(StreamSink, format=name, picture=picture, source=streams)
    _warn_of_losses(name, source)
    if name == "y4m":
        line = (
            source.header.answer(picture.width, picture.height, progressive=source.filtered)
            if isinstance(source, Y4mSource)
            else header_for(picture).line()
        )
        return partial(Y4mSink, line=line, rate=picture.frame_rate)
    spec = (
        replace(job.raw, width=picture.width, height=picture.height)
        if job.raw is not None
        else RawSpec(
            width=picture.width,
            height=picture.height,
            pix_fmt=ffmpeg_name(picture.format),
            rate=picture.frame_rate or Fraction(25),
        )
    )
    return partial(RawSink, spec=spec)


def _warn_of_losses(name: PipeFormat, source: PipeSource) -> None:
    if isinstance(source, StreamSource):
        others = [s for s in source.container.streams if s.index != source.video.index]
        if others:
            listed = ", ".join(f"#{stream.index} ({stream.type})" for stream in others)
            _log.warning("%s holds a picture only: left out is %s; -f nut keeps it", name, listed)
    if source.info.rotation:
        _log.warning("%s cannot say that the picture is to be turned: turn it afterwards", name)


def _upscaler(
    work: UpscaleJob, info: VideoInfo, picture: VideoInfo, fetching: Fetching
) -> "FrameUpscaler":
    factor = max(Fraction(picture.width, info.width), Fraction(picture.height, info.height))
    model = load(work, factor, fetching)
    warn_about_hdr(info, model)
    color = picture.color
    return upscaler_for(work, model, (info, color), (picture, picture.format, color), stream=True)
