"""What a Python program needs: files, frames and tensors."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vsr.engine.assembly import Wishes, frame_upscaler
from vsr.engine.color import Picture
from vsr.engine.faces import find_faces
from vsr.engine.loading import find_model
from vsr.faces.options import FaceOptions
from vsr.io.av_source import open_source
from vsr.io.base import FrameSource
from vsr.jobs import JobResult, run
from vsr.pipeline import Prefetch
from vsr.planning import UpscaleJob, target_size
from vsr.types import Frame, PixelFormat, Progress


def upscale(
    source: str | Path,
    target: str | Path,
    *,
    report: Callable[[Progress], None] = lambda _: None,
    **settings: Any,
) -> JobResult:
    """Upscales a file; every other stream and every time stamp stays as it was.

    Args:
        source: A file with a video stream, or a still picture.
        target: The file to write; its suffix chooses the container.
        report: Called now and then with the progress.
        **settings: The fields of `UpscaleJob`, such as `scale=2` (the model's own by default),
            `model`, `device`, or `sink=SinkOptions(crf=16)`.

    Returns:
        What was done.

    Raises:
        VsrError: See `vsr.errors`; nothing half-written is left under the target's name.
        TypeError: A setting that `UpscaleJob` does not have.
    """
    return run(UpscaleJob(source=Path(source), target=Path(target), **settings), report)


def upscale_frames(
    source: str | Path | FrameSource,
    *,
    scale: float | Fraction = 2,
    model: str = "auto",
    model_path: Path | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = "auto",
    tile: int | None = None,
    batch: int | None = None,
    faces: FaceOptions | None = None,
    format: PixelFormat | None = None,  # noqa: A002
) -> Iterator[Frame]:
    """Upscales frame by frame, without writing a file.

    Args:
        source: A file, or an open source, which stays open.
        scale: Output pixels per input pixel.
        model: A name of the catalogue.
        model_path: A checkpoint file instead.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: Arithmetic of the network.
        tile: Side of a tile in input pixels; 0 for the whole picture, None for what fits.
        batch: Frames at a time; None for what the device likes.
        faces: How faces are restored; None leaves them to the network.
        format: Of the frames to yield; the source's if None.

    Yields:
        Upscaled frames with the source's times and side data.

    Raises:
        VsrError: See `vsr.errors`.
    """
    with ExitStack() as stack:
        if isinstance(source, str | Path):
            source = stack.enter_context(closing(open_source(source)))
        info = source.info
        job = UpscaleJob(source=Path(), target=Path(), scale=scale)
        width, height = target_size(job, info.width, info.height)
        color = info.color.resolved(info.width, info.height, info.format.family)
        factor = Fraction(width, info.width)
        found = find_model(model, path=model_path, factor=factor, lossy=info.lossy)
        found = found if faces is None else replace(found, faces=find_faces(faces))
        upscaler = frame_upscaler(
            found,
            Picture(width=info.width, height=info.height, format=info.format, color=color),
            Picture(width=width, height=height, format=format or info.format, color=color),
            Wishes(device=device, precision=precision, tile=tile, batch=batch),
            rotation=info.rotation,
        )
        yield from upscaler(stack.enter_context(Prefetch(source, items=8)))


def to_rgb(frame: Frame) -> NDArray[np.uint8]:
    """Converts a frame to 8-bit RGB with its own matrix, range and chroma siting.

    Args:
        frame: Any format; alpha is left out.

    Returns:
        uint8 of shape (H, W, 3).
    """
    from vsr.engine.convert import frame_to_rgb  # noqa: PLC0415

    return frame_to_rgb(frame)
