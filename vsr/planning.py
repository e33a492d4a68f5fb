"""What a job is, and everything that is decided before its first frame is upscaled."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vsr.checkpoints.blending import is_blend
from vsr.errors import UsageError
from vsr.faces.catalog import find_face_checkpoint
from vsr.faces.options import FaceOptions
from vsr.io.av_source import AvSource, SourceOptions, open_source
from vsr.io.color import matrix_name
from vsr.io.folder import Stills, is_pattern, is_picture
from vsr.io.folder_sink import WRITERS, FolderSink
from vsr.io.formats import ffmpeg_name
from vsr.io.image_sink import ImageSink, is_image
from vsr.io.journal import FRAMES, KEEP_AFTER
from vsr.io.open import is_url
from vsr.io.plan import OutputPlan, SinkOptions, plan_output
from vsr.io.stills import FLOAT_WARNING, READERS, PictureSource, StillsSource
from vsr.models.catalog import find
from vsr.types import UNSPECIFIED, ColorSpec, VideoInfo

_log = logging.getLogger(__name__)

PQ, HLG = 16, 18
"""H.273 transfer characteristics of high dynamic range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleJob:
    """What to upscale, how, and where to.

    Attributes:
        source: A file with a video stream, or a still picture; an address as a text, where
            `options.allow_url` says that addresses may be opened; or `Stills`, the pictures of a
            film.
        target: The file to write; its suffix chooses the container. With that of a picture and a
            place for a number, such as `frames/%06d.png`, every frame becomes a file.
        scale: Output pixels per input pixel along each axis; any positive number up to 16. The
            model's own if neither this nor a width or height is given.
        width: Of the output instead of `scale`; with `height` alone the aspect is kept.
        height: Of the output instead of `scale`.
        model: A name of the catalogue, or `auto`.
        model_path: A checkpoint file instead of a name.
        denoise: Strength from 0 to 1, for models with a denoising twin.
        device: `auto`, `cpu`, `cuda` or `cuda:N`, or several that share the frames, as
            `cuda:0,cuda:1`.
        precision: Arithmetic of the network.
        tile: Side of a tile in input pixels; 0 for the whole picture, None for what fits.
        tile_pad: Overlap of tiles instead of the receptive field.
        batch: Frames at a time; None for what the device likes.
        max_memory: Bytes that the network may take, on the device, or of the host for the CPU.
        tta: Average over eight symmetries.
        faces: How faces are restored; None leaves them to the network.
        color: Convert to this matrix instead of keeping the source's.
        options: How to read.
        sink: How to write.
        offline: Never download.
        quality: Of JPEG and WebP pictures, from 1 to 100; 95 if None.
        readers: Pictures decoded side by side, where the source is pictures.
        writers: Pictures encoded side by side, where the target is.
        verify: Compare a video with its source before it gets its name, see `vsr.verification`.
        manifest: Where a record of the finished job is written, see `vsr.manifest`.
        segment: Frames that are encoded into a file of their own, which an interrupted job keeps.
        keep_after: Seconds of work after which an interrupted job keeps what it has finished.
        restart: Forget what an interrupted job of the same target has kept.
    """

    source: Path | str | Stills
    target: Path
    scale: float | Fraction | None = None
    width: int | None = None
    height: int | None = None
    model: str = "auto"
    model_path: Path | None = None
    denoise: float | None = None
    device: str = "auto"
    engine: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = "auto"
    tile: int | None = None
    tile_pad: int | None = None
    batch: int | None = None
    tta: bool = False
    faces: FaceOptions | None = None
    color: Literal["keep", "bt601", "bt709"] = "keep"
    options: SourceOptions = field(default_factory=SourceOptions)
    sink: SinkOptions = field(default_factory=SinkOptions)
    offline: bool = False
    quality: float | None = None
    readers: int = READERS
    writers: int = WRITERS
    profile: Path | None = None
    verify: bool = True
    tune: Literal["auto", "full", "off"] = "auto"
    max_memory: int | None = None
    manifest: Path | None = None
    segment: int = FRAMES
    keep_after: float = KEEP_AFTER
    restart: bool = False


def target_size(job: UpscaleJob, width: int, height: int) -> tuple[int, int]:
    """Size of the output for a source of the given size.

    A scale gives the nearest whole numbers, so a whole scale is exact; one of width and height
    gives the other by the aspect, rounded to even.

    Raises:
        UsageError: Too much or nonsense was asked for.
        ModelError: The size is to be the model's own, and the model cannot be used.
    """
    if job.scale is not None:
        if job.width or job.height:
            msg = "give either a scale or a width and height, not both"
            raise UsageError(msg)
        scale = Fraction(str(job.scale))
        if not 0 < scale <= 16:
            msg = f"the scale must be above 0 and at most 16, got {job.scale}"
            raise UsageError(msg)
        return max(1, round(width * scale)), max(1, round(height * scale))
    if job.width is None and job.height is None:
        own = own_scale(job.model, job.model_path)
        return width * own, height * own
    new_width = job.width or _even(Fraction(width * (job.height or 0), height))
    new_height = job.height or _even(Fraction(height * (job.width or 0), width))
    if min(new_width, new_height) < 1:
        msg = f"the output size must be positive, got {new_width}×{new_height}"
        raise UsageError(msg)
    return new_width, new_height


def own_scale(model: str, path: Path | None = None) -> int:
    """The factor that a model has by itself; of a family's largest member, 4 for interpolations.

    Raises:
        ModelError: No such model, or its checkpoint cannot be used.
    """
    from vsr.engine.loading import DEFAULT_MODEL, find_model, is_interpolation  # noqa: PLC0415

    if path is not None:
        return find_model(path=path).spec.scale
    if is_interpolation(model):
        return 4
    if is_blend(model):
        return find_model(model).spec.scale
    return find(DEFAULT_MODEL if model == "auto" else model).scale


def _even(side: Fraction) -> int:
    return max(2, 2 * round(side / 2))


type Plan = OutputPlan | ImageSink | FolderSink


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything decided before the first frame is upscaled.

    Attributes:
        source: Open; its first frame is decoded.
        color: Of the source, untagged parts filled in.
        plan: Of the output; a sink of pictures is its own plan.
        picture: Of the output, in the source's format.
    """

    source: AvSource | StillsSource
    color: ColorSpec
    plan: Plan
    picture: VideoInfo

    @property
    def info(self) -> VideoInfo:
        """Of the source."""
        return self.source.info

    @property
    def factor(self) -> Fraction:
        """Output over input size, of the axis that grows more."""
        return max(
            Fraction(self.picture.width, self.info.width),
            Fraction(self.picture.height, self.info.height),
        )


def prepare(job: UpscaleJob, stack: ExitStack) -> Prepared:
    """Opens the source and plans the output.

    Args:
        job: What to do.
        stack: Closes the source.

    Raises:
        VsrError: The job cannot work; nothing has been written.
    """
    source = stack.enter_context(closing(_opened(job)))
    prepared = _plan(job, source)
    if prepared.plan.bake_rotation and source.info.rotation:
        source.close()
        baking = replace(job, options=replace(job.options, bake_rotation=True))
        source = stack.enter_context(closing(_opened(baking)))
        prepared = _plan(job, source)
    return prepared


def _opened(job: UpscaleJob) -> AvSource | StillsSource:
    if isinstance(job.source, Stills):
        return StillsSource(job.source, job.options, job.readers)
    if not is_url(job.source) and is_picture(Path(job.source)):
        picture = PictureSource(job.source, job.options)
        if picture.floating:
            _log.warning("%s: %s", job.source, FLOAT_WARNING)
        return picture
    return open_source(job.source, job.options)


def _plan(job: UpscaleJob, source: AvSource | StillsSource) -> Prepared:
    color, picture = output_picture(job, source.info)
    local = job.source if isinstance(job.source, Path) else None
    overwrite = job.sink.overwrite
    plan: Plan
    if is_image(job.target) and is_pattern(str(job.target)):
        plan = FolderSink(
            job.target, picture, overwrite=overwrite, quality=job.quality, writers=job.writers
        )
    elif is_image(job.target):
        plan = ImageSink(
            job.target, picture, source=local, overwrite=overwrite, quality=job.quality
        )
    else:
        sink = replace(job.sink, allow_url=job.options.allow_url)
        file = None if isinstance(job.source, Stills) else job.source
        plan = plan_output(job.target, picture, file, sink, video=source.stream_index)
    return Prepared(source, color, plan, picture)


def output_picture(job: UpscaleJob, info: VideoInfo) -> tuple[ColorSpec, VideoInfo]:
    """The source's colour, untagged parts filled in, and the output in the source's format."""
    width, height = stored_size(job, info)
    color = info.color.resolved(info.width, info.height, info.format.family)
    return color, replace(info, width=width, height=height, color=_output_color(job, info, color))


def stored_size(job: UpscaleJob, info: VideoInfo) -> tuple[int, int]:
    """The target's size before a player turns it; people give sizes as they see them."""
    if info.rotation % 180 == 0:
        return target_size(job, info.width, info.height)
    height, width = target_size(job, info.height, info.width)
    return width, height


def _output_color(job: UpscaleJob, info: VideoInfo, color: ColorSpec) -> ColorSpec:
    """The source's colour as the engine takes it, so that assumptions get written; or as asked."""
    if job.color == "keep":
        return color
    if info.color.transfer in (PQ, HLG):
        msg = f"--color {job.color} would need tone mapping of an HDR source: use --color keep"
        raise UsageError(msg)
    code = {"bt709": 1, "bt601": 6}[job.color]
    return replace(color, matrix=code, primaries=code, transfer=code)


def explain(job: UpscaleJob) -> tuple[tuple[str, str, str], ...]:
    """Says what `run` would do.

    Returns:
        (topic, decision, reason) for people, in the order of the work.

    Raises:
        VsrError: As `run` would before its first frame.
    """
    from vsr.engine.loading import describe_model  # noqa: PLC0415 - torch comes with it

    with ExitStack() as stack:
        prepared = prepare(job, stack)
        info, picture = prepared.info, prepared.picture
        size = f"{info.width}x{info.height} to {picture.width}x{picture.height}"
        network = describe_model(
            job.model,
            job.model_path,
            prepared.factor,
            job.device,
            job.precision,
            lossy=info.lossy,
        )
        faces = _explained_faces(job.faces)
        return (("size", size, ""), *network, *faces, *_explained_output(job, prepared))


def _explained_faces(faces: FaceOptions | None) -> Iterator[tuple[str, str, str]]:
    if faces is None:
        return
    if faces.path is not None:
        yield "faces", faces.path.name, "asked for"
        return
    entry = find_face_checkpoint(faces.model, "restorer")
    yield "faces", entry.name, "downloaded once, then cached"


def _explained_output(job: UpscaleJob, prepared: Prepared) -> Iterator[tuple[str, str, str]]:
    info, plan = prepared.info, prepared.plan
    yield "picture", ffmpeg_name(plan.format), f"the source is {ffmpeg_name(info.format)}"
    tagged = info.color.matrix != UNSPECIFIED or plan.format.family == "rgb"
    why = "as tagged" if tagged else "untagged; assumed by its size, and written"
    yield "matrix", matrix_name(plan.color.matrix), why if job.color == "keep" else "asked for"
    if not isinstance(plan, OutputPlan):
        return
    chosen = "asked for" if job.sink.encoder != "auto" else "the best one here for the container"
    yield "encoder", plan.encoder.id, chosen
    yield "container", plan.container.name, f"from {job.target.suffix or job.sink.container}"
    for stream in plan.streams:
        target = f" to {stream.target}" if stream.target else ""
        yield f"stream {stream.index}", f"{stream.action}{target}", stream.reason or stream.codec
