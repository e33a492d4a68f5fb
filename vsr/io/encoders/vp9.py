"""VP9 by libvpx, for WebM and for alpha. Default crf 22, preset 4 (0 slow, 8 fast)."""

from vsr.io.encoders._base import Encoder, Quality, Scale, rgb, yuv
from vsr.types import VideoInfo


def _options(quality: Quality, picture: VideoInfo) -> dict[str, str]:
    options = {
        "crf": ENCODER.quality_of(quality),
        "b": "0",  # without it crf is only a lower bound of the quantiser
        "deadline": "good",
        "cpu-used": quality.preset or "4",
        "row-mt": "1",
    }
    if picture.format.alpha:
        # the alpha plane is a second stream, whose frames must pair with the first's one by one
        options["auto-alt-ref"] = "0"
    return options


ENCODER = Encoder(
    id="vp9",
    codec="libvpx-vp9",
    aliases=("vpx", "libvpx"),
    containers=("matroska", "webm", "mp4"),
    formats=(
        *yuv("420", 8),
        *yuv("422", 8),
        *yuv("444", 8),
        *rgb(8),
        *yuv("420", 8, alpha=True),
    ),
    options=_options,
    crf=Scale(default=22, low=0, high=63),
    alpha_in=("matroska", "webm"),
    presets=tuple(str(number) for number in range(9)),
)
