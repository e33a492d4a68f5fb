"""What an encoder's specification says; the other files each hold one, named `ENCODER`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from vsr.errors import EncoderError
from vsr.types import PixelFormat, VideoInfo

CHROMA: Final = MappingProxyType({"420": (1, 1), "422": (1, 0), "444": (0, 0)})
"""log2 of the horizontal and vertical chroma subsampling by its usual name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What the user asked of an encoder; None stands for the encoder's own default.

    Attributes:
        crf: Constant quality on the encoder's own scale; lower is better and larger.
        preset: Speed against size, by the encoder's own names.
        extra: Further options of the FFmpeg encoder (`-e key=value`); they win over ours.
    """

    crf: float | None = None
    preset: str | None = None
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The constant-quality scale of an encoder: its default, best and worst value."""

    default: float
    low: float = 0
    high: float = 51


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoder:
    """One way to encode the picture.

    Attributes:
        id: Name by which users choose it.
        codec: FFmpeg's name of the encoder.
        aliases: Other names that users bring along.
        containers: Muxers that may hold its stream.
        formats: What it takes, best liked first.
        options: Turns a quality and a picture into FFmpeg options.
        crf: Its quality scale; None where quality is not a number (lossless, ProRes).
        presets: Accepted names of `Quality.preset`, slowest first; empty if it has none.
        even: Whether a side with subsampled chroma must be even.
        smallest: Least side of a picture in pixels.
        native: FFmpeg formats that the encoder wants in place of our planar ones; same samples,
            other order.
        tag: Four-character code per muxer, where FFmpeg's default plays in fewer places.
        alpha_in: Muxers that hold its alpha, where that is a second stream; None if all do.
        carries: What its bitstream says by itself: `hdr`, `sar`.
    """

    id: str
    codec: str
    aliases: tuple[str, ...] = ()
    containers: tuple[str, ...]
    formats: tuple[PixelFormat, ...]
    options: Callable[[Quality, VideoInfo], dict[str, str]]
    crf: Scale | None = None
    presets: tuple[str, ...] = ()
    even: bool = False
    smallest: int = 1
    native: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tag: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    alpha_in: tuple[str, ...] | None = None
    carries: frozenset[str] = frozenset()

    def within(self, container: str) -> Self:
        """The same with those formats only of which a muxer loses nothing."""
        if self.alpha_in is None or container in self.alpha_in:
            return self
        return replace(self, formats=tuple(form for form in self.formats if not form.alpha))

    def settings(self, quality: Quality, picture: VideoInfo) -> dict[str, str]:
        """All FFmpeg options for this picture, the user's own last.

        Raises:
            EncoderError: The quality or the preset is not on this encoder's scale.
        """
        self._check(quality)
        ours = {"flags": "+bitexact", **self.options(quality, picture)}
        for key, value in quality.extra.items():
            joined = ours.get(key) if key.endswith("-params") else None
            ours[key] = f"{joined}:{value}" if joined else value
        if "flags" in quality.extra:
            ours["flags"] = f"+bitexact+{quality.extra['flags'].lstrip('+')}"
        return ours

    def _check(self, quality: Quality) -> None:
        if quality.crf is not None and self.crf is None:
            msg = f"--crf {quality.crf:g} means nothing to {self.id}: leave it out"
            raise EncoderError(msg)
        scale = self.crf
        # "not within", so that NaN fails as well
        if quality.crf is not None and scale and not scale.low <= quality.crf <= scale.high:
            span = f"{scale.low:g} to {scale.high:g}"
            msg = f"--crf {quality.crf:g} is out of range: {self.id} takes {span}"
            raise EncoderError(msg)
        if quality.preset is not None and quality.preset not in self.presets:
            known = ", ".join(self.presets) or "it has none"
            msg = f"{self.id} has no preset {quality.preset!r}; choose from: {known}"
            raise EncoderError(msg)

    def quality_of(self, quality: Quality) -> str:
        """The constant quality to use, as an option value."""
        default = self.crf.default if self.crf else 0
        return f"{quality.crf if quality.crf is not None else default:g}"


def yuv(chroma: str, *bits: int, alpha: bool = False) -> tuple[PixelFormat, ...]:
    """YUV formats of one chroma subsampling (`420`, `422`, `444`) in several depths."""
    width, height = CHROMA[chroma]
    return tuple(
        PixelFormat(family="yuv", bits=depth, chroma_w=width, chroma_h=height, alpha=alpha)
        for depth in bits
    )


def gray(*bits: int, alpha: bool = False) -> tuple[PixelFormat, ...]:
    """Gray formats in several depths."""
    return tuple(PixelFormat(family="gray", bits=depth, alpha=alpha) for depth in bits)


def rgb(*bits: int, alpha: bool = False) -> tuple[PixelFormat, ...]:
    """Planar RGB formats in several depths."""
    return tuple(PixelFormat(family="rgb", bits=depth, alpha=alpha) for depth in bits)
