"""Writes NUT (raw pictures) and Matroska (FFV1) into a pipe, without loss and without going back.

Every frame leaves as soon as it is written, in NUT; a Matroska cluster leaves with the next frame.
The other streams follow in the order in which they were read.
"""

import logging
from dataclasses import replace
from typing import Final, Literal, cast

import av
from av.container import OutputContainer
from av.stream import Stream
from av.video.frame import PictureType
from av.video.stream import VideoStream

from vsr.errors import ContainerError, SinkError
from vsr.io import encoders
from vsr.io.color import tag_frame
from vsr.io.encoders import native_format
from vsr.io.ends import ByteSink
from vsr.io.formats import ffmpeg_name, from_planes
from vsr.io.remux import file_tags, stream_tags
from vsr.io.stream_source import StreamSource
from vsr.io.tracks import AnyPacket, CopyTrack, Track, copied_stream
from vsr.types import Frame, VideoInfo

_log = logging.getLogger(__name__)

type StreamFormat = Literal["nut", "matroska"]

_OPTIONS: Final = {"fflags": "+bitexact", "flush_packets": "1", "max_interleave_delta": "500000"}
_MUXERS: Final = {"nut": {"write_index": "0"}, "matroska": {"default_mode": "passthrough"}}
"""NUT's index would grow with the length."""
_NO_TAG: Final = frozenset({"yuv440p10le", "yuv440p12le", "ya16le"})
"""Raw formats that NUT has no tag for."""
_CARRIED: Final = ("audio", "subtitle", "data")


class StreamSink:
    """A `FrameSink` that muxes into a pipe; the header leaves at once.

    Args:
        output: Where to.
        format: Of the stream.
        picture: Of the output.
        source: Whose other streams come along, if it has any.

    Raises:
        ContainerError: The format cannot hold the picture.
        OSError: The reader has gone.
    """

    def __init__(
        self,
        output: ByteSink,
        format: StreamFormat,  # noqa: A002 - the field's own word
        picture: VideoInfo,
        source: StreamSource | None = None,
    ) -> None:
        self._output, self._picture, self._source = output, picture, source
        self._format = format
        self._encoder = encoders.get("ffv1")
        name = ffmpeg_name(picture.format)
        self._raw = format == "nut"
        if name in _NO_TAG or not (self._raw or picture.format in self._encoder.formats):
            msg = f"{format} cannot hold {name} without loss: use -f rawvideo"
            raise ContainerError(msg)
        self._name = name if self._raw else native_format(self._encoder, picture.format)
        self._written = 0
        self._durations: dict[int, int] = {}
        self._tracks: dict[int, Track] = {}
        muxing = _OPTIONS | _MUXERS[format]
        self._container: OutputContainer | None = av.open(
            output, "w", format=format, container_options=muxing
        )
        try:
            self._video = self._add_picture(self._container)
            self._add_others(self._container)
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._failure(error) from error

    def _add_picture(self, container: OutputContainer) -> VideoStream:
        picture = self._picture
        codec = "rawvideo" if self._raw else self._encoder.codec
        made = cast("VideoStream", container.add_stream(codec, rate=picture.frame_rate or 25))
        if self._raw:
            encoders.configure(
                made.codec_context, replace(self._encoder, native={}), picture, encoders.Quality()
            )
            made.codec_context.options = {}
        else:
            made.codec_context.thread_count = 1  # frame threads would hold frames back
            encoders.open_context(
                self._encoder, picture, encoders.Quality(), context=made.codec_context
            )
        made.time_base = picture.time_base
        if picture.sample_aspect != 1:
            aspect = f"{picture.sample_aspect.numerator}/{picture.sample_aspect.denominator}"
            _log.warning(
                "%s in a pipe does not tell the pixels' aspect: give -vf setsar=%s to ffmpeg",
                self._format,
                aspect,
            )
        if picture.rotation:
            made.set_display_rotation(picture.rotation)
        if self._source is not None:
            made.metadata.update(stream_tags(self._source.video, encoded=True))
        return made

    def _add_others(self, container: OutputContainer) -> None:
        if self._source is None:
            return
        container.metadata.update(file_tags(self._source.container))
        dropped = []
        for stream in self._source.container.streams:
            if stream.index == self._source.video.index:
                continue
            made = self._carried(stream, container)
            if made is None:
                dropped.append(f"#{stream.index} ({stream.type})")
            else:
                self._tracks[stream.index] = CopyTrack(stream, made, 0 * self._picture.time_base)
        if dropped:
            _log.warning("%s holds no stream %s here: left out", self._format, ", ".join(dropped))

    @staticmethod
    def _carried(stream: Stream, container: OutputContainer) -> Stream | None:
        if stream.type not in _CARRIED:
            return None
        try:
            made = copied_stream(stream, container)
        except ContainerError as error:
            _log.debug("stream %d: %s", stream.index, error)
            return None
        made.metadata.update(stream_tags(stream))
        made.disposition = stream.disposition
        return made

    def write(self, frame: Frame) -> None:
        """Muxes one frame, and what of other streams has been read before it.

        Raises:
            SinkError: The muxer refuses it.
            OSError: The reader has gone, or the disk is full.
        """
        made = from_planes(frame)
        tag_frame(made, self._picture.color)
        if made.format.name != self._name:
            made = made.reformat(format=self._name)
        scale = frame.time_base / self._picture.time_base
        made.pts, made.time_base = round(frame.pts * scale), self._picture.time_base
        made.pict_type = PictureType.NONE
        self._durations[made.pts] = round(frame.duration * scale)
        self._written += 1
        self._mux_others()
        self._encode(made)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            packets = self._video.encode(frame)
        except av.error.FFmpegError as error:
            raise self._failure(error) from error
        for packet in packets:
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
            self._mux(packet)

    def _mux_others(self) -> None:
        for packet in self._source.aside() if self._source is not None else ():
            track = self._tracks.get(packet.stream.index)
            for ready in track.feed(packet) if track is not None else ():
                self._mux(ready)

    def _mux(self, packet: AnyPacket) -> None:
        if self._container is None:
            msg = "a frame came after the stream was closed"
            raise SinkError(msg)
        try:
            self._container.mux(packet)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._failure(error) from error
        if self._output.error is not None:
            raise self._output.error

    def _failure(self, error: Exception) -> Exception:
        """The failure of the output, which libav reports late or as another, comes first."""
        if self._output.error is not None:
            return self._output.error
        detail = str(getattr(error, "strerror", None) or error).splitlines()[0]
        return SinkError(f"{self._format} refuses frame {self._written}: {detail}")

    def finish(self) -> None:
        """Flushes, and ends the stream or gives the file its name.

        Raises:
            SinkError: The muxer fails.
        """
        self._encode(None)
        self._mux_others()
        for track in self._tracks.values():
            for packet in track.flush():
                self._mux(packet)
        container, self._container = self._container, None
        if container is not None:
            try:
                container.close()
            except (av.error.FFmpegError, ValueError, OSError) as error:
                raise self._failure(error) from error
        self._output.commit()

    def abort(self) -> None:
        """Leaves no file behind; what went through a pipe stays there."""
        self._output.discard()
        container, self._container = self._container, None
        if container is not None:
            try:
                container.close()
            except (av.error.FFmpegError, ValueError, OSError) as error:
                _log.debug("while abandoning: %s", error)
