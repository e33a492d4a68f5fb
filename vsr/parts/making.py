"""Makes one part after another, with the network kept ready."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from vsr.flow import flow
from vsr.io import encoders
from vsr.io.atomic import sink_error
from vsr.io.containers import container_of
from vsr.io.plan import OutputPlan
from vsr.io.segmenting import PartEncoder
from vsr.io.segments import Segment, SegmentWriter
from vsr.jobs import upscaler_for
from vsr.manifest import collected
from vsr.parts.frames import Frames, Taken, UnfitError
from vsr.parts.values import Done, Part, Recipe, Unfit
from vsr.planning import UpscaleJob
from vsr.recording import from_plain
from vsr.resuming import way_of
from vsr.types import Frame, VideoInfo

if TYPE_CHECKING:
    from vsr.engine.loading import Model
    from vsr.engine.stream import FrameUpscaler

type Upscalers = dict[tuple[int, str, str], "FrameUpscaler"]
"""Those that are ready, by model, kind of job, and how they compute."""


class PartMaker:
    """Makes the parts of one job, and keeps the network ready between them.

    Args:
        recipe: From `recipe_of`.
        model: The network.
        device: Where it runs, if that is not what the job says.
        threads: Of the encoder; as the recipe says if None.
        upscalers: Where ready ones are kept, for other jobs of the same kind.

    Raises:
        EncoderError: The encoder is not there.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: "Model",
        *,
        device: str | None = None,
        threads: int | None = None,
        upscalers: Upscalers | None = None,
    ) -> None:
        job: UpscaleJob = from_plain(recipe.job)
        self._job = job if device is None else replace(job, device=device)
        self._recipe, self._model = recipe, model
        self._threads = recipe.threads if threads is None else threads
        self._plan = _plan(recipe, self._job)
        self._upscalers = {} if upscalers is None else upscalers
        self._way: Mapping[str, Any] = {}
        self._frames = Frames(self._job, from_plain(recipe.options), recipe)

    def ready(self, way: Mapping[str, Any]) -> "FrameUpscaler":
        """Puts the network on its device, unless it is there.

        Args:
            way: How to compute, from `way_of`; chosen here if empty.

        Raises:
            DeviceError: The device is not there.
        """
        wanted = dict(way or self._way)
        key = self._key(wanted)
        if not wanted or key not in self._upscalers:
            recipe = self._recipe
            upscaler = upscaler_for(
                self._job,
                self._model,
                (recipe.info, recipe.color),
                (recipe.picture, recipe.picture.format, recipe.picture.color),
                frames=recipe.picture.frame_count,
                alike=wanted,
            )
            wanted = wanted or way_of(upscaler)
            key = self._key(wanted)
            self._upscalers[key] = upscaler
        self._way = wanted
        upscaler = self._upscalers[key]
        upscaler.part = self._job.segment
        return upscaler

    def _key(self, way: Mapping[str, Any]) -> tuple[int, str, str]:
        return id(self._model), self._recipe.kind, repr(sorted(way.items()))

    @property
    def way(self) -> Mapping[str, Any]:
        """How it computes; empty before the network is ready."""
        return self._way

    def make(self, part: Part, way: Mapping[str, Any] | None = None) -> Done | Unfit:
        """Makes one part.

        Args:
            part: Which.
            way: How to compute; chosen here if empty.

        Raises:
            VsrError: As a whole run would.
        """
        try:
            with collected() as warned, TemporaryDirectory(prefix="vsr-part-") as scratch:
                done = self._made(part, way or {}, Path(scratch))
                return replace(done, warnings=tuple(warned))
        except UnfitError as unfit:
            return Unfit(number=part.number, reason=str(unfit))
        except BaseException:
            self._frames.close()
            raise

    def _made(self, part: Part, way: Mapping[str, Any], scratch: Path) -> Done:
        upscaler = self.ready(way)
        began, begun, reused = time.perf_counter(), dict(self._way), upscaler.reused
        taken = Taken(part.number, self._job.segment)
        sought = part.times is not None
        frames = self._frames.of(part, taken)
        picture = self._recipe.picture
        sink = _Sink(self._plan, picture, scratch / "packets", self._threads)
        try:
            flow(frames, upscaler, sink, (picture.width, picture.height), None, lambda _: None)
            sink.finish()
            data = sink.path.read_bytes() if sink.segment else b""
        finally:
            sink.abort()
        after = way_of(upscaler)
        if after["precision"] != begun["precision"]:
            self._upscalers.pop(self._key(begun), None)  # it computes in another way now
        return Done(
            number=part.number,
            segment=sink.segment,
            data=data,
            before=taken.before.hexdigest() if part.before else "",
            after=taken.after.hexdigest(),
            ended=part.following is None if sought else taken.ended,
            begun=begun,
            way={**begun, "precision": after["precision"]},
            damaged=0 if sought else self._frames.damaged,
            reused=upscaler.reused - reused,
            seconds=time.perf_counter() - began,
        )

    def close(self) -> None:
        """Lets go of the source."""
        self._frames.close()


def _plan(recipe: Recipe, job: UpscaleJob) -> OutputPlan:
    """As much of the job's plan as an encoder needs."""
    return OutputPlan(
        path=job.target,
        container=container_of(job.target, recipe.container),
        encoder=encoders.choose(recipe.encoder, recipe.container, recipe.picture.format),
        format=recipe.picture.format,
        color=recipe.picture.color,
        bake_rotation=False,
        streams=(),
        options=job.sink,
    )


class _Sink:
    """A `FrameSink` of one segment; its encoder opens with the first frame."""

    def __init__(
        self, plan: OutputPlan, picture: VideoInfo, path: Path, threads: int | None
    ) -> None:
        self.path, self.segment = path, cast("Segment | None", None)
        self._plan, self._picture, self._threads = plan, picture, threads
        self._encoder: PartEncoder | None = None

    def write(self, frame: Frame) -> None:
        """Encodes one frame."""
        if self._encoder is None:
            try:
                writer = SegmentWriter(self.path)
            except OSError as error:
                raise sink_error(self.path, error) from error
            self._encoder = PartEncoder(self._plan, self._picture, writer, self._threads)
        self._encoder.write(frame)

    def finish(self) -> None:
        """Gets the last packets out of the encoder."""
        if self._encoder is not None:
            self.segment = self._encoder.finish()

    def abort(self) -> None:
        """Removes the file; safe at any time."""
        if self._encoder is not None:
            self._encoder.discard()
