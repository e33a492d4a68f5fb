"""What the three NVENC encoders share."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from vsr.io.encoders._base import Quality
from vsr.types import VideoInfo

PRESETS: Final = ("p7", "p6", "p5", "p4", "p3", "p2", "p1")
NATIVE: Final = MappingProxyType({"yuv420p10le": "p010le", "yuv422p10le": "p210le"})
"""NVENC takes samples of more than 8 bits in the high bits, chroma interleaved."""


def options(default: str) -> Callable[[Quality, VideoInfo], dict[str, str]]:
    """Variable bit rate at constant quality without a ceiling: NVENC's nearest to crf."""

    def build(quality: Quality, _: VideoInfo) -> dict[str, str]:
        return {
            "preset": quality.preset or "p5",
            "tune": "hq",
            "rc": "vbr",
            "cq": default if quality.crf is None else f"{quality.crf:g}",
            "b": "0",
        }

    return build
