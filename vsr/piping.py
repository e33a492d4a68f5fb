"""A video in at one pipe, upscaled, out at another or into a file: y4m, raw video, NUT, Matroska.

Memory is bounded by a few frames, and no frame waits for a later one. Nothing can be undone in a
pipe, so everything that can fail early does so before the header of the output leaves.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from vsr.errors import SourceError, UnsupportedSourceError, UsageError, VsrError
from vsr.flow import flow
from vsr.io.atomic import sink_error
from vsr.io.av_sink import AvSink
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
from vsr.io.plan import plan_output
from vsr.io.rawvideo import RawSource, RawSpec
from vsr.io.stream_formats import PipeFormat, PipeSource, format_for, sink_for, warn_of_losses
from vsr.io.stream_source import MAGICS, StreamSource
from vsr.io.y4m import MAGIC, Y4mSource
from vsr.jobs import (
    Fetching,
    JobResult,
    job_result,
    load,
    upscaler_for,
    warn_about_hdr,
    write_trace,
)
from vsr.planning import UpscaleJob, output_picture
from vsr.trace import Trace
from vsr.types import ColorSpec, Frame, PixelFormat, Progress, VideoInfo

if TYPE_CHECKING:
    from vsr.engine.stream import FrameUpscaler

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeJob:
    """What to upscale between two pipes.

    Attributes:
        upscale: What to do. Its source and target are `-` for the standard streams, a descriptor
            such as `/dev/fd/3`, a FIFO or a file.
        encode: Whether to encode into a file as `upscale` says; otherwise what leaves is lossless.
        format: Of what leaves without loss; by the suffix of the target or as the input's if None.
        raw: What the input's bytes stand for, if they are raw video.
        matrix: H.273 matrix coefficients of the input, whatever it says; y4m, NUT and raw video
            have no word for it.
        full_range: Whether its samples are full range, likewise.
    """

    upscale: UpscaleJob
    encode: bool = False
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
        color, picture = _picture(job, info)
        planned = _planned(job, source, picture, output)
        upscaler = _upscaler(work, (info, color), planned, fetching or Fetching())
        size = (picture.width, picture.height)
        frames = _UpToError(replace(frame, color=job.told(frame.color)) for frame in source)
        try:
            sink = planned.begin(stack)
            stack.callback(sink.abort)
            ahead = max(4, 2 * upscaler.settings.batch)
            trace = Trace() if work.profile else None
            upscaler.trace = trace
            flown = flow(
                frames, upscaler, sink, size, None, report,
                ahead=ahead, release=release, trace=trace,
            )  # fmt: skip
            write_trace(trace, work)
            kept = output is not None or is_stream(str(work.target))
            _conclude(frames, sink, flown.frames, kept=kept)
        except OSError as error:
            if isinstance(error, VsrError | BrokenPipeError):
                raise
            raise sink_error(work.target, error) from error
        damaged = source.damage.frames if isinstance(source, StreamSource | AvSource) else 0
        done = job_result(work, flown, upscaler, size, began, damaged)
        report(done.progress)
        return done


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """What leaves.

    Attributes:
        picture: Its size, and the source's format.
        format: Of the planes that the sink takes.
        color: What they mean.
        begin: Begins the output, which the stack ends if nothing else does.
    """

    picture: VideoInfo
    format: PixelFormat
    color: ColorSpec
    begin: Callable[[ExitStack], FrameSink]


def _planned(
    job: PipeJob, source: PipeSource, picture: VideoInfo, output: ByteSink | None
) -> _Planned:
    """Finds out whether the output can be written, before anything of it is."""
    work = job.upscale
    if job.encode:
        plan = plan_output(work.target, picture, None, work.sink)
        warn_of_losses(plan.container.name, source, keeps_rotation=True)
        return _Planned(
            picture=picture,
            format=plan.format,
            color=plan.color,
            begin=lambda _: AvSink(plan, picture, None),
        )
    made = sink_for(format_for(work.target, job.format, source), source, picture, job.raw)

    def begin(stack: ExitStack) -> FrameSink:
        opened = output or open_writer(
            str(work.target), overwrite=work.sink.overwrite, source=str(work.source)
        )
        stack.callback(opened.discard)
        return made(opened)

    return _Planned(picture=picture, format=picture.format, color=picture.color, begin=begin)


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


def _picture(job: PipeJob, info: VideoInfo) -> tuple[ColorSpec, VideoInfo]:
    """The input's colour, untagged parts filled in, and what comes out, in the input's format."""
    if job.upscale.color != "keep" and not job.encode:
        msg = f"--color {job.upscale.color} does not work in a pipe: let ffmpeg convert behind it"
        raise UsageError(msg)
    color, picture = output_picture(job.upscale, info)
    return color, replace(picture, frame_count=None)


def _upscaler(
    work: UpscaleJob, source: tuple[VideoInfo, ColorSpec], planned: _Planned, fetching: Fetching
) -> "FrameUpscaler":
    info, picture = source[0], planned.picture
    factor = max(Fraction(picture.width, info.width), Fraction(picture.height, info.height))
    model = load(work, factor, fetching, lossy=info.lossy)
    warn_about_hdr(info, model)
    target = (picture, planned.format, planned.color)
    return upscaler_for(work, model, source, target, frames=None)
