"""Apple ProRes, for editing: 422 HQ, or 4444 if the picture is 4:4:4, RGB or has alpha."""

from vsr.io.encoders._base import Encoder, Quality, yuv
from vsr.types import VideoInfo


def _options(quality: Quality, picture: VideoInfo) -> dict[str, str]:
    full = picture.format.chroma_w == 0
    options = {"profile": quality.preset or ("4444" if full else "hq"), "vendor": "apl0"}
    if picture.format.alpha:
        options["alpha_bits"] = "16"
    return options


ENCODER = Encoder(
    id="prores",
    codec="prores_ks",
    aliases=("prores_ks", "prores-ks"),
    containers=("mov", "matroska"),
    formats=(*yuv("422", 10), *yuv("444", 10), *yuv("444", 10, alpha=True)),
    options=_options,
    presets=("4444xq", "4444", "hq", "standard", "lt", "proxy"),
)
