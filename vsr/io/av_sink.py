"""Writes a video file: the upscaled picture, and every other stream of the source around it.

Frames are encoded in segments that lie beside the target. When all are there, they are joined
without being encoded again, the other streams come around them, and the file gets its name.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from vsr.errors import SinkError, VerificationError
from vsr.io.additions import packets
from vsr.io.atomic import PartialFile, faulty
from vsr.io.formats import ffmpeg_name
from vsr.io.journal import KEEP_AFTER, JobFolder
from vsr.io.muxer import Muxer, rehearse
from vsr.io.plan import OutputPlan
from vsr.io.remux import Trim
from vsr.io.segmenting import SegmentEncoder
from vsr.io.segments import dated
from vsr.types import Frame, VideoInfo

_log = logging.getLogger(__name__)

_LOST: Final = {
    "A53_CC": "closed captions inside the picture are not carried over",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata is not carried over; static HDR10 metadata is",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata is not carried over; the picture below it is",
}
"""What is said once of payloads that no encoder here takes."""


class AvSink:
    """A `FrameSink` that encodes and muxes with libav.

    Args:
        plan: From `plan_output`.
        picture: Of the output, as given to `plan_output`; rotation 0 if it was baked.
        source: Where the other streams come from; an address only if the plan's options allow.
        trim: Start and end of the wanted part, in the source's own seconds.
        threads: Of the encoder; its own choice if None.
        judge: Called with the path of the finished file, before it gets its name, and the number
            of frames. A `VerificationError` lets the file get the name `faulty` instead.
        folder: Of the job, whose segments come first; one that is not kept by default.

    Raises:
        SinkError: The file cannot be made.
    """

    def __init__(
        self,
        plan: OutputPlan,
        picture: VideoInfo,
        source: Path | str | None,
        *,
        trim: Trim = (None, None),
        threads: int | None = None,
        judge: Callable[[Path, int], None] | None = None,
        folder: JobFolder | None = None,
    ) -> None:
        self._plan, self._source, self._trim = plan, source, trim
        self._judge = judge
        self._picture = replace(picture, format=plan.format, color=plan.color)
        self._lost: set[str] = set()
        self._folder = folder or JobFolder(plan.path, keep_after=KEEP_AFTER)
        self._encoder = SegmentEncoder(plan, self._picture, self._folder, threads)

    def write(self, frame: Frame) -> None:
        """Encodes one frame.

        Raises:
            SinkError: Another size or format than planned, the container refuses what is planned,
                or the disk is full.
            SourceError: The source cannot be opened again.
        """
        self._check(frame)
        if self._encoder.frames == 0:
            rehearse(self._plan, self._picture, self._source, self._trim, frame.seconds)
        self._encoder.write(frame)

    def _check(self, frame: Frame) -> None:
        picture = self._picture
        got = f"{frame.width}x{frame.height} {ffmpeg_name(frame.format)}"
        want = f"{picture.width}x{picture.height} {ffmpeg_name(picture.format)}"
        if got != want:
            msg = f"frame {self._encoder.frames} is {got}, the output was opened for {want}"
            raise SinkError(msg)
        for kind in frame.side_data.keys() & _LOST.keys() - self._lost:
            self._lost.add(kind)
            _log.warning("%s", _LOST[kind])

    def finish(self) -> None:
        """Joins all segments, and gives the file its name.

        Raises:
            SinkError: No frame was written, frames got lost, or the disk is full.
            SourceError: The source cannot be opened again.
            VerificationError: The judge found a fault.
        """
        try:
            if self._encoder.frames == 0:
                path = self._plan.path
                msg = f"no frame came, so {path} was not written: the source has no picture"
                raise SinkError(msg)
            self._encoder.finish()
            self._join()
        finally:
            self.abort()

    def _join(self) -> None:
        plan, journal = self._plan, self._folder.journal
        first = journal.segments[0].first * self._picture.time_base
        delay = max(segment.delay for segment in journal.segments)
        with PartialFile(plan.path, overwrite=plan.options.overwrite) as file:
            muxer = Muxer(plan, self._picture, self._source, self._trim, file, first, warn=False)
            try:
                for packet in packets(dated(self._folder.paths(), delay)):
                    muxer.write(packet)
                muxer.finish()
            except BaseException:
                file.discard()
                raise
            finally:
                muxer.close()
            self._commit(file)
        self._folder.remove()

    def _commit(self, file: PartialFile) -> None:
        """Gives the file its name; hours of work that are not right get another, not the bin."""
        try:
            if self._judge is not None:
                self._judge(Path(file.name), self._encoder.frames)
        except VerificationError:
            file.target = faulty(self._plan.path)
            file.commit(overwrite=True)
            self._folder.remove()
            raise
        file.commit()

    def abort(self) -> None:
        """Leaves nothing but finished segments of a job that can go on; safe at any time."""
        self._encoder.abort()
        self._folder.close()
