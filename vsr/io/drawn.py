"""Draws a film to measure with where the user gives none."""

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

_RATE: Final = 25


def draw_film(path: Path, *, width: int, height: int, frames: int) -> Path:
    """Writes discs and stripes that move over a soft ground, by x264.

    Args:
        path: Of the file; its suffix names the container.
        width: Of the picture.
        height: Of the picture.
        frames: How many.

    Returns:
        The path.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    with av.open(str(path), "w") as output:
        options = {"preset": "ultrafast", "crf": "12"}
        stream = output.add_stream("libx264", _RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            angle = number / 9
            centre = width * (0.5 + 0.3 * np.cos(angle)), height * (0.5 + 0.3 * np.sin(angle))
            rings = np.sin(np.hypot(x - centre[0], y - centre[1]) / 3)
            stripes = np.sign(np.sin((x + 2 * number + y / 2) / 7))
            gray = 120 + 50 * rings + 25 * stripes + 20 * (x / width)
            picture = np.stack([gray, gray * 0.9, 255 - gray], 2).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
