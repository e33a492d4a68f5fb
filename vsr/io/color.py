"""Colour tags between FFmpeg and `ColorSpec`, their names, and the door for rationals."""

from fractions import Fraction
from typing import Final, Protocol

import av
from av.video.codeccontext import VideoCodecContext

from vsr.types import UNSPECIFIED, ColorSpec

_MATRIX: Final = {
    0: "gbr",
    1: "bt709",
    2: "unknown",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
_PRIMARIES: Final = {
    1: "bt709",
    2: "unknown",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
_TRANSFER: Final = {
    1: "bt709",
    2: "unknown",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
_SITING: Final = {
    0: "unspecified",
    1: "left",
    2: "center",
    3: "topleft",
    4: "top",
    5: "bottomleft",
    6: "bottom",
}
_RANGE: Final = {None: 0, False: 1, True: 2}
_RESERVED: Final = frozenset({0, 3})
"""Code points of primaries and transfer that say nothing."""


class Rational(Protocol):
    """What FFmpeg's AVRational and Python's own rationals have in common."""

    @property
    def numerator(self) -> int:
        """Above the line."""
        ...

    @property
    def denominator(self) -> int:
        """Below the line; 0 in FFmpeg's undefined values."""
        ...


def fraction(value: Rational | None) -> Fraction | None:
    """The one door from FFmpeg's rationals to ours; unset and undefined ones become None."""
    if value is None or value.numerator == 0 or value.denominator == 0:
        return None
    return Fraction(value.numerator, value.denominator)


def matrix_name(code: int) -> str:
    """FFmpeg's name of H.273 matrix coefficients, `smpte170m` for 6."""
    return _MATRIX.get(code, f"reserved-{code}")


def primaries_name(code: int) -> str:
    """FFmpeg's name of H.273 colour primaries."""
    return _PRIMARIES.get(code, f"reserved-{code}")


def transfer_name(code: int) -> str:
    """FFmpeg's name of H.273 transfer characteristics, `smpte2084` (PQ) for 16."""
    return _TRANSFER.get(code, f"reserved-{code}")


def siting_name(code: int) -> str:
    """FFmpeg's name of a chroma location."""
    return _SITING.get(code, f"reserved-{code}")


def range_name(full_range: bool | None) -> str:
    """`tv`, `pc` or `unknown`, as FFmpeg says."""
    return {None: "unknown", False: "tv", True: "pc"}[full_range]


def read_color(
    context: VideoCodecContext | None,
    frame: av.VideoFrame | None = None,
    container: VideoCodecContext | None = None,
) -> ColorSpec:
    """Reads colour tags; those of the frame win, the stream's fill what the frame leaves open.

    Args:
        context: The decoder's.
        frame: A decoded frame.
        container: The stream's own context, where another decoder is used: libvpx forgets tags.
    """
    specs = []
    if frame is not None:
        specs.append(
            _spec(
                frame.format.name,
                frame.colorspace,
                frame.color_primaries,
                frame.color_trc,
                frame.color_range,
                frame.chroma_location,
            )
        )
    specs += [
        _spec(
            source.pix_fmt or "",
            source.colorspace,
            source.color_primaries,
            source.color_trc,
            source.color_range,
            source.chroma_sample_location,
        )
        for source in (context, container)
        if source is not None
    ]
    return _first_tagged(specs, has_rgb=frame is not None and frame.format.is_rgb)


def _spec(
    name: str, matrix: int, primaries: int, transfer: int, span: int, siting: int
) -> ColorSpec:
    full = {1: False, 2: True}.get(span)
    return ColorSpec(
        matrix=matrix,
        primaries=UNSPECIFIED if primaries in _RESERVED else primaries,
        transfer=UNSPECIFIED if transfer in _RESERVED else transfer,
        full_range=True if name.startswith("yuvj") else full,
        siting=siting,
    )


def _first_tagged(specs: list[ColorSpec], *, has_rgb: bool) -> ColorSpec:
    def first[T](values: list[T], unset: T) -> T:
        return next((value for value in values if value != unset), unset)

    matrices = [UNSPECIFIED if s.matrix == 3 else s.matrix for s in specs]
    if not has_rgb:
        # Matrix 0 means RGB; on YUV samples it is an encoder's way of leaving the field blank.
        matrices = [UNSPECIFIED if matrix == 0 else matrix for matrix in matrices]
    return ColorSpec(
        matrix=first(matrices, UNSPECIFIED),
        primaries=first([s.primaries for s in specs], UNSPECIFIED),
        transfer=first([s.transfer for s in specs], UNSPECIFIED),
        full_range=first([s.full_range for s in specs], None),
        siting=first([s.siting for s in specs], 0),
    )


def apply_color(context: VideoCodecContext, color: ColorSpec) -> None:
    """Sets the tags on an encoder's context, which must not be open yet."""
    context.colorspace = color.matrix
    context.color_primaries = color.primaries
    context.color_trc = color.transfer
    context.color_range = _RANGE[color.full_range]
    context.chroma_sample_location = color.siting


def tag_frame(frame: av.VideoFrame, color: ColorSpec) -> None:
    """Sets the tags on a frame; encoders prefer these to the context's."""
    frame.colorspace = color.matrix
    frame.color_primaries = color.primaries
    frame.color_trc = color.transfer
    frame.color_range = _RANGE[color.full_range]
    frame.chroma_location = color.siting
