"""Frames as arrays for people, by the same colour code that the pipeline uses."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.engine.color import Picture
from vsr.engine.route import Route
from vsr.engine.staging import HostLane
from vsr.models.interpolation import Interpolation
from vsr.types import ColorSpec, Frame, PixelFormat


def frame_to_rgb(frame: Frame) -> NDArray[np.uint8]:
    """Converts a frame to 8-bit RGB with its own matrix, range and chroma siting.

    Args:
        frame: Any format; alpha is left out.

    Returns:
        uint8 of shape (H, W, 3).
    """
    width, height, fmt = frame.width, frame.height, frame.format
    color = frame.color.resolved(width, height, fmt.family)
    source = Picture(width=width, height=height, format=fmt, color=color)
    target = replace(
        source, format=PixelFormat(family="rgb"), color=ColorSpec(matrix=0, full_range=True)
    )
    route = Route(Interpolation("bicubic", 1), source, target)
    with torch.inference_mode():
        planes, _ = HostLane(source, 1).submit([frame], route).collect()
    green, blue, red = planes[0]
    return np.stack([red, green, blue], axis=-1).astype(np.uint8, copy=False)
