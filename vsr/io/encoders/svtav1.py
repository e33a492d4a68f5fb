"""AV1 by SVT-AV1: the smallest files. Default crf 24, preset 8 (0 slowest, 13 fastest)."""

from fractions import Fraction

from vsr.io.encoders._base import Encoder, Quality, Scale, yuv
from vsr.io.encoders._hdr import display_string
from vsr.types import Hdr, VideoInfo


def _options(quality: Quality, picture: VideoInfo) -> dict[str, str]:
    options = {"crf": ENCODER.quality_of(quality), "preset": quality.preset or "8"}
    params = _hdr_params(picture.hdr) if picture.hdr else []
    if params:
        options["svtav1-params"] = ":".join(params)
    return options


def _hdr_params(hdr: Hdr) -> list[str]:
    params = []
    display = display_string(hdr.mastering, _decimal) if hdr.mastering else None
    if display:
        params.append(f"mastering-display={display}")
    if hdr.light_level is not None:
        params.append(f"content-light={hdr.light_level[0]},{hdr.light_level[1]}")
    return params


def _decimal(value: Fraction, _: int) -> str:
    """SVT-AV1 takes plain decimals, CIE 1931 and cd/m²."""
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


ENCODER = Encoder(
    id="svtav1",
    codec="libsvtav1",
    aliases=("svt-av1", "av1"),
    containers=("matroska", "mp4", "webm"),
    formats=yuv("420", 8, 10),
    options=_options,
    crf=Scale(default=24, low=1, high=63),
    presets=tuple(str(number) for number in range(14)),
    even=True,
    carries=frozenset({"hdr"}),
)
