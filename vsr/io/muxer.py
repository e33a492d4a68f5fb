"""Puts a file together: the encoded picture, and every other stream of the source around it.

Order of events: the time of the first frame fixes by how much all streams move (usually by
nothing), the header is written, and packets of the other streams follow those of the picture.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from math import gcd
from pathlib import Path
from typing import Final, Self, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vsr.errors import ContainerError, SinkError
from vsr.io import matroska
from vsr.io.atomic import PartialFile, sink_error
from vsr.io.encoders import open_context
from vsr.io.plan import OutputPlan, StreamPlan
from vsr.io.remux import Remuxer, Trim, file_tags, stream_tags
from vsr.io.tracks import AnyPacket
from vsr.types import VideoInfo

_log = logging.getLogger(__name__)

_BUFFER: Final = 1 << 20
_PRIMING: Final = Fraction(1, 5)
"""Audio that starts at most so many seconds before zero is an encoder's run-up, which players
discard; more than that only where the source marks it so.
"""
_TIMESCALE: Final = 10_000
"""FFmpeg's mov muxer doubles a track's time scale until it is at least this."""
_WORDY: Final = 1 << 31


class _Scratch(BytesIO):
    """A file that is thrown away."""

    error: OSError | None = None


class Muxer:
    """Writes one file with libav.

    Args:
        plan: From `plan_output`.
        picture: Of the output, in the plan's format and colour.
        source: Where the other streams come from, if from anywhere.
        trim: Start and end of the wanted part, in the source's own seconds.
        file: Where to; stays open.
        first: When the first picture is presented, in seconds of the source.
        warn: Whether to warn of what is changed.

    Raises:
        SinkError: The file cannot be made as planned.
        SourceError: The source cannot be opened again.
    """

    def __init__(
        self,
        plan: OutputPlan,
        picture: VideoInfo,
        source: Path | str | None,
        trim: Trim,
        file: PartialFile | _Scratch,
        first: Fraction,
        *,
        warn: bool = True,
    ) -> None:
        self._plan, self._picture, self._file = plan, picture, file
        self._level = logging.WARNING if warn else logging.DEBUG
        self._extras: dict[int, matroska.TrackExtras] = {}
        self._output: OutputContainer | None = None
        self._video: VideoStream | None = None
        self._remuxer: Remuxer | None = None
        try:
            if source is not None:
                url = plan.options.allow_url
                self._remuxer = Remuxer(source, plan.streams, trim, allow_url=url)
            self._open(first)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- opening

    def _open(self, first: Fraction) -> None:
        plan, container = self._plan, self._plan.container
        times = self._remuxer.first_times() if self._remuxer else {}
        self._shift = self._common_shift(first, times)
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
        if self._plan.container.tags is None:
            output.metadata.update(self._plan.tags)
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
        _log.log(self._level, "times begin at %.3f s: all streams move by %.3f s", earliest, shift)
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
            _log.log(
                self._level,
                "%s holds no tags %s beside a cover",
                self._plan.container.name,
                foreign,
            )
        return bool(foreign) and not cover

    # ---- writing

    def write(self, packet: AnyPacket) -> None:
        """Muxes an encoded picture, and what of the other streams belongs before it.

        Args:
            packet: With times in ticks of the picture, not yet moved.

        Raises:
            SinkError: The muxer refuses, or the disk is full.
        """
        video, base = self._video, self._picture.time_base
        if video is None or packet.pts is None or packet.dts is None:
            msg = "a packet without times came to the muxer: please report"
            raise SinkError(msg)
        packet.pts, packet.dts = packet.pts + self._ticks, packet.dts + self._ticks
        packet.time_base, packet.stream = base, video
        if self._remuxer is not None:
            self._mux(self._remuxer.until(packet.dts * base))
        self._mux([packet])

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

    def finish(self) -> None:
        """Writes what is left of the other streams, and completes the file.

        Raises:
            SinkError: The disk is full, or the muxer refuses.
        """
        output = self._output
        if output is None:
            return
        if self._remuxer is not None:
            self._mux(self._remuxer.rest())
        try:
            output.close()
            if self._extras:
                matroska.amend(self._file, self._extras)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._failure(error, "the file could not be completed") from error
        self._output = self._video = None

    def close(self) -> None:
        """Frees everything; harmless after `finish`.

        A file that is not finished must have been discarded before, so that libav has nothing to
        write any more.
        """
        if self._remuxer is not None:
            self._remuxer.close()
            self._remuxer = None
        output, self._output, self._video = self._output, None, None
        if output is not None:
            try:
                output.close()
            except (av.error.FFmpegError, ValueError, OSError) as error:
                _log.debug("while abandoning: %s", error)

    def _failure(self, error: Exception, what: str) -> SinkError:
        cause = self._file.error or error
        if isinstance(cause, OSError) and not isinstance(cause, av.error.FFmpegError):
            return sink_error(self._plan.path, cause)
        detail = str(getattr(cause, "strerror", None) or cause).splitlines()[0]
        return ContainerError(f"{self._plan.path}: {what}: {detail}; try -o FILE.mkv")


def rehearse(
    plan: OutputPlan, picture: VideoInfo, source: Path | str | None, trim: Trim, first: Fraction
) -> None:
    """Finds out, before hours of work, whether the container takes what is planned.

    Raises:
        SinkError: It does not.
        SourceError: The source cannot be opened again.
    """
    with _Scratch() as file:
        muxer = Muxer(plan, picture, source, trim, file, first)
        file.close()
        muxer.close()


def _common_multiple(a: Fraction, b: Fraction) -> Fraction:
    """The least number that is a whole multiple of both."""
    numerator = a.numerator * b.numerator // gcd(a.numerator, b.numerator)
    return Fraction(numerator, gcd(a.denominator, b.denominator))
