"""What describes a part of a job, and what became of it: values that can travel."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vsr.errors import UsageError
from vsr.io import encoders
from vsr.io.av_source import AvSource
from vsr.io.plan import OutputPlan
from vsr.io.segments import Segment
from vsr.planning import Prepared, UpscaleJob
from vsr.recording import plain
from vsr.types import ColorSpec, VideoInfo

_COMMON: Final = 8
"""Frames before a part that are compared with what its predecessor saw."""
_OWN: Final = frozenset({"source", "target", "options", "sink", "verify", "restart"})
"""Parts of a job that change nothing about its network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What all parts of a job share, as values that can travel to another machine.

    Attributes:
        job: The job, written by `vsr.recording.plain`.
        options: How its source is read, likewise.
        info: Of the source.
        color: Of the source, untagged parts filled in.
        picture: Of the output, in the format and colour that the encoder takes.
        encoder: Its id.
        container: FFmpeg's name.
        threads: Of the encoder, as it would choose them where the job began; None where its bytes
            do not depend on them.
    """

    job: Any
    options: Any
    info: VideoInfo
    color: ColorSpec
    picture: VideoInfo
    encoder: str
    container: str
    threads: int | None = None

    @property
    def kind(self) -> str:
        """Equal for jobs that can share a network on its device."""
        asked = {name: value for name, value in self.job.items() if name not in _OWN}
        info, picture = self.info, self.picture
        return repr((
            sorted(asked.items()),
            (info.width, info.height, info.format, info.rotation, self.color),
            (picture.width, picture.height, picture.format, picture.color),
            picture.frame_count == 1,
        ))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which frames.

    Attributes:
        number: Of the segment, from 0.
        times: Of its frames in ticks of the source; None if they are not known.
        before: Times of the frames before it that are looked at as well.
        first: Time of the film's first frame.
        following: Time of the frame behind it; None at the end.
    """

    number: int
    times: tuple[int, ...] | None = None
    before: tuple[int, ...] = ()
    first: int = 0
    following: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A finished part.

    Attributes:
        number: Of the segment.
        segment: What is known of its file; None if the film ends before it.
        data: The file's content; empty where that lies in a shared place.
        parcel: Its name there.
        before: Digest of the frames before it; empty if none were looked at.
        after: Digest of its last frames, those that the next part looks at.
        ended: Whether no frame follows.
        begun: How the upscaler computed at its beginning, from `way_of`.
        way: And at its end.
        damaged: Frames that were concealed, from the beginning of the film on.
        reused: Frames that got the result of the one before.
        seconds: What it took.
        warnings: What was warned of meanwhile.
    """

    number: int
    segment: Segment | None
    data: bytes = field(default=b"", repr=False)
    parcel: str = ""
    before: str = ""
    after: str = ""
    ended: bool
    begun: Mapping[str, Any]
    way: Mapping[str, Any]
    damaged: int = 0
    reused: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """A part that cannot be decoded by the times of its frames: the film must be counted out.

    Attributes:
        number: Of the segment.
        reason: Why, for people.
    """

    number: int
    reason: str


def recipe_of(job: UpscaleJob, prepared: Prepared) -> Recipe:
    """Writes down what parts of a job need.

    Raises:
        UsageError: The output is pictures, which have no segments.
    """
    plan, source = prepared.plan, prepared.source
    if not isinstance(plan, OutputPlan):
        msg = f"{job.target} is pictures, which have no segments: make a film, or use one machine"
        raise UsageError(msg)
    options = source.options if isinstance(source, AvSource) else job.options
    if isinstance(source, AvSource):
        options = replace(options, stream=source.stream_index)
    picture = replace(prepared.picture, format=plan.format, color=plan.color)
    return Recipe(
        job=plain(job),
        options=plain(options),
        info=source.info,
        color=prepared.color,
        picture=picture,
        encoder=plan.encoder.id,
        container=plan.container.name,
        threads=encoders.own_threads(plan.encoder, picture, plan.options.quality),
    )


def common_frames(segment: int) -> int:
    """How many frames a part and its predecessor both look at, for segments of so many frames."""
    return min(_COMMON, segment)
