"""H.265 by x265: 10 and 12 bits, HDR10. Default crf 20 (about x264's 18), preset fast."""

from typing import Final

from vsr.io.encoders._base import Encoder, Quality, Scale, gray, rgb, yuv
from vsr.io.encoders._hdr import display_string, whole_units
from vsr.io.encoders.x264 import PRESETS
from vsr.types import Hdr, VideoInfo

_CODING_UNIT: Final = 64
"""Side of x265's largest."""


def _options(quality: Quality, picture: VideoInfo) -> dict[str, str]:
    # x265 writes its log straight to stderr, past FFmpeg's
    params = ["log-level=none", *(_hdr_params(picture.hdr) if picture.hdr else ())]
    if min(picture.width, picture.height) <= _CODING_UNIT:
        # where one unit fills a side, x265 reads what nobody has written: other bytes each time
        params.append("ctu=32")
    return {
        "crf": ENCODER.quality_of(quality),
        "preset": quality.preset or "fast",
        "x265-params": ":".join(params),
    }


def _hdr_params(hdr: Hdr) -> list[str]:
    params = ["hdr10=1", "repeat-headers=1"]
    display = display_string(hdr.mastering, whole_units) if hdr.mastering else None
    if display:
        params.append(f"master-display={display}")
    if hdr.light_level is not None:
        params.append(f"max-cll={hdr.light_level[0]},{hdr.light_level[1]}")
    return params


ENCODER = Encoder(
    id="x265",
    codec="libx265",
    aliases=("h265", "hevc"),
    containers=("matroska", "mp4", "mov"),
    formats=(
        *yuv("420", 8, 10, 12),
        *yuv("422", 8, 10, 12),
        *yuv("444", 8, 10, 12),
        *rgb(8, 10, 12),
        *gray(8, 10, 12),
    ),
    options=_options,
    crf=Scale(default=20, low=0, high=51),
    presets=PRESETS,
    even=True,
    smallest=50,  # x265 4.3 writes past its memory where a side is 33 to 49 pixels
    tag={"mp4": "hvc1", "mov": "hvc1"},
    carries=frozenset({"sar", "hdr"}),
)
