"""Which frames each segment has, as the times of packets tell it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vsr.io.av_source import AvSource
from vsr.io.inspection import UNTIMED, read_packets
from vsr.io.stills import StillsSource
from vsr.parts import Part, common_frames
from vsr.planning import Prepared, UpscaleJob

_SEEKABLE: Final = frozenset({"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "nut"})
"""Formats whose packets keep their times after a seek; in others it would gain nothing."""

type Ticks = NDArray[np.int64]


def film_times(job: UpscaleJob, prepared: Prepared) -> Ticks | None:
    """The time of every frame of a job, in ticks of its source, without decoding.

    Args:
        job: Whose start and end count.
        prepared: Its source.

    Returns:
        None where packets do not tell: fields, missing or equal times, damage, a format that
        cannot be sought in, an address. What they tell wrongly, such as hidden frames, shows when
        parts are made.

    Raises:
        SourceError: The source cannot be read.
    """
    source = prepared.source
    if isinstance(source, StillsSource):
        return np.arange(source.info.frame_count or 0, dtype=np.int64)
    if not isinstance(source, AvSource) or isinstance(job.source, str):
        return None
    filtered = source.interlaced or job.options.deinterlace == "on"
    if filtered or source.damage or source.still or source.format_name not in _SEEKABLE:
        return None
    contents = read_packets(source.path, source.stream_index)
    log = contents.logs[source.stream_index]
    ticks = np.sort(np.array(log.times, np.int64))
    if contents.errors or not len(ticks) or ticks[0] == UNTIMED:
        return None
    if ticks[0] != source.first_pts or (np.diff(ticks) <= 0).any():
        return None
    return _within(ticks, job, prepared)


def _within(ticks: Ticks, job: UpscaleJob, prepared: Prepared) -> Ticks:
    """The part that an excerpt keeps, as `AvSource` does."""
    tick, past = prepared.info.time_base, ticks - ticks[0]
    kept = np.ones(len(ticks), bool)
    if job.options.start is not None:
        kept &= past >= -(-job.options.start // tick)
    if job.options.end is not None:
        kept &= past < -(-job.options.end // tick)
    return ticks[kept]


def part_of(
    number: int, times: Ticks | None, segment: int, first: int, *, common: bool = True
) -> Part:
    """Describes one part.

    Args:
        number: Of the segment.
        times: From `film_times`.
        segment: Frames in each but the last.
        first: Time of the film's first frame.
        common: Whether frames before it are looked at as well.
    """
    if times is None:
        return Part(number=number)
    begin, end = number * segment, (number + 1) * segment
    before = max(0, begin - common_frames(segment)) if common else begin
    return Part(
        number=number,
        times=tuple(times[begin:end].tolist()),
        before=tuple(times[before:begin].tolist()),
        first=first,
        following=int(times[end]) if end < len(times) else None,
    )
