"""NVIDIA's AV1 encoder, 8 and 10 bits. Default cq 27, preset p5."""

from vsr.io.encoders._base import Encoder, Scale, yuv
from vsr.io.encoders._nvenc import NATIVE, PRESETS, options

ENCODER = Encoder(
    id="av1_nvenc",
    codec="av1_nvenc",
    aliases=("av1-nvenc",),
    containers=("matroska", "mp4", "webm"),
    formats=(*yuv("420", 8, 10),),
    options=options("27"),
    crf=Scale(default=27, low=0, high=63),
    presets=PRESETS,
    even=True,
    native=NATIVE,
    tag={},
    carries=frozenset({}),
)
