"""Reads and writes YUV4MPEG2: a line of text, then for every frame `FRAME` and its planes.

The format is that of mjpegtools' yuv4mpeg(5); names of deeper formats, the siting that `C` implies
and the comments `XYSCSS` and `XCOLORRANGE` are those of FFmpeg (yuv4mpegdec.c, yuv4mpegenc.c).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal

from vsr.errors import ContainerError, SourceError, UnsupportedSourceError
from vsr.io.bare import Beat, PlaneReader, cut, plane_bytes
from vsr.io.ends import ByteReader, ByteSink
from vsr.io.fields import Parity, deinterlaced
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

MAGIC: Final = b"YUV4MPEG2 "
FRAME_PARAMETERS: Final = "Y4M_FRAME_PARAMETERS"
"""Side data: what stood behind `FRAME`, blank included."""
_LIMIT: Final = 4096
"""Most bytes of a line; FFmpeg's is 128."""
_DEPTHS: Final = (9, 10, 12, 14, 16)
_SUBSAMPLINGS: Final = {
    "420": (1, 1),
    "422": (1, 0),
    "444": (0, 0),
    "440": (0, 1),
    "411": (2, 0),
    "410": (2, 2),
}
_SITINGS: Final = {"420": 2, "420jpeg": 2, "420mpeg2": 1, "420paldv": 3}
_DEFAULT: Final = "420jpeg"
_RANGES: Final = {"FULL": True, "LIMITED": False}

type Deinterlacing = Literal["auto", "on", "off"]


def _layouts() -> dict[str, PixelFormat]:
    found = {"mono": PixelFormat(family="gray"), "444alpha": PixelFormat(family="yuv", alpha=True)}
    for bits in _DEPTHS:
        found[f"mono{bits}"] = PixelFormat(family="gray", bits=bits)
    for name, (w, h) in _SUBSAMPLINGS.items():
        found[name] = PixelFormat(family="yuv", chroma_w=w, chroma_h=h)
        for bits in _DEPTHS:
            found[f"{name}p{bits}"] = PixelFormat(family="yuv", bits=bits, chroma_w=w, chroma_h=h)
    return found | dict.fromkeys(_SITINGS, found["420"])


_LAYOUTS: Final = MappingProxyType(_layouts())
"""What each value of `C` stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line.

    Attributes:
        parameters: Everything behind the magic, in order, W and H included.
        width: Luma samples in a row.
        height: Rows of luma.
        format: Layout of the planes.
        color: Range and siting, where said; y4m knows no matrix.
        rate: Frames per second, None if unknown.
        aspect: Width of a pixel over its height, 1 if unknown.
        interlacing: `p` progressive, `t` top or `b` bottom field first, `m` mixed, `?` unknown.
    """

    parameters: tuple[str, ...]
    width: int
    height: int
    format: PixelFormat
    color: ColorSpec
    rate: Fraction | None = None
    aspect: Fraction = Fraction(1)
    interlacing: str = "?"

    def line(self) -> bytes:
        """The line as bytes."""
        return MAGIC + " ".join(self.parameters).encode("latin-1") + b"\n"

    def answer(self, width: int, height: int, *, progressive: bool) -> bytes:
        """The line of the output: another size, everything else echoed.

        Args:
            width: Of the output.
            height: Of the output.
            progressive: Whether the fields have become pictures.
        """
        changed = {"W": f"W{width}", "H": f"H{height}"} | ({"I": "Ip"} if progressive else {})
        kept = [changed.get(parameter[0], parameter) for parameter in self.parameters]
        return MAGIC + " ".join(kept).encode("latin-1") + b"\n"


def parse_header(line: bytes, name: str) -> Header:
    """Understands the first line.

    Args:
        line: With its line feed.
        name: Of the stream, for messages.

    Raises:
        UnsupportedSourceError: Not y4m, or a size, rate, aspect or format that makes no sense.
    """
    if not line.startswith(MAGIC):
        msg = f"{name} is not y4m: it begins with {line[:10]!r}, not with {MAGIC.decode()!r}"
        raise UnsupportedSourceError(msg)
    if not line.endswith(b"\n"):
        msg = f"{name}: the y4m header does not end within {len(line)} bytes; it is damaged"
        raise UnsupportedSourceError(msg)
    parameters = tuple(filter(None, line[len(MAGIC) : -1].decode("latin-1").split(" ")))
    values = {parameter[0]: parameter[1:] for parameter in parameters if parameter[0] != "X"}
    comments = dict(p[1:].partition("=")[::2] for p in parameters if p[0] == "X")
    width, height = (_side(values, key, name) for key in "WH")
    chroma = values.get("C") or comments.get("YSCSS", _DEFAULT).lower()
    layout = _LAYOUTS.get(chroma)
    if layout is None:
        msg = f"{name}: y4m with C{chroma} is not known; known are {', '.join(sorted(_LAYOUTS))}"
        raise UnsupportedSourceError(msg)
    interlacing = values.get("I") or "?"
    if interlacing not in "ptbm?":
        msg = f"{name}: y4m with I{interlacing} is not known; I is one of p, t, b, m and ?"
        raise UnsupportedSourceError(msg)
    full = _RANGES.get(comments.get("COLORRANGE", "").upper())
    return Header(
        parameters=parameters,
        width=width,
        height=height,
        format=layout,
        color=ColorSpec(full_range=full, siting=_SITINGS.get(chroma, 0)),
        rate=_ratio(values, "F", name),
        aspect=_ratio(values, "A", name) or Fraction(1),
        interlacing=interlacing,
    )


def _side(values: Mapping[str, str], key: str, name: str) -> int:
    text = values.get(key, "")
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) < 1 << 31):
        msg = f"{name}: y4m with {key}{text} has no size; {key} must be a positive whole number"
        raise UnsupportedSourceError(msg)
    return int(text[:10])


def _ratio(values: Mapping[str, str], key: str, name: str) -> Fraction | None:
    """A ratio such as `30000:1001`; None where it is missing or 0:0."""
    text = values.get(key, "0:0")
    above, colon, below = text.partition(":")
    digits = above + below
    if not (above and colon and below and digits.isascii() and digits.isdigit()):
        msg = f"{name}: y4m with {key}{text} makes no sense; {key} is a ratio such as 30000:1001"
        raise UnsupportedSourceError(msg)
    a, b = int(above[:10]), int(below[:10])
    return Fraction(a, b) if a and b else None


def header_for(info: VideoInfo) -> Header:
    """Describes a video of another container in y4m's words.

    Raises:
        ContainerError: y4m has no word for its pixel format.
    """
    layout, color = info.format, info.color
    named = [name for name, known in _LAYOUTS.items() if known == layout]
    if not named:
        what = f"{layout.family.upper()}{' with alpha' if layout.alpha else ''}"
        msg = f"y4m cannot hold this picture, {layout.bits}-bit {what}: use -f nut"
        raise ContainerError(msg)
    sited = {_SITINGS[name]: name for name in ("420jpeg", "420mpeg2", "420paldv")}
    chroma = sited.get(color.siting or 1, named[0]) if named[0] == "420" else named[0]
    rate, aspect = info.frame_rate or Fraction(0), info.sample_aspect
    parameters = [f"W{info.width}", f"H{info.height}"]
    parameters += [f"F{rate.numerator}:{rate.denominator if rate else 0}", "Ip"]
    parameters += [f"A{aspect.numerator}:{aspect.denominator}", f"C{chroma}"]
    if layout.bits > 8 and layout.family == "yuv":
        parameters.append(f"XYSCSS={chroma.upper()}")
    if color.full_range is not None:
        parameters.append(f"XCOLORRANGE={'FULL' if color.full_range else 'LIMITED'}")
    return Header(
        parameters=tuple(parameters),
        width=info.width,
        height=info.height,
        format=layout,
        color=color,
        rate=info.frame_rate,
        aspect=aspect,
        interlacing="p",
    )


class Y4mSource:
    """A y4m stream as a `FrameSource`.

    Args:
        reader: At its beginning; stays open.
        deinterlace: `auto` filters streams flagged interlaced, `on` all, `off` refuses them.
        max_pixels: Larger pictures are refused before memory is taken for them.

    Attributes:
        header: The first line.
        info: What it says.
        filtered: Whether fields become pictures.

    Raises:
        UnsupportedSourceError: Not y4m, or not of a kind that may be upscaled.
    """

    def __init__(
        self, reader: ByteReader, *, deinterlace: Deinterlacing = "auto", max_pixels: int = 1 << 27
    ) -> None:
        self._reader = reader
        self.header = header = parse_header(reader.line(_LIMIT), reader.name)
        if header.width * header.height > max_pixels:
            msg = (
                f"{reader.name} claims {header.width}x{header.height} pixels, more than the limit "
                f"of {max_pixels}"
            )
            raise UnsupportedSourceError(msg)
        woven = header.interlacing in "tb"
        if header.interlacing == "m" and deinterlace != "on":
            msg = (
                f"{reader.name} mixes interlaced and progressive frames (Im), and woven fields "
                "must not be upscaled: use --deinterlace on, or filter it before"
            )
            raise UnsupportedSourceError(msg)
        if woven and deinterlace == "off":
            msg = (
                f"{reader.name} is interlaced (I{header.interlacing}) and woven fields must not be "
                "upscaled; use --deinterlace auto"
            )
            raise UnsupportedSourceError(msg)
        self.filtered = woven or deinterlace == "on"
        self.info = VideoInfo(
            width=header.width,
            height=header.height,
            format=header.format,
            color=header.color,
            time_base=1 / (header.rate or Fraction(25)),
            frame_rate=header.rate,
            sample_aspect=header.aspect,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Reads to the end; one pass only.

        Raises:
            SourceError: Something else where a frame should begin, or the last one is cut.
        """
        if not self.filtered:
            return self._frames()
        parity: dict[str, Parity] = {"t": "tff", "b": "bff"}
        return deinterlaced(self._frames(), parity.get(self.header.interlacing))

    def close(self) -> None:
        """Nothing to free."""

    def _frames(self) -> Iterator[Frame]:
        info = self.info
        pictures = PlaneReader(self._reader, info.format, info.width, info.height)
        number = 0
        while (line := self._reader.line(_LIMIT)) != b"":
            parameters = self._parameters(line, number)
            planes = pictures.planes(number)
            if planes is None:
                raise cut(self._reader.name, number, pictures.bytes, pictures.bytes)
            yield Frame(
                planes=planes,
                format=info.format,
                color=info.color,
                pts=number,
                duration=1,
                time_base=info.time_base,
                side_data=MappingProxyType({FRAME_PARAMETERS: parameters} if parameters else {}),
            )
            number += 1

    def _parameters(self, line: bytes, number: int) -> bytes:
        if line.startswith(b"FRAME") and line[5:6] in (b" ", b"\n") and line.endswith(b"\n"):
            kept = line[5:-1].split(b" ")
            # ` Ixyz` tells of fields that are no more
            return b" ".join(p for p in kept if not (self.filtered and p.startswith(b"I")))
        if b"FRAME\n".startswith(line) or (line.startswith(b"FRAME ") and len(line) < _LIMIT):
            raise cut(self._reader.name, number, 1, 6)
        msg = (
            f"{self._reader.name}: {line[:12]!r} stands where frame {number} should begin with "
            "'FRAME'; the stream is damaged or of another size than its header says"
        )
        raise SourceError(msg)


class Y4mSink:
    """A `FrameSink` that writes y4m; the header leaves at once.

    Args:
        output: Where to.
        line: The header, with its line feed.
        rate: Frames per second that it tells; None if unknown.
    """

    def __init__(self, output: ByteSink, line: bytes, rate: Fraction | None) -> None:
        self._output, self._beat = output, Beat("y4m", rate)
        output.write(line)

    def write(self, frame: Frame) -> None:
        """Writes one frame.

        Raises:
            SinkError: It does not come at its time: y4m cannot tell it.
            OSError: The reader has gone, or the disk is full.
        """
        self._beat.check(frame)
        self._output.write(b"FRAME" + frame.side_data.get(FRAME_PARAMETERS, b"") + b"\n")
        for data in plane_bytes(frame.planes, "little"):
            self._output.write(data)

    def finish(self) -> None:
        """Ends the stream, or gives the file its name."""
        self._output.commit()

    def abort(self) -> None:
        """Leaves no file behind; what went through a pipe stays there."""
        self._output.discard()
