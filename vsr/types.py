"""The values that travel between the parts: frames, formats, colour tags. Numpy only.

Times are integers in units of a `Fraction` time base; no float ever holds a time.
Colour code points are the integers of ITU-T H.273, which FFmpeg and VapourSynth share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vsr.errors import UsageError

type Family = Literal["yuv", "gray", "rgb"]
type Plane = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float16] | NDArray[np.float32]
"""Shape (height, width), samples of a row adjacent in memory, rows possibly padded; 9 to 16 bits
in uint16, low bits; floating-point samples as `PixelFormat` says."""

UNSPECIFIED: Final = 2
"""H.273 code point "unspecified" of matrix, primaries and transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How a frame's planes hold its picture: always planar, native byte order.

    Attributes:
        family: `yuv` (planes Y, U, V), `gray` (Y) or `rgb` (planes G, B, R, as FFmpeg's gbrp).
        bits: Significant bits of a sample: 8 to 16, or of floating-point samples 16 or 32.
        chroma_w: log2 of the horizontal chroma subsampling.
        chroma_h: log2 of the vertical chroma subsampling.
        alpha: Whether a full-size alpha plane comes last.
        floating: Whether samples are floating-point numbers (half or single precision), normalised
            whatever the range says: luma, RGB and alpha from 0 to 1, chroma from -0.5 to 0.5.
    """

    family: Family
    bits: int = 8
    chroma_w: int = 0
    chroma_h: int = 0
    alpha: bool = False
    floating: bool = False

    @property
    def dtype(
        self,
    ) -> np.dtype[np.uint8] | np.dtype[np.uint16] | np.dtype[np.float16] | np.dtype[np.float32]:
        """Numpy type of a sample."""
        if self.floating:
            return np.dtype(np.float16) if self.bits == 16 else np.dtype(np.float32)
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype(np.uint16)

    @property
    def plane_count(self) -> int:
        """Number of planes, alpha included."""
        return (1 if self.family == "gray" else 3) + self.alpha

    @property
    def subsampled(self) -> bool:
        """Whether the chroma planes are smaller than the luma plane."""
        return self.chroma_w > 0 or self.chroma_h > 0

    def plane_shapes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """(height, width) of every plane of a picture; subsampled sides round up."""
        full = (height, width)
        chroma = (-((-height) >> self.chroma_h), -((-width) >> self.chroma_w))
        colour = {"gray": (full,), "rgb": (full,) * 3, "yuv": (full, chroma, chroma)}[self.family]
        return colour + (full,) * self.alpha

    def frame_bytes(self, width: int, height: int) -> int:
        """Bytes of one picture without row padding."""
        return self.dtype.itemsize * sum(h * w for h, w in self.plane_shapes(width, height))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorSpec:
    """What the sample values mean.

    Attributes:
        matrix: H.273 matrix coefficients (0 RGB, 1 BT.709, 5 and 6 BT.601, 9 BT.2020, 2
            unspecified).
        primaries: H.273 colour primaries.
        transfer: H.273 transfer characteristics (16 PQ, 18 HLG).
        full_range: True for full, False for limited (studio) range, None where untagged.
        siting: FFmpeg's AVChromaLocation: 0 unspecified, 1 left, 2 centre, 3 top left, 4 top, 5
            bottom left, 6 bottom.
    """

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full_range: bool | None = None
    siting: int = 0

    def resolved(self, width: int, height: int, family: Family) -> "ColorSpec":
        """Fills what is untagged with what players assume.

        YUV: BT.709 if the picture is HD (width ≥ 1280 or height > 576), else BT.601;
        limited range; chroma sited left. Gray: the same, but full range, as swscale takes it.
        RGB: full range.
        """
        if family == "rgb":
            return replace(self, matrix=0, full_range=self.full_range is not False)
        high = width >= 1280 or height > 576
        return replace(
            self,
            matrix=self.matrix if self.matrix not in (0, UNSPECIFIED, 3) else (1 if high else 6),
            full_range=family == "gray" if self.full_range is None else self.full_range,
            siting=self.siting or 1,
        )


class SupportsDLPack(Protocol):
    """An array that other libraries may take without a copy (DLPack, the array API's exchange)."""

    def __dlpack__(self) -> object:
        """A capsule that keeps the memory alive; whoever takes it waits for nothing."""
        ...

    def __dlpack_device__(self) -> tuple[int, int]:
        """Kind of device (1 host, 2 CUDA), and its number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlanes:
    """A 4:2:0 picture in a device's memory, as video engines lay it out: NV12, P010 or P016.

    Samples of more than 8 bits lie in the high bits of 16. On CUDA they are there for whatever is
    queued behind the work that is on the legacy default stream now.

    Attributes:
        luma: Shape (height, width).
        chroma: Shape (height / 2, width / 2, 2): Cb and Cr in turn.
        width: Luma samples in a row, even.
        height: Rows of luma samples, even.
    """

    luma: SupportsDLPack
    chroma: SupportsDLPack
    width: int
    height: int

    @property
    def device(self) -> tuple[int, int]:
        """Kind (1 host, 2 CUDA) and number of the device."""
        return self.luma.__dlpack_device__()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture with its exact time.

    Attributes:
        planes: Read-only by agreement; a frame may share memory with the decoder's. Empty where
            the picture lies on a device.
        format: Layout of the planes.
        color: Meaning of the samples, as tagged in the source.
        pts: Presentation time in units of `time_base`.
        duration: In units of `time_base`; 0 if unknown.
        time_base: Seconds per tick.
        side_data: Payloads bound to this picture (closed captions, dynamic HDR) by FFmpeg
            side-data name.
        surface: The picture in the place of `planes`, if it lies on a device; only who asked a
            source for such frames gets them.

    Raises:
        UsageError: Both planes and a surface, so that nobody could say which one holds.
    """

    planes: tuple[Plane, ...]
    format: PixelFormat
    color: ColorSpec
    pts: int
    duration: int = 0
    time_base: Fraction
    side_data: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    surface: DevicePlanes | None = None

    def __post_init__(self) -> None:
        if self.surface is not None and self.planes:
            msg = "a frame has its picture in planes or on a device, got both: leave one out"
            raise UsageError(msg)

    @property
    def width(self) -> int:
        """Luma samples in a row."""
        return self.surface.width if self.surface else int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        """Rows of luma samples."""
        return self.surface.height if self.surface else int(self.planes[0].shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of its samples, on the host or a device."""
        if self.surface is not None:
            return self.format.frame_bytes(self.width, self.height)
        return sum(plane.nbytes for plane in self.planes)

    @property
    def seconds(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdr:
    """Static HDR10 metadata in the units of SMPTE ST 2086 and CTA-861.3.

    Attributes:
        mastering: FFmpeg's AVMasteringDisplayMetadata payload, or None.
        light_level: (MaxCLL, MaxFALL) in cd/m², or None.
    """

    mastering: bytes | None = None
    light_level: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What is known of a video before its first frame.

    Attributes:
        width: Stored (unrotated) width.
        height: Stored height.
        format: Layout of the frames that the source yields.
        color: Tags as found, untagged parts unspecified.
        time_base: Unit of the frames' times.
        frame_rate: Nominal rate, None if unknown; informative only, times rule.
        frame_count: From headers or sizes; an estimate that nothing relies on.
        sample_aspect: Width of a pixel over its height; 1 if unknown.
        rotation: Degrees anticlockwise by which a player must turn the picture: 0, 90, 180 or 270.
        hdr: Static HDR metadata if any.
        lossy: Whether a codec has left out detail that predicts pictures from each other, as those
            do by which films are spread.
    """

    width: int
    height: int
    format: PixelFormat
    color: ColorSpec
    time_base: Fraction
    frame_rate: Fraction | None = None
    frame_count: int | None = None
    sample_aspect: Fraction = Fraction(1)
    rotation: Literal[0, 90, 180, 270] = 0
    hdr: Hdr | None = None
    lossy: bool = False


type Stage = Literal["decode", "device", "encode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        frames: Frames written, those of an earlier run included.
        total: Expected frames, None if unknown.
        seconds: Wall time since the first frame was asked for.
        size: Width and height of the output.
        bottleneck: The stage that the others waited for lately, None before that is known.
        begun: Frames that an earlier run wrote.
    """

    frames: int
    total: int | None
    seconds: float
    size: tuple[int, int]
    bottleneck: Stage | None = None
    begun: int = 0

    @property
    def fps(self) -> float:
        """Frames per second so far."""
        return (self.frames - self.begun) / self.seconds if self.seconds > 0 else 0.0
