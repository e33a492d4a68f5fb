"""NVIDIA's H.265 encoder, 8 and 10 bits. Default cq 21, preset p5."""

from vsr.io.encoders._base import Encoder, Scale, yuv
from vsr.io.encoders._nvenc import NATIVE, PRESETS, options

ENCODER = Encoder(
    id="hevc_nvenc",
    codec="hevc_nvenc",
    aliases=("hevc-nvenc",),
    containers=("matroska", "mp4", "mov"),
    formats=(
        *yuv("420", 8, 10),
        *yuv("444", 8),
    ),
    options=options("21"),
    crf=Scale(default=21, low=0, high=51),
    presets=PRESETS,
    even=True,
    native=NATIVE,
    tag={"mp4": "hvc1", "mov": "hvc1"},
    carries=frozenset({"sar"}),
)
