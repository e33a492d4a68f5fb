"""Encodes a film in segments: each by an encoder of its own, into a file of its own."""

from fractions import Fraction
from typing import Final, cast

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from vsr.errors import EncoderError, SinkError
from vsr.io.atomic import sink_error
from vsr.io.color import tag_frame
from vsr.io.encoders import native_format, open_context
from vsr.io.formats import from_planes
from vsr.io.journal import JobFolder
from vsr.io.plan import OutputPlan
from vsr.io.segments import Piece, SegmentWriter
from vsr.io.tracks import AnyPacket
from vsr.types import Frame, VideoInfo

_ADDITION: Final = "matroska_block_additional"


class SegmentEncoder:
    """Takes frames in order, and leaves finished segments in a job's folder.

    Args:
        plan: Of the output.
        picture: Of the output: its format and colour are those that the frames have.
        folder: Where to; what is finished there already is not asked for again.
        threads: Of the encoder; its own choice if None.
    """

    def __init__(
        self, plan: OutputPlan, picture: VideoInfo, folder: JobFolder, threads: int | None = None
    ) -> None:
        self._plan, self._picture = plan, picture
        self._folder, self._threads = folder, threads
        self._context: VideoCodecContext | None = None
        self._writer: SegmentWriter | None = None
        self._durations: dict[int, int] = {}
        self._first = self._given = 0
        self.frames = folder.journal.frames

    def write(self, frame: Frame) -> None:
        """Encodes one frame.

        Raises:
            EncoderError: The encoder fails.
            SinkError: The disk is full.
        """
        base = self._picture.time_base
        pts = round(frame.pts * (frame.time_base / base))
        if self._context is None:
            self._begin(pts)
        made = from_planes(frame)
        tag_frame(made, self._picture.color)
        native = native_format(self._plan.encoder, self._picture.format)
        if made.format.name != native:
            made = made.reformat(format=native)
        # an encoder sees its segment begin at 0, wherever that lies in the film
        made.pts, made.time_base = pts - self._first, base
        made.pict_type = PictureType.NONE
        self._durations[made.pts] = round(frame.duration * (frame.time_base / base))
        self._given += 1
        self.frames += 1
        self._encode(made)
        if self._given == self._folder.frames:
            self._end()

    def _begin(self, pts: int) -> None:
        self._writer = self._folder.begin()
        self._first, self._given = pts, 0
        encoder = self._plan.encoder
        context = cast("VideoCodecContext", av.CodecContext.create(encoder.codec, "w"))
        context.flags |= Flags.global_header
        if self._threads is not None:
            context.thread_count = self._threads
        quality = self._plan.options.quality
        self._context = open_context(encoder, self._picture, quality, context=context)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        context, writer = self._context, self._writer
        if context is None or writer is None:
            return
        try:
            packets = context.encode(frame)
        except av.error.FFmpegError as error:
            reason = error.strerror or error
            msg = f"{self._plan.encoder.id} failed at frame {self.frames}: {reason}"
            raise EncoderError(msg) from error
        try:
            for packet in packets:
                writer.add(self._piece(packet))
        except OSError as error:
            raise sink_error(self._plan.path, error) from error

    def _piece(self, packet: AnyPacket) -> Piece:
        pts = packet.pts
        if pts is None or pts not in self._durations:
            msg = f"{self._plan.encoder.id} gave a packet at {pts}, where no frame was"
            raise SinkError(msg)
        addition = packet.get_sidedata(_ADDITION) if packet.has_sidedata(_ADDITION) else b""
        return Piece(
            pts=pts + self._first,
            duration=self._durations.pop(pts),
            key=packet.is_keyframe,
            data=bytes(packet),
            addition=bytes(addition),
        )

    def _end(self) -> None:
        """Finishes the segment and enters it into the journal."""
        self._encode(None)
        writer = self._writer
        if writer is None:
            return
        if writer.frames != self._given:
            name = self._plan.encoder.id
            msg = f"{self._given} frames were written, but {writer.frames} came out of {name}"
            raise SinkError(msg)
        try:
            segment = writer.finish()
        except OSError as error:
            raise sink_error(self._plan.path, error) from error
        self._context = self._writer = None
        self._folder.add(segment)

    def finish(self) -> None:
        """Finishes the last segment.

        Raises:
            EncoderError: The encoder fails.
            SinkError: Frames got lost, or the disk is full.
        """
        if self._context is not None:
            self._end()
        if not self._folder.journal.complete:
            self._folder.complete()

    def abort(self) -> None:
        """Forgets the segment that is not finished; safe at any time."""
        self._context = None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()


def seconds_of_first(folder: JobFolder, time_base: Fraction) -> Fraction:
    """When the first picture of all segments is presented."""
    return folder.journal.segments[0].first * time_base
