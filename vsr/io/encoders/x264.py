"""H.264 by x264: plays everywhere. Default crf 18 (hard to tell from the input), preset fast."""

from typing import Final

from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
    __cpu_features__,
)

from vsr.io.encoders._base import Encoder, Quality, Scale, yuv
from vsr.io.encoders._hdr import display_string, whole_units
from vsr.types import Hdr, VideoInfo

PRESETS: Final = (
    "placebo",
    "veryslow",
    "slower",
    "slow",
    "medium",
    "fast",
    "faster",
    "veryfast",
    "superfast",
    "ultrafast",
)


# x264's AVX-512 macroblock tree reads beyond rows whose length is no multiple of eight
# macroblocks, so the bytes would differ from run to run; AVX2 is as fast.
_AVX512: Final = any(__cpu_features__.get(name, False) for name in ("AVX512F", "X86_V4"))


def _options(quality: Quality, picture: VideoInfo) -> dict[str, str]:
    options = {"crf": ENCODER.quality_of(quality), "preset": quality.preset or "fast"}
    params = _hdr_params(picture.hdr) if picture.hdr else []
    if _AVX512:
        params.append("asm=avx2")
    if params:
        options["x264-params"] = ":".join(params)
    return options


def _hdr_params(hdr: Hdr) -> list[str]:
    params = []
    display = display_string(hdr.mastering, whole_units) if hdr.mastering else None
    if display:
        params.append(f"mastering-display={display}")
    if hdr.light_level is not None:
        params.append(f"cll={hdr.light_level[0]},{hdr.light_level[1]}")
    return params


ENCODER = Encoder(
    id="x264",
    codec="libx264",
    aliases=("h264", "avc"),
    containers=("matroska", "mp4", "mov"),
    # not gray: x264 leaves its matrix untagged, and 4:2:0 costs nothing more
    formats=(*yuv("420", 8, 10), *yuv("422", 8, 10), *yuv("444", 8, 10)),
    options=_options,
    crf=Scale(default=18, low=0, high=51),
    presets=PRESETS,
    even=True,
    carries=frozenset({"sar", "hdr"}),
)
