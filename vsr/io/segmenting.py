"""Encodes a film in segments: each by an encoder of its own, into a file of its own.

While an encoder gives the last pictures of its segment, the next one begins already. Pictures that
lie on a device go to NVENC as they are, and to any other encoder through host memory.
"""

import logging
from collections.abc import Iterator
from typing import Final, cast

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from vsr.errors import EncoderError, SinkError, VsrError
from vsr.io.atomic import sink_error
from vsr.io.color import tag_frame
from vsr.io.encoders import configure, native_format, open_context
from vsr.io.formats import from_planes
from vsr.io.hardware import CUDA, from_surface
from vsr.io.journal import JobFolder
from vsr.io.plan import OutputPlan
from vsr.io.segments import Piece, Segment, SegmentWriter
from vsr.io.tracks import AnyPacket
from vsr.pipeline import Prefetch
from vsr.types import DevicePlanes, Frame, VideoInfo

_log = logging.getLogger(__name__)

_ADDITION: Final = "matroska_block_additional"


class PartEncoder:
    """Encodes one segment.

    An encoder that opens on a device needs its first picture for that, and opens with it.

    Args:
        plan: Of the output.
        picture: Of the output: its format and colour are those that the frames have.
        writer: Takes the packets.
        threads: Of the encoder; its own choice if None.
        on_device: Whether to take pictures from a CUDA device; those of the host are then copied
            there.

    Attributes:
        frames: Written so far.

    Raises:
        EncoderError: The encoder refuses the picture.
    """

    def __init__(
        self,
        plan: OutputPlan,
        picture: VideoInfo,
        writer: SegmentWriter,
        threads: int | None,
        *,
        on_device: bool = False,
    ) -> None:
        self.frames = 0
        self._plan, self._picture, self._writer = plan, picture, writer
        self._first: int | None = None
        self._durations: dict[int, int] = {}
        encoder = plan.encoder
        context = cast("VideoCodecContext", av.CodecContext.create(encoder.codec, "w"))
        context.flags |= Flags.global_header
        if threads is not None:
            context.thread_count = threads
        if on_device:
            configure(context, encoder, picture, plan.options.quality)
            context.pix_fmt = "cuda"
        else:
            open_context(encoder, picture, plan.options.quality, context=context)
        self._context, self._on_device = context, on_device

    def write(self, frame: Frame) -> None:
        """Encodes one frame.

        Raises:
            EncoderError: The encoder fails.
            SinkError: The disk is full.
        """
        base = self._picture.time_base
        pts = round(frame.pts * (frame.time_base / base))
        if self._first is None:
            self._first = pts
        made = from_surface(frame) if frame.surface else from_planes(frame)
        tag_frame(made, self._picture.color)
        native = native_format(self._plan.encoder, self._picture.format)
        if made.format.name not in (native, "cuda" if self._on_device else native):
            made = made.reformat(format=native)
        # an encoder sees its segment begin at 0, wherever that lies in the film
        made.pts, made.time_base = pts - self._first, base
        made.pict_type = PictureType.NONE
        self._durations[made.pts] = round(frame.duration * (frame.time_base / base))
        self.frames += 1
        self._encode(made)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            packets = self._context.encode(frame)
        except av.error.FFmpegError as error:
            reason = error.strerror or error
            msg = f"{self._plan.encoder.id} failed at frame {self.frames} of a segment: {reason}"
            raise EncoderError(msg) from error
        try:
            for packet in packets:
                self._writer.add(self._piece(packet))
        except OSError as error:
            raise sink_error(self._plan.path, error) from error

    def _piece(self, packet: AnyPacket) -> Piece:
        pts = packet.pts
        if pts is None or pts not in self._durations:
            msg = f"{self._plan.encoder.id} gave a packet at {pts}, where no frame was"
            raise SinkError(msg)
        addition = packet.get_sidedata(_ADDITION) if packet.has_sidedata(_ADDITION) else b""
        return Piece(
            pts=pts + (self._first or 0),
            duration=self._durations.pop(pts),
            key=packet.is_keyframe,
            data=bytes(packet),
            addition=bytes(addition),
        )

    def finish(self) -> Segment:
        """Gets the last packets out of the encoder, and forces the file to the disk.

        Raises:
            EncoderError: The encoder fails.
            SinkError: Frames got lost, or the disk is full.
        """
        self._encode(None)
        if self._writer.frames != self.frames:
            name, count = self._plan.encoder.id, self._writer.frames
            msg = f"{self.frames} frames were written, but {count} came out of {name}"
            raise SinkError(msg)
        try:
            return self._writer.finish()
        except OSError as error:
            raise sink_error(self._plan.path, error) from error

    def discard(self) -> None:
        """Removes the file; safe at any time."""
        self._writer.discard()


class SegmentEncoder:
    """Takes frames in order, and leaves finished segments in a job's folder.

    Args:
        plan: Of the output.
        picture: Of the output: its format and colour are those that the frames have.
        folder: Where to; what is finished there already is not asked for again.
        threads: Of the encoder; its own choice if None.

    Attributes:
        frames: In the film so far, with those of an earlier run.
    """

    def __init__(
        self, plan: OutputPlan, picture: VideoInfo, folder: JobFolder, threads: int | None = None
    ) -> None:
        self.frames = folder.journal.frames
        self._plan, self._picture = plan, picture
        self._folder, self._threads = folder, threads
        self._part: PartEncoder | None = None
        self._ending: tuple[PartEncoder, Prefetch[Segment]] | None = None

    def write(self, frame: Frame) -> None:
        """Encodes one frame.

        Raises:
            EncoderError: The encoder fails.
            SinkError: The disk is full.
        """
        if self._ending is not None and not self._ending[1].idle():
            self._settle()
        if self._part is None:
            number = len(self._folder.journal.segments) + (self._ending is not None)
            writer = self._folder.begin(number)
            on_device = frame.surface is not None and takes_from_device(self._plan, frame.surface)
            self._part = PartEncoder(
                self._plan, self._picture, writer, self._threads, on_device=on_device
            )
        self._part.write(frame)
        self.frames += 1
        if self._part.frames == self._folder.frames:
            self._end()

    def _end(self) -> None:
        """Lets the encoder of this segment come to its end beside the next one's beginning."""
        self._settle()
        part, self._part = self._part, None
        if part is not None:
            self._ending = part, Prefetch(_finished(part), name="vsr-segment")

    def _settle(self) -> None:
        """Waits for the segment before, and enters it into the journal."""
        if self._ending is None:
            return
        part, ending = self._ending
        self._ending = None
        try:
            self._folder.add(next(ending))
        except BaseException:
            part.discard()
            raise
        finally:
            ending.close()

    def finish(self) -> None:
        """Finishes the last segment.

        Raises:
            EncoderError: The encoder fails.
            SinkError: Frames got lost, or the disk is full.
        """
        self._end()
        self._settle()
        if not self._folder.journal.complete:
            self._folder.complete()

    def abort(self) -> None:
        """Forgets the segment that was begun, not the one before it; safe at any time."""
        part, self._part = self._part, None
        if part is not None:
            part.discard()
        try:
            self._settle()
        except VsrError as error:  # the error that has led here, or a later one
            _log.debug("while abandoning: %s", error)


def takes_from_device(plan: OutputPlan, surface: DevicePlanes) -> bool:
    """Whether an encoder takes pictures from where this one lies."""
    return surface.device[0] == CUDA and plan.encoder.codec.endswith("_nvenc")


def _finished(part: PartEncoder) -> Iterator[Segment]:
    yield part.finish()
