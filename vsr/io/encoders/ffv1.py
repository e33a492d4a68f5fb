"""FFV1, version 3: lossless in every depth and layout, with checksums; for archives."""

from vsr.io.encoders._base import Encoder, Quality, gray, rgb, yuv
from vsr.types import VideoInfo


def _options(_: Quality, __: VideoInfo) -> dict[str, str]:
    return {"level": "3", "g": "1", "slicecrc": "1"}


ENCODER = Encoder(
    id="ffv1",
    codec="ffv1",
    containers=("matroska", "mp4"),
    formats=(
        *yuv("420", 8, 9, 10, 12, 14, 16),
        *yuv("422", 8, 9, 10, 12, 14, 16),
        *yuv("444", 8, 9, 10, 12, 14, 16),
        *gray(8, 9, 10, 12, 14, 16),
        *rgb(8, 9, 10, 12, 14, 16),
        *yuv("420", 8, 9, 10, 16, alpha=True),
        *yuv("422", 8, 9, 10, 12, 16, alpha=True),
        *yuv("444", 8, 9, 10, 12, 16, alpha=True),
        *rgb(8, 10, 12, 14, 16, alpha=True),
    ),
    options=_options,
    native={"gbrp": "bgr0", "gbrap": "bgra"},
)
