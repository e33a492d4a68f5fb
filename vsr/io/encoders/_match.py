"""Which of an encoder's pixel formats loses least of a picture."""

from vsr.errors import EncoderError
from vsr.io.encoders._base import CHROMA, Encoder
from vsr.types import PixelFormat


def match_format(source: PixelFormat, encoder: Encoder, width: int, height: int) -> PixelFormat:
    """Chooses the encoder's format that keeps most of the source's, and then the smallest.

    Losses weigh in this order: alpha, bits, kind (RGB becomes 4:4:4 YUV, gray becomes YUV), chroma
    resolution. An odd side rules out the formats that subsample along it, where the encoder insists
    on even sides; so an odd 4:2:0 picture becomes 4:4:4.

    Args:
        source: Format of the picture to encode.
        encoder: That will encode it.
        width: Of the picture to encode.
        height: Of the picture to encode.

    Raises:
        EncoderError: The size is odd, and the encoder has no format for it.
    """
    # gray and RGB become YUV where they must; YUV becomes RGB only for encoders of pictures, which
    # know nothing else
    other = "yuv" if any(form.family == "yuv" for form in encoder.formats) else "rgb"
    candidates = [
        form
        for form in encoder.formats
        if _sized(form, encoder, width, height)
        and form.alpha <= source.alpha
        and form.family in (source.family, other)
    ]
    if not candidates:
        msg = (
            f"{encoder.id} encodes no odd size such as {width}x{height}: "
            "use -c x264, vp9 or ffv1, or a size with even sides"
        )
        raise EncoderError(msg)
    return min(candidates, key=lambda form: _cost(source, form))


def _sized(form: PixelFormat, encoder: Encoder, width: int, height: int) -> bool:
    return not encoder.even or not ((width % 2 and form.chroma_w) or (height % 2 and form.chroma_h))


def _wanted_chroma(source: PixelFormat) -> tuple[int, int]:
    """Gray needs no chroma, so 4:2:0 is as good as any."""
    return CHROMA["420"] if source.family == "gray" else (source.chroma_w, source.chroma_h)


def _cost(source: PixelFormat, form: PixelFormat) -> tuple[int, ...]:
    wide, tall = _wanted_chroma(source)
    return (
        source.alpha - form.alpha,
        max(0, source.bits - form.bits),
        form.family != source.family,
        max(0, form.chroma_w - wide) + max(0, form.chroma_h - tall),
        max(0, wide - form.chroma_w) + max(0, tall - form.chroma_h),
        form.bits,
    )


def losses(source: PixelFormat, form: PixelFormat) -> list[str]:
    """What a format cannot hold of the source's, in words."""
    lost = []
    if source.alpha and not form.alpha:
        lost.append("alpha is dropped")
    if form.bits < source.bits:
        lost.append(f"{source.bits} bits become {form.bits}")
    wide, tall = _wanted_chroma(source)
    if form.family == "yuv" and (form.chroma_w > wide or form.chroma_h > tall):
        lost.append(f"{describe(source)} becomes {describe(form)}")
    return lost


def describe(form: PixelFormat) -> str:
    """A format in few words: `4:2:0 10 bit`, `RGB 8 bit with alpha`."""
    sampling = {shifts: ":".join(name) for name, shifts in CHROMA.items()}
    shifts = (form.chroma_w, form.chroma_h)
    kinds = {
        "gray": "gray",
        "rgb": "RGB",
        "yuv": sampling.get(shifts, f"1/{1 << shifts[0]} chroma"),
    }
    return f"{kinds[form.family]} {form.bits} bit{' with alpha' if form.alpha else ''}"
