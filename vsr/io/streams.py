"""Chooses the video of a file and the decoder for it."""

import logging
from typing import Final, cast

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsr.errors import UnsupportedSourceError

_log = logging.getLogger(__name__)

_PICTURES: Final = Disposition.attached_pic | Disposition.timed_thumbnails
_WITH_ALPHA: Final = {"vp9": "libvpx-vp9", "vp8": "libvpx"}
"""FFmpeg's own decoders drop the second bitstream that holds alpha; libvpx's wrapper does not."""


def is_picture(stream: VideoStream) -> bool:
    """Whether a video stream is cover art or thumbnails and not a film."""
    return bool(stream.disposition & _PICTURES)


def is_lossy(stream: VideoStream) -> bool:
    """Whether a codec that predicts pictures from each other has left out detail of a film.

    H.264 and its like may be lossless too, which only their parameters tell; they hardly ever are.
    """
    codec = stream.codec_context.codec
    return codec.lossy and not codec.intra_only


def choose_video(container: InputContainer, name: str, index: int | None = None) -> VideoStream:
    """Finds the video to process: not a cover, flagged default, else the largest picture.

    Of several that are flagged, as in most mp4, the first is taken, as mpv and browsers do; the
    ffmpeg tool would take the largest.

    Args:
        container: The opened file.
        name: Of the file, for messages.
        index: A stream index that the user asked for.

    Raises:
        UnsupportedSourceError: There is no video, or none with that index, or no decoder for it.
    """
    films = [stream for stream in container.streams.video if not is_picture(stream)]
    if index is not None:
        films = [stream for stream in container.streams.video if stream.index == index]
        if not films:
            found = ", ".join(str(stream.index) for stream in container.streams.video) or "none"
            msg = f"{name} has no video stream {index}; its video streams: {found}"
            raise UnsupportedSourceError(msg)
    if not films:
        covers = " (only a cover picture)" if container.streams.video else ""
        msg = f"{name} has no video stream{covers}; there is nothing to upscale"
        raise UnsupportedSourceError(msg)
    flagged = [stream for stream in films if stream.disposition & Disposition.default]
    chosen = flagged[0] if flagged else max(films, key=_area)
    # PyAV gives a stream without decoder no context, whatever its types say.
    if cast(VideoCodecContext | None, chosen.codec_context) is None:
        msg = f"{name}: this build of FFmpeg has no decoder for video stream {chosen.index}"
        raise UnsupportedSourceError(msg)
    if len(films) > 1:
        _log.info("%s has %d videos; stream %d is taken", name, len(films), chosen.index)
    return chosen


def _area(stream: VideoStream) -> int:
    context = cast(VideoCodecContext | None, stream.codec_context)
    return context.width * context.height if context else 0


def has_alpha_layer(stream: VideoStream) -> bool:
    """Whether a VP8 or VP9 stream carries alpha as a second bitstream."""
    tagged = any(k.lower() == "alpha_mode" and v == "1" for k, v in stream.metadata.items())
    return stream.codec_context.name in _WITH_ALPHA and tagged


def _other_decoder(
    name: str, context: VideoCodecContext, hwaccel: HWAccel | None
) -> VideoCodecContext:
    made = cast(VideoCodecContext, av.CodecContext.create(name, "r", hwaccel))
    made.extradata = context.extradata
    return made


def decoder_for(
    stream: VideoStream,
    *,
    max_pixels: int,
    frame_threads: bool,
    threads: int | None,
    hwaccel: HWAccel | None = None,
) -> VideoCodecContext:
    """Prepares the codec context that decodes a stream; it opens with its first packet.

    Args:
        stream: The video.
        max_pixels: Larger pictures are refused by the decoder.
        frame_threads: Whether several frames may be decoded at once.
        threads: Their number; None leaves it to FFmpeg.
        hwaccel: Decoding device.
    """
    context = stream.codec_context
    if has_alpha_layer(stream):
        context = _other_decoder(_WITH_ALPHA[context.name], context, None)
    elif hwaccel is not None and context.name == "libdav1d":
        # The device decodes AV1 through FFmpeg's own decoder only.
        context = _other_decoder("av1", context, hwaccel)
    context.options = {"max_pixels": str(max_pixels)}
    context.thread_type = av.codec.context.ThreadType.AUTO if frame_threads else "SLICE"
    if threads is not None or not frame_threads:
        context.thread_count = threads or 1
    return context
