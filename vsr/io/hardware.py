"""Pictures that stay in a GPU's memory on their way from the decoder and to the encoder.

PyAV hands decoded CUDA pictures out as DLPack arrays and takes such arrays as pictures for NVENC.
Before either is relied on, a tiny film goes that way; if it does not come back as it should,
pictures go through the host's memory as they always can, and one line says why.

FFmpeg and PyTorch must share one CUDA context. FFmpeg makes the device's primary one if it comes
first, and refuses to join it if PyTorch did (their flags differ); then it takes the context that is
current in the calling thread, which PyTorch's is once the thread has used the device.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from types import MappingProxyType
from typing import Final, cast

import av
import numpy as np
from av.codec.hwaccel import HWAccel, HWDevice
from av.video.codeccontext import VideoCodecContext
from av.video.frame import CudaContext, PictureType

from vsr.errors import EncoderError, VsrError
from vsr.io.encoders import Quality, configure, get
from vsr.io.formats import canonical_name, ffmpeg_name, layout_of, reformatted, to_planes
from vsr.types import ColorSpec, DevicePlanes, Frame, PixelFormat, Plane, VideoInfo

_log = logging.getLogger(__name__)

CUDA: Final = 2
"""DLPack's number of this kind of device."""
_LAYOUTS: Final = MappingProxyType({8: "nv12", 10: "p010le", 16: "p016le"})
"""By the bits of a sample."""
_FAILURES: Final = (
    av.error.FFmpegError, OSError, ValueError, TypeError, RuntimeError, MemoryError, VsrError,
)  # fmt: skip
"""What is raised where a driver, a codec or a layout is missing."""
_SIDE, _FRAMES = 256, 6
_FAR: Final = 6.0
"""Mean difference, in steps of 8 bits, that no encoder makes of a smooth picture."""


def surface_name(layout: PixelFormat) -> str | None:
    """FFmpeg's name of what holds a picture of this layout on a device; None if nothing does."""
    plain = layout.family == "yuv" and not (layout.alpha or layout.floating)
    if plain and (layout.chroma_w, layout.chroma_h) == (1, 1):
        return _LAYOUTS.get(layout.bits)
    return None


def samples_name(frame: av.VideoFrame) -> str:
    """FFmpeg's name of the format of a frame's samples, wherever they lie."""
    return frame.format.name if frame.sw_format is None else frame.sw_format.name


def on_host(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame itself if it is in the host's memory, else a copy there."""
    return frame if frame.sw_format is None else reformatted(frame, _planar(frame))


def _planar(frame: av.VideoFrame) -> str:
    return canonical_name(samples_name(frame))


def on_device(frame: av.VideoFrame) -> DevicePlanes | None:
    """The samples of a frame that lies on a CUDA device, not copied; they keep it alive.

    Returns:
        None for a frame on the host, and for a layout that DLPack cannot tell: other than 4:2:0, or
        with an odd side, of which PyAV would lose the last chroma samples.
    """
    if frame.format.name != "cuda" or samples_name(frame) not in _LAYOUTS.values():
        return None
    if frame.width % 2 or frame.height % 2:
        return None
    luma, chroma = frame.planes
    return DevicePlanes(luma=luma, chroma=chroma, width=frame.width, height=frame.height)


def picture_of(
    frame: av.VideoFrame, layout: PixelFormat, *, stays: bool
) -> tuple[tuple[Plane, ...], DevicePlanes | None]:
    """Views a decoded frame as planes on the host, or as a surface where it lies on a device.

    Args:
        frame: Of any kind.
        layout: Wanted.
        stays: Whether it may be left on the device.
    """
    surface = on_device(frame) if stays else None
    if surface is not None and layout_of(samples_name(frame)) == layout:
        return (), surface
    return to_planes(on_host(frame), layout), None


def from_surface(frame: Frame) -> av.VideoFrame:
    """FFmpeg's view of a frame whose picture lies on a device; it keeps the memory alive.

    All work on the samples must be done. They must lie in one block, chroma right behind luma: of a
    CUDA frame NVENC is told only where luma begins.

    Args:
        frame: With a surface.

    Raises:
        EncoderError: There is no picture on a device, or of a layout that none is given there.
    """
    surface, name = frame.surface, surface_name(frame.format)
    if surface is None or name is None:
        msg = f"no picture of {ffmpeg_name(frame.format)} lies on a device: give its planes instead"
        raise EncoderError(msg)
    kind, device = surface.device
    context = _cuda(device) if kind == CUDA else None
    return av.VideoFrame.from_dlpack(
        (surface.luma, surface.chroma), format=name, cuda_context=context
    )


@cache
def _context_options(device: int) -> MappingProxyType[str, str]:
    primary = {"primary_ctx": "1", "current_ctx": "0"}
    try:
        HWDevice("cuda", str(device), {**primary})
    except _FAILURES:
        return MappingProxyType({"primary_ctx": "0", "current_ctx": "1"})
    return MappingProxyType(primary)


@cache
def _cuda(device: int) -> CudaContext:
    current = _context_options(device)["current_ctx"] == "1"
    return CudaContext(device_id=device, primary_ctx=not current, current_ctx=current)


@cache
def present() -> bool:
    """Whether there is any CUDA device; without PyTorch, which takes seconds to say so."""
    try:
        HWDevice("cuda")
    except _FAILURES:
        return False
    return True


def owning(device: int) -> HWAccel:
    """A decoding device that leaves its pictures in its memory."""
    options: dict[str, object] = {**_context_options(device)}
    return HWAccel("cuda", str(device), options=options, is_hw_owned=True)


def works(device: int, encoder: str | None = None, layout: PixelFormat | None = None) -> bool:
    """Whether pictures can stay on a device; tried once, and one warning says why not.

    Args:
        device: Number of the CUDA device.
        encoder: Id of the encoder that shall take them there; None tries the decoder only.
        layout: Of the pictures; 4:2:0 of 8 bits by default.
    """
    layout = layout or _picture("nv12").format
    if layout.bits <= 10 and (name := surface_name(layout)) is not None:
        reason = fault(device, encoder, name)
    else:
        reason = f"no video engine takes {ffmpeg_name(layout)} there"
    if reason is not None:
        _tell(device, reason)
    return reason is None


@cache
def _tell(device: int, reason: str) -> None:
    _log.warning("pictures do not stay on cuda:%d but go through host memory: %s", device, reason)


@cache
def fault(device: int, encoder: str | None, name: str) -> str | None:
    """Why pictures cannot stay on a device, found by a tiny film; None if they can.

    Args:
        device: Number of the CUDA device.
        encoder: Id of the encoder that shall take them; None tries the decoder only.
        name: Layout on the device: `nv12` or `p010le`.
    """
    step = "the probe cannot be made"
    try:
        film = _film(name)
        expected = [_samples(frame) for frame in _decoded(film, None)]
        step = "the device cannot decode into its memory"
        frames = _decoded(film, owning(device))
        found = _fault_of_decoding(frames, expected)
        if found is None and encoder is not None:
            step = f"{encoder} does not take pictures there"
            found = _fault_of_encoding(_decoded(_encoded(frames, encoder, name), None), expected)
    except _FAILURES as error:
        found = str(error).partition("\n")[0] or type(error).__name__
    return None if found is None else f"{step}: {found}"


type _Pictures = list[tuple[Plane, ...]]


def _fault_of_decoding(frames: list[av.VideoFrame], expected: _Pictures) -> str | None:
    if [frame.format.name for frame in frames] != ["cuda"] * _FRAMES:
        return f"it gave {len(frames)} frames, not {_FRAMES} of format cuda"
    if _farthest([_samples(frame) for frame in frames], expected) != 0:
        return "its samples differ from the processor's"
    return None


def _fault_of_encoding(frames: list[av.VideoFrame], expected: _Pictures) -> str | None:
    if len(frames) != _FRAMES:
        return f"it gave {len(frames)} frames of {_FRAMES}"
    steps = 1 << (layout_of(samples_name(frames[0])).bits - 8)
    far = _farthest([_samples(frame) for frame in frames], expected) / steps
    return None if far <= _FAR else f"the picture is {far:.0f} steps off"


@dataclass(frozen=True, slots=True)
class _Film:
    codec: str
    packets: tuple[bytes, ...]


def _picture(name: str) -> VideoInfo:
    bits = 10 if name == "p010le" else 8
    return VideoInfo(
        width=_SIDE,
        height=_SIDE,
        format=PixelFormat(family="yuv", bits=bits, chroma_w=1, chroma_h=1),
        color=ColorSpec(matrix=1, primaries=1, transfer=1, full_range=False, siting=1),
        time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
    )


def _film(name: str) -> _Film:
    """Encodes smooth pictures that move, each plane another one."""
    picture = _picture(name)
    form = picture.format
    pictures = []
    for number in range(_FRAMES):
        made = av.VideoFrame(_SIDE, _SIDE, ffmpeg_name(form))
        for index, plane in enumerate(to_planes(made, form)):
            y, x = np.indices(plane.shape)
            wave = np.sin((x * (index + 1) + y * (3 - index)) / _SIDE * 6 + number / 3 + index)
            plane[...] = np.rint((128 + 80 * wave) * (1 << (form.bits - 8)))
        pictures.append(made)
    codec = "x264" if form.bits == 8 else "x265"
    return _Film("h264" if codec == "x264" else "hevc", _packets(pictures, codec, picture))


def _packets(
    frames: Iterable[av.VideoFrame], encoder: str, picture: VideoInfo, fmt: str | None = None
) -> tuple[bytes, ...]:
    chosen = get(encoder)
    context = cast("VideoCodecContext", av.CodecContext.create(chosen.codec, "w"))
    configure(context, chosen, picture, Quality())
    if fmt is not None:
        context.pix_fmt = fmt
    packets = []
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, picture.time_base
        frame.pict_type = PictureType.NONE
        packets += context.encode(frame)
    return tuple(bytes(packet) for packet in packets + context.encode(None))


def _encoded(frames: list[av.VideoFrame], encoder: str, name: str) -> _Film:
    """Encodes decoded frames from where they are."""
    picture = _picture(name)
    surfaces = [
        from_surface(
            Frame(
                planes=(),
                format=picture.format,
                color=picture.color,
                pts=number,
                time_base=picture.time_base,
                surface=on_device(frame),
            )
        )
        for number, frame in enumerate(frames)
    ]
    codec = {"h264_nvenc": "h264", "hevc_nvenc": "hevc", "av1_nvenc": "libdav1d"}
    return _Film(codec[get(encoder).codec], _packets(surfaces, encoder, picture, "cuda"))


def _decoded(film: _Film, accelerator: HWAccel | None) -> list[av.VideoFrame]:
    context = cast("VideoCodecContext", av.CodecContext.create(film.codec, "r", accelerator))
    frames: list[av.VideoFrame] = []
    for data in film.packets:
        frames += context.decode(av.Packet(data))
    return frames + context.decode(None)


def _samples(frame: av.VideoFrame) -> tuple[Plane, ...]:
    host = on_host(frame)
    return to_planes(host, layout_of(samples_name(host)))


def _farthest(got: _Pictures, expected: _Pictures) -> float:
    """The largest mean difference of any plane."""
    return max(
        float(np.abs(p.astype(np.float32) - q.astype(np.float32)).mean())
        for ours, theirs in zip(got, expected, strict=True)
        for p, q in zip(ours, theirs, strict=True)
    )
