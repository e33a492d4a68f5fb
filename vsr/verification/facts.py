"""Compares what headers say of the picture: size, shape of pixels, turning, colour, HDR, depth."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import numpy as np

from vsr.io.color import matrix_name, primaries_name, range_name, transfer_name
from vsr.io.containers import Container
from vsr.io.formats import canonical_name, pixel_format
from vsr.io.probe import VideoFacts
from vsr.types import UNSPECIFIED, ColorSpec, Hdr, PixelFormat
from vsr.verification.expected import Expected
from vsr.verification.report import Finding, fault, note, ok

_ASPECT: Final = Fraction(1, 200)
"""Relative error of the shape of pixels: Matroska says it by a whole number of columns."""
_BT601: Final = frozenset({5, 6})
_BT709_CURVE: Final = frozenset({1, 6, 14, 15})
"""Transfer characteristics with one curve."""
_CARRIES_HDR: Final = frozenset({"hevc", "av1"})
_EVEN: Final = Fraction(2)
"""Pixels by which a side may differ from the aspect's: encoders of 4:2:0 want even ones."""


def shown_size(video: VideoFacts) -> tuple[int, int]:
    """Width and height of the upright picture."""
    turned = video.rotation % 180 != 0
    return (video.height, video.width) if turned else (video.width, video.height)


def shown_aspect(video: VideoFacts) -> Fraction:
    """Width of a pixel of the upright picture over its height."""
    return 1 / video.sample_aspect if video.rotation % 180 else video.sample_aspect


def layout_of(video: VideoFacts) -> PixelFormat | None:
    """The pixel format, where it is known."""
    return pixel_format(canonical_name(video.pixel_format)) if video.pixel_format else None


def judge_size(source: VideoFacts, output: VideoFacts, expected: Expected) -> Finding:
    """Compares the size as shown."""
    (width, height), got = shown_size(source), shown_size(output)
    text = f"{width}x{height} to {got[0]}x{got[1]}"
    details = {"source": [width, height], "output": list(got)}
    wrong = _wrong_size((width, height), got, expected)
    if wrong is None:
        return ok("size", text, **details)
    return fault("size", f"{text}{wrong}", **details)


def _wrong_size(source: tuple[int, int], output: tuple[int, int], expected: Expected) -> str | None:
    """What is wrong with a size; None if nothing is."""
    width, height = source
    if expected.scale is not None:
        want = (max(1, round(width * expected.scale)), max(1, round(height * expected.scale)))
        return None if output == want else f", expected {want[0]}x{want[1]}"
    if expected.width not in (None, output[0]):
        return f", expected a width of {expected.width}"
    if expected.height not in (None, output[1]):
        return f", expected a height of {expected.height}"
    if expected.width and expected.height:
        return None
    # the exact factor lies where both roundings meet, so a small picture allows more
    across, down = Fraction(output[0], width), Fraction(output[1], height)
    near_width = abs(width * down - output[0]) <= (max(_EVEN, down))
    near_height = abs(height * across - output[1]) <= (max(_EVEN, across))
    if near_width or near_height:
        return None
    return f": {float(across):.3g} times as wide, but {float(down):.3g} times as high"


def judge_shape(source: VideoFacts, output: VideoFacts, expected: Expected) -> Iterator[Finding]:
    """Compares the shape of pixels, and what is left for the player to turn."""
    one, other = shown_aspect(source), shown_aspect(output)
    text = f"pixels {other.numerator}:{other.denominator}"
    display = [
        Fraction(*shown_size(video)) * shape for video, shape in ((source, one), (output, other))
    ]
    near = abs(one / other - 1) <= _ASPECT or abs(display[0] / display[1] - 1) <= _ASPECT
    if near or (expected.width and expected.height and one == other):
        yield ok("pixel aspect", text)
    else:
        yield fault("pixel aspect", f"{text}, expected {one.numerator}:{one.denominator}")
    # a mirror, and what its container cannot say, is done to the pixels: those tell then
    if output.rotation not in (0, source.rotation):
        text = f"turned by {output.rotation} degrees, expected {source.rotation} or none"
        yield fault("rotation", text)
    elif output.mirrored:
        yield fault("rotation", "the output asks to be mirrored, which few players do")
    elif source.rotation or source.mirrored:
        kept = "kept as a tag" if output.rotation else "done to the pixels"
        yield ok("rotation", f"turning by {source.rotation} degrees is {kept}")
    if output.interlaced or output.field_order not in ("unknown", "progressive"):
        yield fault("interlaced", "the output says that it is interlaced")


def judge_color(source: VideoFacts, output: VideoFacts, expected: Expected) -> Iterator[Finding]:
    """Compares colour tags; parts the source leaves open may be filled with what players assume."""
    one, other = layout_of(source), layout_of(output)
    if one is None or other is None:
        yield note("colour tags", "no frame could be looked at")
        return
    wanted, given = _wanted(source.color, expected), output.color
    wrong = list(_differences(wanted, given, (one, other)))
    assumed = _assumed(source, one) if wanted.matrix == UNSPECIFIED else None
    if one.family == other.family == "yuv" and assumed is not None:
        plays_as = given if given.matrix != UNSPECIFIED else _assumed(output, other)
        if not _same_matrix(assumed.matrix, plays_as.matrix):
            wrong.append(
                f"the untagged source is {matrix_name(assumed.matrix)}, "
                f"the output {matrix_name(plays_as.matrix)}"
            )
    if wrong:
        yield fault("colour tags", "; ".join(wrong))
    else:
        yield ok("colour tags", f"matrix {matrix_name(given.matrix)}")
    if one.alpha and not other.alpha:
        yield note("alpha", "the output has no alpha; its encoder cannot")
    if other.bits < one.bits:
        yield note("bit depth", f"{other.bits} bit of {one.bits}")


def _wanted(color: ColorSpec, expected: Expected) -> ColorSpec:
    if expected.color == "keep":
        return color
    code = {"bt601": 6, "bt709": 1}[expected.color]
    return ColorSpec(
        matrix=code,
        primaries=code,
        transfer=code,
        full_range=color.full_range,
        siting=color.siting,
    )


def _assumed(video: VideoFacts, layout: PixelFormat) -> ColorSpec:
    return video.color.resolved(video.width, video.height, layout.family)


def _differences(
    wanted: ColorSpec, given: ColorSpec, layouts: tuple[PixelFormat, PixelFormat]
) -> Iterator[str]:
    samples_alike = layouts[0].family == layouts[1].family != "rgb"
    yuv = samples_alike and layouts[0].family == "yuv"
    if yuv and wanted.matrix != UNSPECIFIED and not _same_matrix(wanted.matrix, given.matrix):
        yield f"matrix {matrix_name(given.matrix)}, expected {matrix_name(wanted.matrix)}"
    if samples_alike and wanted.full_range not in (None, bool(given.full_range)):
        yield f"range {range_name(given.full_range)}, expected {range_name(wanted.full_range)}"
    if wanted.primaries not in (UNSPECIFIED, given.primaries):
        names = primaries_name(given.primaries), primaries_name(wanted.primaries)
        yield f"primaries {names[0]}, expected {names[1]}"
    alike = {wanted.transfer, given.transfer} <= _BT709_CURVE
    if wanted.transfer not in (UNSPECIFIED, given.transfer) and not alike:
        names = transfer_name(given.transfer), transfer_name(wanted.transfer)
        yield f"transfer {names[0]}, expected {names[1]}"


def _same_matrix(one: int, other: int) -> bool:
    return one == other or {one, other} <= _BT601


def judge_hdr(
    source: VideoFacts, output: VideoFacts, codec: str, container: Container
) -> Finding | None:
    """Compares static HDR metadata, to the precision of the encoders that write it."""
    one, other = source.hdr, output.hdr
    if one is None:
        return None
    wrong = _hdr_difference(one, other or Hdr())
    if wrong is None:
        return ok("hdr", "HDR metadata is kept")
    if codec not in _CARRIES_HDR and not container.hdr:
        return note("hdr", f"{codec} in {container.name} has no place for HDR metadata")
    return fault("hdr", wrong)


def _hdr_difference(one: Hdr, other: Hdr) -> str | None:
    if one.light_level and one.light_level != other.light_level:
        return f"light level {other.light_level}, expected {one.light_level}"
    if one.mastering is None:
        return None
    if other.mastering is None:
        return "the mastering display is not told"
    values = _rationals(one.mastering), _rationals(other.mastering)
    near = np.allclose(values[0], values[1], rtol=2e-3, atol=1e-3)
    return None if near else "another mastering display is told"


def _rationals(payload: bytes) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Ten rationals of int32 (FFmpeg's AVMasteringDisplayMetadata)."""
    pairs = np.frombuffer(payload[:80], "<i4").reshape(-1, 2).astype(np.float64)
    values: np.ndarray[tuple[int], np.dtype[np.float64]] = pairs[:, 0] / np.maximum(pairs[:, 1], 1)
    return values
