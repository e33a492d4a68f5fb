"""RGB arrays to PNG data, through the encoders that pictures are written with."""

import base64
from fractions import Fraction

from vsr.errors import EncoderError
from vsr.io.chunks import PictureTags
from vsr.io.picture_encoders import PictureEncoder
from vsr.judging.viewing import Rgb, frame_of
from vsr.types import VideoInfo


def png(picture: Rgb) -> bytes:
    """A PNG file of a picture of shape (H, W, 3).

    Raises:
        EncoderError: The encoder fails.
    """
    frame = frame_of(picture)
    info = VideoInfo(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        color=frame.color,
        time_base=Fraction(1, 25),
    )
    return PictureEncoder(".png", info).encode(frame, PictureTags(), _refuse)


def data_url(picture: Rgb) -> str:
    """The picture within an address, for pages that need no other file."""
    return f"data:image/png;base64,{base64.b64encode(png(picture)).decode('ascii')}"


def _refuse(text: str) -> None:
    msg = f"a picture that has no tags lost one: {text}"
    raise EncoderError(msg)
