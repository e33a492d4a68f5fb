"""Makes one progressive picture of the two fields of a frame, with FFmpeg's bwdif.

`send_frame` keeps the number of frames. Times are not taken from the filter (it halves the time
base): the caller pairs outputs with inputs in order, which is exact.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final, Literal, cast

import av
from av.video.codeccontext import VideoCodecContext

from vsr.errors import SourceError, UnsupportedSourceError
from vsr.io.formats import canonical_name, ffmpeg_name, pixel_format, reformatted

_UNFLAGGED: Final = frozenset({
    "cfhd", "dnxhd", "ffv1", "ffvhuff", "huffyuv", "jpeg2000", "magicyuv", "mjpeg", "qtrle",
    "rawvideo", "utvideo", "v210",
})  # fmt: skip
"""Codecs whose decoders may leave the interlaced flag to the container's field order."""
_TOP_FIRST: Final = frozenset({2, 5})
_FIELDS: Final = frozenset({2, 3, 4, 5})
"""AVFieldOrder: 2 TT, 3 BB, 4 TB, 5 BT (coded first, displayed first)."""


def container_parity(context: VideoCodecContext) -> Literal["tff", "bff"] | None:
    """The field order where only the container knows it; None if frames tell, or progressive."""
    if context.name not in _UNFLAGGED or context.field_order not in _FIELDS:
        return None
    return "tff" if context.field_order in _TOP_FIRST else "bff"


class Deinterlacer:
    """Frames in, as many progressive frames out, in order, one frame later.

    Args:
        first: The first frame; the others must have its size and format.
        parity: Field order of every frame; None takes it from each frame's flags.
        every: Whether to filter frames that are flagged progressive too.

    Raises:
        UnsupportedSourceError: The picture is too small for the filter.
    """

    def __init__(
        self, first: av.VideoFrame, *, parity: Literal["tff", "bff"] | None, every: bool
    ) -> None:
        self._name = _filterable(first.format.name)
        graph = av.filter.Graph()
        graph.threads = 1
        self._graph = graph
        self._input = graph.add_buffer(
            width=first.width, height=first.height, format=self._name, time_base=Fraction(1, 1000)
        )
        last = self._input
        if parity:
            flag = graph.add("setfield", parity)
            last.link_to(flag)
            last = flag
        deint = "all" if every else "interlaced"
        bwdif = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={deint}")
        self._output = graph.add("buffersink")
        last.link_to(bwdif)
        bwdif.link_to(self._output)
        self._pushed = self._pulled = 0
        try:
            graph.configure()
        except av.error.FFmpegError as error:
            msg = (
                f"interlaced video of {first.width}x{first.height} is too small to deinterlace; "
                "at least 3x4 is needed"
            )
            raise UnsupportedSourceError(msg) from error

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Takes a frame and gives those that are ready."""
        if frame.format.name != self._name:
            frame = reformatted(frame, self._name)
        # The filter only needs rising times; the true ones stay with the caller.
        frame.pts, frame.time_base = self._pushed * 40, Fraction(1, 1000)
        self._pushed += 1
        self._input.push(frame)
        yield from self._ready()

    def finish(self) -> Iterator[av.VideoFrame]:
        """Gives the frames that are still inside.

        Raises:
            SourceError: The filter kept a frame for itself.
        """
        self._input.push(None)
        yield from self._ready()
        if self._pulled != self._pushed:
            msg = (
                f"deinterlacing made {self._pulled} frames of {self._pushed}; deinterlace the file "
                "with ffmpeg first"
            )
            raise SourceError(msg)

    def _ready(self) -> Iterator[av.VideoFrame]:
        with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                frame = self._output.pull()
                self._pulled += 1
                yield cast(av.VideoFrame, frame)


def _filterable(name: str) -> str:
    """The nearest format that bwdif takes: it knows gray in 8 and 16 bits only."""
    canonical = canonical_name(name)
    layout = pixel_format(canonical)
    if layout is None or layout.family != "gray":
        return name if pixel_format(name) is not None else canonical
    if layout.alpha:
        msg = f"interlaced video of format {name} cannot be deinterlaced; convert it first"
        raise UnsupportedSourceError(msg)
    return ffmpeg_name(replace(layout, bits=8 if layout.bits == 8 else 16))
