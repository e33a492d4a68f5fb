"""Clips, frames and their properties between VapourSynth and `vsr.types`.

Property names and values: VapourSynth R81, doc/apireference.rst, "Reserved frame properties".
"""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import numpy as np
import vapoursynth as vs  # type: ignore[import-untyped]  # it has stubs but no py.typed

from vsr.errors import UnsupportedSourceError, UsageError
from vsr.types import UNSPECIFIED, ColorSpec, Family, Frame, PixelFormat, Plane

_FAMILIES: Final[Mapping[int, Family]] = {vs.YUV: "yuv", vs.GRAY: "gray", vs.RGB: "rgb"}
_ORDER: Final[Mapping[Family, tuple[int, ...]]] = {
    "yuv": (0, 1, 2),
    "gray": (0,),
    "rgb": (1, 2, 0),  # ours is G, B, R; the inverse is (2, 0, 1)
}
_ALPHA: Final = "_Alpha"


def pixel_format(clip_format: vs.VideoFormat) -> PixelFormat:
    """Translates a format.

    Raises:
        UnsupportedSourceError: Integers of more than 16 bits.
    """
    floating, bits = clip_format.sample_type == vs.FLOAT, clip_format.bits_per_sample
    if clip_format.color_family not in _FAMILIES or not (floating or 8 <= bits <= 16):
        msg = (
            f"the clip's format {clip_format.name} cannot be upscaled: use 8 to 16 bit integers, "
            "half or single precision (resize.Bicubic converts)"
        )
        raise UnsupportedSourceError(msg)
    return PixelFormat(
        family=_FAMILIES[clip_format.color_family],
        bits=bits,
        chroma_w=clip_format.subsampling_w,
        chroma_h=clip_format.subsampling_h,
        floating=floating,
    )


def check_clip(clip: object) -> vs.VideoNode:
    """Makes sure that it is a clip of one size and format.

    Raises:
        UsageError: Not a video clip.
        UnsupportedSourceError: Size or format change within the clip.
    """
    if not isinstance(clip, vs.VideoNode):
        msg = f"expected a VapourSynth video clip, got {type(clip).__name__}"
        raise UsageError(msg)
    if not clip.width or not clip.height or clip.format.color_family == vs.UNDEFINED:
        msg = (
            "the clip's size or format changes from frame to frame: bring it to one size and "
            "format first, with resize.Bicubic(width=…, height=…, format=…)"
        )
        raise UnsupportedSourceError(msg)
    return clip


def output_format(clip: vs.VideoNode, wanted: Any, size: tuple[int, int]) -> vs.VideoFormat:
    """The format of the result: the clip's own, or what was asked for.

    Args:
        clip: The source.
        wanted: None, or a format, its number or preset: RGB, or the clip's family in another depth
            or subsampling.
        size: Width and height of the result.

    Raises:
        UsageError: Another family, or a size that the chroma subsampling does not divide.
        UnsupportedSourceError: More than 16 bits in integers.
    """
    chosen = clip.format
    if wanted is not None:
        chosen = wanted if isinstance(wanted, vs.VideoFormat) else vs.core.get_video_format(wanted)
        pixel_format(chosen)
        if chosen.color_family not in (vs.RGB, clip.format.color_family):
            msg = (
                f"format must be an RGB format or of the clip's own family "
                f"{clip.format.color_family.name}, got {chosen.name}"
            )
            raise UsageError(msg)
    steps = 1 << chosen.subsampling_w, 1 << chosen.subsampling_h
    if size[0] % steps[0] or size[1] % steps[1]:
        msg = (
            f"{size[0]}×{size[1]} does not divide by the {steps[0]}×{steps[1]} chroma blocks of "
            f"{chosen.name}: choose another size, or a 4:4:4 or RGB format"
        )
        raise UsageError(msg)
    return chosen


def color_of(props: Mapping[str, Any]) -> ColorSpec:
    """Reads the colour properties; absent ones are unspecified."""
    span, location = props.get("_Range"), props.get("_ChromaLocation")
    return ColorSpec(
        matrix=int(props.get("_Matrix", UNSPECIFIED)),
        primaries=int(props.get("_Primaries", UNSPECIFIED)),
        transfer=int(props.get("_Transfer", UNSPECIFIED)),
        full_range=None if span is None else int(span) == 1,
        siting=0 if location is None else int(location) + 1,
    )


def read_frame(frame: vs.VideoFrame, number: int, fps: Fraction) -> Frame:
    """Wraps a frame without copying it.

    Args:
        frame: Stays referenced by the planes.
        number: In the clip, becomes the time.
        fps: Of the clip, 0 if variable.

    Raises:
        UnsupportedSourceError: The frame is interlaced, or its alpha does not match.
    """
    props, fmt = frame.props, pixel_format(frame.format)
    if props.get("_FieldBased", 0):
        msg = (
            f"frame {number} is interlaced (_FieldBased={int(props['_FieldBased'])}): deinterlace "
            "first, or clear a wrong flag with std.SetFieldBased(clip, 0)"
        )
        raise UnsupportedSourceError(msg)
    planes = [np.asarray(frame[p]) for p in _ORDER[fmt.family]]
    if _ALPHA in props:
        alpha = props[_ALPHA]
        planes.append(_alpha_plane(alpha, frame, number))
        fmt = replace(fmt, alpha=True)
    return Frame(
        planes=tuple(planes),
        format=fmt,
        color=color_of(props),
        pts=number,
        time_base=1 / fps if fps else Fraction(1),
    )


def _alpha_plane(alpha: Any, frame: vs.VideoFrame, number: int) -> Plane:
    same = (
        isinstance(alpha, vs.VideoFrame)
        and (alpha.width, alpha.height) == (frame.width, frame.height)
        and alpha.format.sample_type == frame.format.sample_type
        and alpha.format.bits_per_sample == frame.format.bits_per_sample
    )
    if not same:
        msg = (
            f"the _Alpha of frame {number} has another size or depth than its picture: convert it, "
            "or drop it with std.RemoveFrameProps(clip, '_Alpha')"
        )
        raise UnsupportedSourceError(msg)
    plane: Plane = np.asarray(alpha[0])
    return plane


def write_frame(result: Frame, source: vs.VideoFrame, clip_format: vs.VideoFormat) -> vs.VideoFrame:
    """Makes a VapourSynth frame of a result, with the properties of its source.

    Args:
        result: Its colour is complete, and gets written.
        source: Every other property comes from here.
        clip_format: Of the new frame.
    """
    frame = _filled(clip_format, [result.planes[p] for p in _positions(result.format.family)])
    frame.props.update(source.props)
    _tag(frame, result, subsampled=source.format.subsampling_w + source.format.subsampling_h > 0)
    if result.format.alpha:
        gray = clip_format.replace(color_family=vs.GRAY, subsampling_w=0, subsampling_h=0)
        alpha = _filled(gray, [result.planes[-1]])
        alpha.props.update(source.props[_ALPHA].props)
        frame.props[_ALPHA] = alpha
    return frame


def _positions(family: Family) -> list[int]:
    """Where VapourSynth's planes lie in ours."""
    order = _ORDER[family]
    return [order.index(p) for p in range(len(order))]


def _filled(clip_format: vs.VideoFormat, planes: list[Plane]) -> vs.VideoFrame:
    height, width = planes[0].shape
    frame = vs.core.create_video_frame(clip_format, width, height)
    for p, plane in enumerate(planes):
        np.copyto(np.asarray(frame[p]), plane)
    return frame


def _tag(frame: vs.VideoFrame, result: Frame, *, subsampled: bool) -> None:
    color = result.color
    frame.props["_Matrix"] = color.matrix
    frame.props["_Range"] = int(bool(color.full_range))
    if result.format.subsampled:
        frame.props["_ChromaLocation"] = color.siting - 1
    elif subsampled:
        frame.props.pop("_ChromaLocation", None)
