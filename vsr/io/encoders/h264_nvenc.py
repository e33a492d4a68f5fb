"""NVIDIA's H.264 encoder. Default cq 19, preset p5."""

from vsr.io.encoders._base import Encoder, Scale, yuv
from vsr.io.encoders._nvenc import NATIVE, PRESETS, options

ENCODER = Encoder(
    id="h264_nvenc",
    codec="h264_nvenc",
    aliases=("h264-nvenc",),
    containers=("matroska", "mp4", "mov"),
    formats=(
        *yuv("420", 8),
        *yuv("444", 8),
    ),
    options=options("19"),
    crf=Scale(default=19, low=0, high=51),
    presets=PRESETS,
    even=True,
    native=NATIVE,
    tag={},
    carries=frozenset({"sar"}),
)
