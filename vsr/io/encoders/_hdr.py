"""Static HDR10 metadata, unpacked from FFmpeg's structures."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from vsr.errors import EncoderError

_LAYOUT = struct.Struct("<22i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mastering:
    """SMPTE ST 2086: the display on which a picture was mastered.

    Attributes:
        red: CIE 1931 (x, y) of the red primary; None for all four points if the source does not
            say.
        green: Of the green primary.
        blue: Of the blue primary.
        white: Of the white point.
        low: Least luminance in cd/m².
        high: Greatest luminance in cd/m²; None for both luminances if the source does not say.
    """

    red: tuple[Fraction, Fraction] | None
    green: tuple[Fraction, Fraction] | None
    blue: tuple[Fraction, Fraction] | None
    white: tuple[Fraction, Fraction] | None
    low: Fraction | None
    high: Fraction | None


def unpack_mastering(payload: bytes) -> Mastering:
    """Reads AVMasteringDisplayMetadata.

    It holds ten rationals of two int32 (x and y of red, green, blue and white; low, high), and two
    flags that say which of them are meant.

    Raises:
        EncoderError: The payload is too short to be one.
    """
    if len(payload) < _LAYOUT.size:
        got = f"mastering display metadata has {len(payload)} bytes, expected {_LAYOUT.size}"
        msg = f"{got}: the source is damaged"
        raise EncoderError(msg)
    fields = _LAYOUT.unpack_from(payload)
    ratios = [
        Fraction(num, den) if den else Fraction(0)
        for num, den in zip(fields[0:20:2], fields[1:20:2], strict=True)
    ]
    has_primaries, has_luminance = fields[20:]
    points = [(ratios[k], ratios[k + 1]) if has_primaries else None for k in (0, 2, 4, 6)]
    low, high = (ratios[8], ratios[9]) if has_luminance else (None, None)
    return Mastering(
        red=points[0], green=points[1], blue=points[2], white=points[3], low=low, high=high
    )


def display_string(payload: bytes, form: Callable[[Fraction, int], str]) -> str | None:
    """The text that x264, x265 and SVT-AV1 share: `G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)`.

    Args:
        payload: FFmpeg's structure.
        form: Writes a value; its second argument is the unit's count in one (50000 for
            chromaticities, 10000 for luminances), for encoders that take whole units.

    Returns:
        None where the source tells only a part, which the encoders have no words for.
    """
    display = unpack_mastering(payload)
    points = {"G": display.green, "B": display.blue, "R": display.red, "WP": display.white}
    parts = [
        f"{name}({form(point[0], 50000)},{form(point[1], 50000)})"
        for name, point in points.items()
        if point is not None
    ]
    if not parts or display.low is None or display.high is None:
        return None
    return f"{''.join(parts)}L({form(display.high, 10000)},{form(display.low, 10000)})"


def whole_units(value: Fraction, per_one: int) -> str:
    """A value in whole units, as SMPTE ST 2086 counts."""
    return str(round(value * per_one))
