"""Writes a video file: the upscaled picture, and every other stream of the source around it.

Order of events: the plan is checked, the first frame fixes by how much all streams move (usually by
nothing), the header is written, packets of the other streams follow those of the picture, and
`finish` renames the file into place.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import Final, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from av.stream import Disposition, Stream
from av.video.frame import PictureType
from av.video.stream import VideoStream

from vsr.errors import ContainerError, EncoderError, SinkError, VerificationError
from vsr.io import matroska
from vsr.io.atomic import PartialFile, faulty, sink_error
from vsr.io.color import tag_frame
from vsr.io.encoders import native_format, open_context
from vsr.io.formats import ffmpeg_name, from_planes
from vsr.io.plan import OutputPlan, StreamPlan
from vsr.io.remux import Remuxer, Trim, file_tags, stream_tags
from vsr.io.tracks import AnyPacket
from vsr.types import Frame, VideoInfo

_log = logging.getLogger(__name__)

_BUFFER: Final = 1 << 20
_PRIMING: Final = Fraction(1, 5)
"""Audio that starts at most so many seconds before zero is an encoder's run-up, which players
discard; more than that only where the source marks it so.
"""
_TIMESCALE: Final = 10_000
"""FFmpeg's mov muxer doubles a track's time scale until it is at least this."""
_WORDY: Final = 1 << 31
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

    Raises:
        SinkError: The file cannot be made.
        SourceError: The source cannot be opened again.
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
    ) -> None:
        self._plan = plan
        self._judge = judge
        self._picture = replace(picture, format=plan.format, color=plan.color)
        self._threads = threads
        self._written = self._muxed = 0
        self._durations: dict[int, int] = {}
        self._extras: dict[int, matroska.TrackExtras] = {}
        self._lost: set[str] = set()
        self._output: OutputContainer | None = None
        self._video: VideoStream | None = None
        self._file = PartialFile(plan.path, overwrite=plan.options.overwrite)
        self._remuxer: Remuxer | None = None
        try:
            if source is not None:
                self._remuxer = Remuxer(
                    source, plan.streams, trim, allow_url=plan.options.allow_url
                )
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Encodes one frame, and muxes what of the other streams belongs before it.

        Raises:
            SinkError: Another size or format than planned, or the disk is full.
        """
        self._check(frame)
        if self._output is None:
            self._begin(frame)
        self._encode(frame)

    def _check(self, frame: Frame) -> None:
        picture = self._picture
        got = f"{frame.width}x{frame.height} {ffmpeg_name(frame.format)}"
        want = f"{picture.width}x{picture.height} {ffmpeg_name(picture.format)}"
        if got != want:
            msg = f"frame {self._written} is {got}, the output was opened for {want}"
            raise SinkError(msg)
        for kind in frame.side_data.keys() & _LOST.keys() - self._lost:
            self._lost.add(kind)
            _log.warning("%s", _LOST[kind])

    # ---- opening

    def _begin(self, frame: Frame) -> None:
        plan, container = self._plan, self._plan.container
        times = self._remuxer.first_times() if self._remuxer else {}
        self._shift = self._common_shift(frame.seconds, times)
        output = av.open(
            self._file,
            "w",
            format=container.name,
            container_options=self._muxer_options(),
            buffer_size=_BUFFER,
        )
        self._output = output
        self._ticks = round(self._shift / self._picture.time_base)
        plans = plan.streams or (
            StreamPlan(index=0, kind="video", codec=plan.encoder.codec, action="encode"),
        )
        try:
            for stream in plans:
                self._add(stream, output, times.get(stream.index))
            self._tell(output)
            output.start_encoding()
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._failure(error, f"{container.name} refuses the streams") from error

    def _add(self, plan: StreamPlan, output: OutputContainer, first: Fraction | None) -> None:
        if plan.action == "encode":
            self._add_picture(plan, output)
        elif self._remuxer is not None:
            source = self._remuxer.input.streams[plan.index]
            run_up = -(first + self._shift) if first is not None else Fraction(0)
            delay = self._delay(plan, source, run_up)
            added = self._remuxer.add(plan, output, self._shift, delay)
            if delay and added is not None:
                nanoseconds = round(run_up * 1_000_000_000)
                self._reserve(added, matroska.TrackExtras(codec_delay=nanoseconds))

    def _delay(self, plan: StreamPlan, source: Stream, run_up: Fraction) -> Fraction:
        """By how much an audio track that begins before zero moves beyond all others.

        Matroska has no times below zero: its element CodecDelay takes the movement back. The muxer
        does so by itself where the source tells the encoder's padding, as Opus does.
        """
        tick = self._plan.container.tick
        if plan.action != "copy" or plan.kind != "audio" or tick is None:
            return Fraction(0)
        context = cast("AudioCodecContext", source.codec_context)
        rate = int(context.sample_rate) or 1
        missing = run_up - Fraction(context.initial_padding, rate)
        return missing if missing > tick else Fraction(0)

    def _add_picture(self, plan: StreamPlan, output: OutputContainer) -> None:
        picture, encoder = self._picture, self._plan.encoder
        made = cast("VideoStream", output.add_stream(encoder.codec, rate=picture.frame_rate or 25))
        context = made.codec_context
        if self._threads is not None:
            context.thread_count = self._threads
        if tag := encoder.tag.get(self._plan.container.name):
            context.codec_tag = tag
        open_context(encoder, picture, self._plan.options.quality, context=context)
        made.time_base = picture.time_base
        if picture.rotation:
            made.set_display_rotation(picture.rotation)
        if self._remuxer is not None:
            source = self._remuxer.input.streams[plan.index]
            made.metadata.update(stream_tags(source, encoded=True))
            made.disposition = source.disposition
        else:
            made.disposition = Disposition.default
        self._video = made
        if self._plan.container.tick is not None:
            aspect = picture.sample_aspect
            display = matroska.display_size(picture.width, picture.height, aspect)
            extras = matroska.TrackExtras(display=display if aspect != 1 else None, hdr=picture.hdr)
            self._reserve(made, extras)

    def _reserve(self, stream: Stream, extras: matroska.TrackExtras) -> None:
        """Leaves room in a Matroska track's entry for what the muxer cannot be told."""
        if not extras.needed:
            return
        title = stream.metadata.get("title")
        stream.metadata["title"] = matroska.placeholder(stream.index, title)
        self._extras[stream.index] = replace(extras, title=title)

    def _tell(self, output: OutputContainer) -> None:
        """Tags and chapters of the whole file."""
        if self._remuxer is None:
            return
        source = self._remuxer.input
        output.metadata.update(file_tags(source))
        output.set_chapters(self._remuxer.chapters(self._shift))

    def _common_shift(self, first: Fraction, times: dict[int, Fraction]) -> Fraction:
        """By how much all streams move so that none begins before zero; usually 0."""
        audio = {plan.index for plan in self._plan.streams if plan.kind == "audio"}
        marked = self._remuxer.run_ups if self._remuxer else set()
        run_ups = {i for i in audio & times.keys() if times[i] >= -_PRIMING or i in marked}
        if min([first, *(time for i, time in times.items() if i not in run_ups)]) >= 0:
            return Fraction(0)
        earliest = min([first, *times.values()])
        unit = _common_multiple(
            self._picture.time_base, self._plan.container.tick or self._picture.time_base
        )
        unit = unit if unit <= _PRIMING else self._picture.time_base
        shift = -(earliest // unit) * unit
        _log.warning("times begin at %.3f s: all streams move by %.3f s", earliest, shift)
        return shift

    def _muxer_options(self) -> dict[str, str]:
        options = {"fflags": "+bitexact", "max_interleave_delta": "500000"}
        name = self._plan.container.name
        if name in ("matroska", "webm"):
            return {**options, "default_mode": "passthrough"}
        scale = self._picture.time_base.denominator
        while scale < _TIMESCALE:
            scale *= 2
        # in the default unit of 1 ms an edit list could not say exactly when a track begins
        options["movie_timescale"] = str(min(scale, _WORDY - 1))
        flags = ["+write_colr"]
        if self._plan.options.fragmented:
            flags += ["frag_keyframe", "delay_moov", "default_base_moof"]
        elif self._plan.options.faststart:
            flags += ["faststart"]
        if self._has_foreign_tags():
            flags += ["use_metadata_tags"]
        return {**options, "movflags": "+".join(flags)}

    def _has_foreign_tags(self) -> bool:
        """Whether the file has tags that the usual mp4 tags have no words for.

        The general form holds any tag, but not the cover, which then wins.
        """
        known = self._plan.container.tags
        if self._remuxer is None or known is None:
            return False
        foreign = sorted(key for key in file_tags(self._remuxer.input) if key.lower() not in known)
        cover = any(p.kind == "video" and p.action == "copy" for p in self._plan.streams)
        if foreign and cover:
            _log.warning("%s holds no tags %s beside a cover", self._plan.container.name, foreign)
        return bool(foreign) and not cover

    # ---- writing

    def _encode(self, frame: Frame) -> None:
        picture, video = self._picture, self._video
        made = from_planes(frame)
        tag_frame(made, picture.color)
        native = native_format(self._plan.encoder, picture.format)
        if made.format.name != native:
            made = made.reformat(format=native)
        pts, duration = self._timed(frame)
        made.pts, made.time_base = pts, picture.time_base
        made.pict_type = PictureType.NONE
        self._durations[pts] = duration
        self._written += 1
        if video is not None:
            self._guarded(video, made)

    def _timed(self, frame: Frame) -> tuple[int, int]:
        base = self._picture.time_base
        scale = frame.time_base / base
        return round(frame.pts * scale) + self._ticks, round(frame.duration * scale)

    def _guarded(self, video: VideoStream, frame: av.VideoFrame | None) -> None:
        try:
            packets = video.encode(frame)
        except av.error.FFmpegError as error:
            reason = error.strerror or error
            msg = f"{self._plan.encoder.id} failed at frame {self._written}: {reason}"
            raise EncoderError(msg) from error
        for packet in packets:
            self._mux_picture(packet)

    def _mux_picture(self, packet: AnyPacket) -> None:
        base = self._picture.time_base
        if packet.pts is not None:
            packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
        at = packet.dts if packet.dts is not None else packet.pts
        if self._remuxer is not None and at is not None:
            self._mux(self._remuxer.until(at * base))
        self._mux([packet])
        self._muxed += 1

    def _mux(self, packets: Iterable[AnyPacket]) -> None:
        output = self._output
        if output is None:
            return
        for packet in packets:
            try:
                output.mux(packet)
            except (av.error.FFmpegError, ValueError, OSError) as error:
                raise self._failure(error, "a packet was refused") from error
            if self._file.error is not None:
                raise sink_error(self._plan.path, self._file.error)

    def _failure(self, error: Exception, what: str) -> SinkError:
        cause = self._file.error or error
        if isinstance(cause, OSError) and not isinstance(cause, av.error.FFmpegError):
            return sink_error(self._plan.path, cause)
        detail = str(getattr(cause, "strerror", None) or cause).splitlines()[0]
        return ContainerError(f"{self._plan.path}: {what}: {detail}; try -o FILE.mkv")

    # ---- closing

    def finish(self) -> None:
        """Flushes everything, checks the number of frames, and gives the file its name.

        Raises:
            SinkError: No frame was written, frames got lost, or the disk is full.
        """
        try:
            self._finish()
        finally:
            self.abort()

    def _finish(self) -> None:
        output, video = self._output, self._video
        if output is None or video is None:
            msg = f"no frame came, so {self._plan.path} was not written: the source has no picture"
            raise SinkError(msg)
        self._guarded(video, None)
        if self._remuxer is not None:
            self._mux(self._remuxer.rest())
        try:
            output.close()
            if self._extras:
                matroska.amend(self._file, self._extras)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._failure(error, "the file could not be completed") from error
        if self._muxed != self._written:
            name = self._plan.encoder.id
            msg = f"{self._written} frames were written, but {self._muxed} came out of {name}"
            raise SinkError(msg)
        if self._judge is not None:
            self._judged(self._judge)
        self._file.commit()

    def _judged(self, judge: Callable[[Path, int], None]) -> None:
        """Hours of work that are not right get another name, not the bin."""
        try:
            judge(Path(self._file.name), self._written)
        except VerificationError:
            self._file.target = faulty(self._plan.path)
            self._file.commit(overwrite=True)
            raise

    def abort(self) -> None:
        """Leaves nothing behind; safe after any failure and after `finish`."""
        if self._remuxer is not None:
            self._remuxer.close()
            self._remuxer = None
        output, self._output, self._video = self._output, None, None
        self._file.discard()
        if output is not None:
            self._close_quietly(output)

    @staticmethod
    def _close_quietly(output: OutputContainer) -> None:
        """Frees a muxer whose file is gone already, which is all it could complain about."""
        try:
            output.close()
        except (av.error.FFmpegError, ValueError, OSError) as error:
            _log.debug("while abandoning: %s", error)


def _common_multiple(a: Fraction, b: Fraction) -> Fraction:
    """The least number that is a whole multiple of both."""
    numerator = a.numerator * b.numerator // gcd(a.numerator, b.numerator)
    return Fraction(numerator, gcd(a.denominator, b.denominator))
