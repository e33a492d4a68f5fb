"""The VapourSynth filter: `from vsr.vapoursynth import upscale`.

    source ─ SelectEvery ─ ModifyFrame ─ PropToClip ─ Interleave ─ result
                               │
                          Inference: one thread with the network

VapourSynth pulls frames, so only the engine is used; planes go in and come out as they are, and
colour is converted on the device as for every other door. A group of `batch_size` neighbours is one
frame of the middle node, which asks for all of them at once and holds the results in a property:
batches are full however the frames are asked for. With batches of one the nodes around ModifyFrame
fall away.

Frame properties are kept. `_Matrix`, `_Range` and, with subsampled chroma, `_ChromaLocation` say
what the result is: what the source says, or where it says nothing what was assumed (YUV of 1280×720
and larger is BT.709, smaller is BT.601). An `_Alpha` is enlarged with its picture. RGB networks see
floating-point samples clamped to [0, 1], and RGB comes out so; YUV and gray keep what overshoots
beside a luma network.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import vapoursynth as vs  # type: ignore[import-untyped]  # it has stubs but no py.typed

from vsr.engine.color import Picture
from vsr.errors import NonFiniteError, UnsupportedSourceError, UsageError, VsrError
from vsr.faces.options import FaceOptions
from vsr.jobs import Fetching, load
from vsr.planning import UpscaleJob, target_size
from vsr.types import ColorSpec, Frame
from vsr.vapoursynth._clip import check_clip, output_format, pixel_format, read_frame, write_frame
from vsr.vapoursynth._inference import Inference, Wishes

_RESULTS = "_VsrResults"

type Selector = Callable[[int, vs.VideoFrame | list[vs.VideoFrame]], vs.VideoFrame]


def upscale(
    clip: vs.VideoNode, *,
    scale: float | Fraction | None = None, width: int | None = None, height: int | None = None,
    model: str = "auto", model_path: str | Path | None = None,
    denoise_strength: float | None = None,
    device: str | Sequence[str] = "auto", device_index: int | None = None, precision: str = "auto",
    tile: int | Sequence[int] | None = None, tile_pad: int | None = None,
    batch_size: int | None = None, num_streams: int = 1, tta: bool = False,
    faces: FaceOptions | None = None,
    format: Any = None, offline: bool = False,  # noqa: A002 - VapourSynth's own name for it
) -> vs.VideoNode:  # fmt: skip
    """Upscales a clip; see the module for properties and floating-point samples.

    Args:
        clip: Of one size and format: YUV, gray or RGB, 8 to 16 bit, half or single precision.
        scale: Output pixels per input pixel; any positive number up to 16. The model's own if
            neither this nor a width or height is given.
        width: Of the output instead of `scale`; with one of the two the aspect is kept.
        height: Of the output instead of `scale`.
        model: A name of the catalogue (see `vsr models`), or `auto`.
        model_path: A checkpoint file instead of a name.
        denoise_strength: From 0 to 1, for models with a denoising twin.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; several share the frames by their speed, as
            `"cuda:0,cuda:1"` or a list, and those of one kind give the bytes of one of them.
        device_index: `N`, instead of `device="cuda:N"`.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`, whatever the clip's samples are.
        tile: Side of a tile in input pixels; 0 for the whole picture, None for what fits. Tiles are
            square: of a pair the smaller positive side counts.
        tile_pad: Overlap of tiles instead of the receptive field.
        batch_size: Frames that go through the network together; None for what the device likes.
            With more than one, the first batch is computed while the script is evaluated.
        num_streams: Batches under way at a time on each device; 2 or 3 keep a GPU busy.
        tta: Average over eight symmetries.
        faces: How faces are restored, such as `FaceOptions()`; None leaves them to the network.
        format: Of the result, such as `vs.RGBS`; RGB, or the clip's family in another depth. The
            clip's own format if None.
        offline: Never download a model.

    Returns:
        As many frames as `clip`, at the same rate.

    Raises:
        VsrError: The script cannot work. A frame that cannot, say an interlaced one, fails with
            `vs.Error` when it is asked for.
    """
    clip, path = check_clip(clip), None if model_path is None else Path(model_path)
    _check_counts(num_streams, batch_size)
    size = _size(clip, scale, width, height, model, path)
    chosen = output_format(clip, format, size)
    factor = max(Fraction(size[0], clip.width), Fraction(size[1], clip.height))
    wishes = Wishes(
        device=_device(device, device_index), precision=precision, tile=_tile_side(tile),
        tile_pad=tile_pad, batch=batch_size, tta=tta,
    )  # fmt: skip
    job = UpscaleJob(
        source="", target=Path(), model=model, model_path=path, denoise=denoise_strength,
        faces=faces, offline=offline,
    )  # fmt: skip
    networks = partial(load, job, factor, Fetching())
    ends = _picture(clip.width, clip.height, clip.format), _picture(*size, chosen)
    inference = Inference(networks, *ends, wishes)
    return _graph(clip, inference, size, chosen, num_streams * inference.devices)


def _check_counts(streams: int, batch: int | None) -> None:
    if streams < 1 or (batch is not None and batch < 1):
        msg = f"num_streams and batch_size must be at least 1, got {streams} and {batch}"
        raise UsageError(msg)


def _size(
    clip: vs.VideoNode,
    scale: float | Fraction | None,
    width: int | None,
    height: int | None,
    model: str,
    path: Path | None,
) -> tuple[int, int]:
    sizes = UpscaleJob(
        source="",
        target=Path(),
        scale=scale,
        width=width,
        height=height,
        model=model,
        model_path=path,
    )
    return target_size(sizes, clip.width, clip.height)


def _picture(width: int, height: int, clip_format: vs.VideoFormat) -> Picture:
    fmt = pixel_format(clip_format)
    return Picture(width=width, height=height, format=fmt, color=ColorSpec())


def _device(asked: str | Sequence[str], index: int | None) -> str:
    name = asked if isinstance(asked, str) else ",".join(map(str, asked))
    if index is None:
        return name
    if name not in ("auto", "cuda"):
        msg = f"give either device={name!r} or device_index={index}, not both"
        raise UsageError(msg)
    return f"cuda:{index}"


def _tile_side(tile: int | Sequence[int] | None) -> int | None:
    if tile is None or isinstance(tile, int):
        return tile
    if len(tile) != 2:
        msg = f"a tile is one side or a pair [width, height], got {list(tile)}"
        raise UsageError(msg)
    return min((side for side in tile if side), default=0)


def _graph(
    clip: vs.VideoNode,
    inference: Inference,
    size: tuple[int, int],
    clip_format: vs.VideoFormat,
    streams: int,
) -> vs.VideoNode:
    """Spreads the groups over as many nodes as batches shall be under way: each is serial."""
    std = vs.core.std
    batch = min(inference.batch, clip.num_frames)
    streams = min(streams, -(-clip.num_frames // batch))
    parts = []
    for first in range(0, streams * batch, batch):
        inputs = [clip]
        if streams * batch > 1:
            offsets = range(first, min(first + batch, clip.num_frames))
            inputs = [
                std.SelectEvery(clip, streams * batch, offset, modify_duration=False)
                for offset in offsets
            ]
        blank = std.BlankClip(
            clip, *size, format=clip_format.id, length=inputs[0].num_frames, keep=True
        )
        node = std.ModifyFrame(
            blank, inputs, _selector(clip, inference, clip_format, first, streams * batch)
        )
        if batch > 1:
            std.SetVideoCache(node, mode=1, fixedsize=1, maxsize=2)
            parts += [std.PropToClip(node, _RESULTS, k) for k in range(len(inputs))]
        else:
            parts.append(node)
    if len(parts) == 1:
        return parts[0]
    return std.Interleave(parts, extend=True, modify_duration=False)[: clip.num_frames]


def _selector(
    clip: vs.VideoNode,
    inference: Inference,
    clip_format: vs.VideoFormat,
    first: int,
    cycle: int,
) -> Selector:
    """Makes the function that ModifyFrame calls for a group, one group after the other."""
    total, fps = clip.num_frames, clip.fps

    def select(n: int, f: vs.VideoFrame | list[vs.VideoFrame]) -> vs.VideoFrame:
        start = first + n * cycle
        sources = f if isinstance(f, list) else [f]
        sources = sources[: total - start]  # the last group asks for frames behind the end
        frames = [read_frame(source, start + k, fps) for k, source in enumerate(sources)]
        results = [
            write_frame(result, source, clip_format)
            for source, result in zip(sources, _upscaled(inference, frames), strict=True)
        ]
        return results[0] if not isinstance(f, list) else _bundle(results)

    def one_traceback(n: int, f: vs.VideoFrame | list[vs.VideoFrame]) -> vs.VideoFrame:
        try:
            return select(n, f)
        except VsrError as error:
            raise error.with_traceback(None) from None

    return one_traceback


def _upscaled(inference: Inference, frames: list[Frame]) -> list[Frame]:
    """Upscales neighbours, those with equal tags together."""
    try:
        runs = groupby(frames, key=lambda frame: (frame.color, frame.format.alpha))
        return [result for _, run in runs for result in inference(list(run))]
    except NonFiniteError:
        for frame in frames:
            if not all(np.isfinite(plane).all() for plane in frame.planes):
                msg = f"frame {frame.pts} of the clip holds NaN or infinity: repair it before"
                raise UnsupportedSourceError(msg) from None
        raise


def _bundle(results: list[vs.VideoFrame]) -> vs.VideoFrame:
    """A frame that carries others; its own picture is never seen."""
    carrier = results[0].copy()
    carrier.props[_RESULTS] = results
    return carrier
