"""VMAF and XPSNR as libavfilter computes them, frame by frame.

VMAF (Li et al. 2016, https://github.com/Netflix/vmaf) comes from libvmaf with the models that are
built into it: `vmaf_v0.6.1`, and `vmaf_v0.6.1neg` that gives no credit for sharpening, which a
super-resolution network would otherwise win points with. Both look at luma alone. XPSNR (Helmrich
et al. 2020, ITU-T H-series Supplement) weights errors by what the eye would see there; luma counts
four times as much as each chroma plane, as its authors pool them.
"""

import contextlib
import gc
import json
import math
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, cast

import av
from av.filter import filters_available
from av.filter.context import FilterContext

from vsr.errors import SourceError, ToolError, UsageError
from vsr.io.formats import ffmpeg_name, from_planes
from vsr.types import Frame, PixelFormat

type Meter = Literal["vmaf", "vmaf-neg", "xpsnr"]

_MODELS: Final = {"vmaf": "version=vmaf_v0.6.1", "vmaf-neg": "version=vmaf_v0.6.1neg"}
_SAMPLINGS: Final = ((1, 1), (1, 0), (0, 0))
_DEPTHS: Final = (8, 10, 12)
_SMALLEST: Final = 16
_TICK: Final = Fraction(1, 25)
_CEILING: Final = 100.0


def available(meter: Meter) -> bool:
    """Whether this build of FFmpeg has the filter."""
    return _filter_of(meter) in filters_available


def _filter_of(meter: Meter) -> str:
    return "libvmaf" if meter in _MODELS else meter


class QualityFilter:
    """Compares a film with its original, pair by pair of frames.

    Args:
        meter: What is measured.
        first: A frame of the original; all others must have its size. Whatever is not YUV of 8, 10
            or 12 bits in 4:2:0, 4:2:2 or 4:4:4 is converted, the result always to the original's
            layout, matrix and range.

    Raises:
        ToolError: This FFmpeg was built without the filter.
        UsageError: The picture is too small.
    """

    def __init__(self, meter: Meter, first: Frame) -> None:
        if not available(meter):
            msg = f"PyAV's FFmpeg has no filter {_filter_of(meter)}: leave {meter} out of --metrics"
            raise ToolError(msg)
        if min(first.width, first.height) < _SMALLEST:
            msg = (
                f"{meter} needs pictures of at least {_SMALLEST}x{_SMALLEST} pixels, got "
                f"{first.width}x{first.height}: leave it out of --metrics"
            )
            raise UsageError(msg)
        self.meter: Meter = meter
        self._size = (first.width, first.height)
        self._format = _measurable(first.format)
        self._color = first.color.resolved(first.width, first.height, "yuv")
        self._scores: list[float] = []
        self._count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="vsr-quality-")
        self._graph: av.filter.Graph | None = None
        self._result, self._reference, self._output = self._built()

    def _built(self) -> tuple[FilterContext, FilterContext, FilterContext]:
        # Without a callback FFmpeg's threads cannot wait for Python's lock (PyAV issue 751).
        av.logging.set_level(None)
        graph = self._graph = av.filter.Graph()
        width, height = self._size
        inputs = [
            graph.add_buffer(
                width=width, height=height, format=ffmpeg_name(self._format), time_base=_TICK
            )
            for _ in range(2)
        ]
        if self.meter == "xpsnr":
            judge = graph.add("xpsnr")
        else:
            judge = graph.add(
                "libvmaf",
                model=_MODELS[self.meter],
                log_path=str(self._log),
                log_fmt="json",
                n_threads="1",
            )
        output = graph.add("buffersink")
        for pad, buffer in enumerate(inputs):
            buffer.link_to(judge, 0, pad)
        judge.link_to(output)
        graph.configure()
        return inputs[0], inputs[1], output

    @property
    def _log(self) -> Path:
        return Path(self._folder.name) / "log.json"

    def push(self, reference: Frame, result: Frame) -> None:
        """Takes a pair of frames; times are the caller's business.

        Raises:
            UsageError: A frame is of another size than the first.
        """
        for place, frame in ((self._result, result), (self._reference, reference)):
            made = self._converted(frame)
            made.pts, made.time_base = self._count, _TICK
            place.push(made)
        self._count += 1
        self._collect()

    def _converted(self, frame: Frame) -> av.VideoFrame:
        if (frame.width, frame.height) != self._size:
            msg = (
                f"{self.meter} compares frames of one size: got {frame.width}x{frame.height} after "
                f"{self._size[0]}x{self._size[1]}"
            )
            raise UsageError(msg)
        color = frame.color.resolved(frame.width, frame.height, frame.format.family)
        wanted = self._color
        made = from_planes(frame)
        if frame.format == self._format and (color.matrix, color.full_range) == (
            wanted.matrix,
            wanted.full_range,
        ):
            return made
        return made.reformat(
            format=ffmpeg_name(self._format),
            src_colorspace=color.matrix or None,
            dst_colorspace=wanted.matrix or None,
            src_color_range=2 if color.full_range else 1,
            dst_color_range=2 if wanted.full_range else 1,
            threads=1,
        )

    def _collect(self) -> None:
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                frame = cast("av.VideoFrame", self._output.pull())
                if self.meter == "xpsnr":
                    self._scores.append(_pooled(frame.metadata))

    def finish(self) -> list[float]:
        """Gives one score a pair: VMAF from 0 to 100, or XPSNR in dB, infinite for equal frames.

        Raises:
            SourceError: The filter lost frames.
        """
        self._result.push(None)
        self._reference.push(None)
        self._collect()
        self._graph = None
        del self._result, self._reference, self._output
        if self.meter != "xpsnr":
            gc.collect()  # libvmaf writes its log when the graph goes, and graphs are in cycles
            text = self._log.read_text("utf-8") if self._log.exists() else '{"frames": []}'
            frames = json.loads(text)["frames"]
            self._scores = [float(entry["metrics"]["vmaf"]) for entry in frames]
        self._folder.cleanup()
        if len(self._scores) != self._count:
            msg = (
                f"{self.meter} gave {len(self._scores)} scores for {self._count} frames: "
                "leave it out of --metrics"
            )
            raise SourceError(msg)
        return self._scores


def _measurable(layout: PixelFormat) -> PixelFormat:
    """The nearest layout that both filters take."""
    shifts = (layout.chroma_w, layout.chroma_h)
    if layout.family != "yuv" or shifts not in _SAMPLINGS:
        shifts = (0, 0)
    bits = next((depth for depth in _DEPTHS if depth >= layout.bits), _DEPTHS[-1])
    return PixelFormat(family="yuv", bits=bits, chroma_w=shifts[0], chroma_h=shifts[1])


def _pooled(metadata: dict[str, str]) -> float:
    """Luma four times, chroma once each; a plane without error counts as 100 dB beside others."""
    planes = [float(metadata[f"lavfi.xpsnr.xpsnr.{plane}"]) for plane in "yuv"]
    if all(plane == math.inf for plane in planes):
        return math.inf
    luma, blue, red = (min(plane, _CEILING) for plane in planes)
    return (4 * luma + blue + red) / 6
