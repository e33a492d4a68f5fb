"""Planes ↔ the layouts of a GPU's video engines (NV12, P010, P016), by DLPack and without the host.

Those engines hold Cb and Cr in one plane, sample by sample in turn, and more than 8 bits in the
high bits of 16. The networks' ends want planes; taking them apart moves samples and nothing else.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, cast

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack, to_dlpack  # type: ignore[attr-defined]

from vsr.engine.color import Picture
from vsr.types import DevicePlanes, Frame, PixelFormat, Plane

_PITCH: Final = 256
"""Bytes that a row's length is a multiple of."""
_SMALLEST: Final = 64
_KINDS: Final = {"cpu": 1, "cuda": 2}


@dataclass(frozen=True, slots=True)
class _Array:
    """A tensor that is handed out as it is: all work on it has been waited for.

    PyTorch's own `__dlpack__` refuses devices other than the calling thread's current one.
    """

    tensor: Tensor

    def __dlpack__(self) -> object:
        return to_dlpack(self.tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        device = self.tensor.device
        return _KINDS[device.type], device.index or 0


def taken_apart(surface: DevicePlanes, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three planes of a surface, on its device.

    For 8 and 16 bits they are views that keep the surface's memory alive, for others they are new.

    Args:
        surface: What it holds must be there for the current stream.
        bits: Significant bits of a sample.
    """
    # as capsules: PyTorch would ask for synchronisation with a stream, which PyAV does not offer
    luma = from_dlpack(surface.luma.__dlpack__())
    chroma = from_dlpack(surface.chroma.__dlpack__())
    planes = (luma, chroma[..., 0], chroma[..., 1])
    if bits in (8, 16):
        return planes
    mask, shift = (1 << bits) - 1, 16 - bits
    # a shift of signed samples repeats the sign, which the mask removes; few kernels know uint16
    lowered = [((p.view(torch.int16) >> shift) & mask).view(torch.uint16) for p in planes]
    return lowered[0], lowered[1], lowered[2]


def host_planes(frame: Frame) -> tuple[Plane, ...]:
    """A frame's planes in the host's memory, copied there if they lie on a device."""
    if frame.surface is None:
        return frame.planes
    kind, number = frame.surface.device
    waiting: AbstractContextManager[object] = nullcontext()
    if kind == _KINDS["cuda"]:
        waiting = torch.cuda.stream(torch.cuda.default_stream(number))
    with waiting:
        planes = taken_apart(frame.surface, frame.format.bits)
        return tuple(cast("Plane", plane.cpu().numpy()) for plane in planes)


def showing(frame: Frame, result: tuple[Plane, ...] | DevicePlanes, picture: Picture) -> Frame:
    """A frame with another picture, wherever that lies; its time and side data stay."""
    if isinstance(result, DevicePlanes):
        shown = replace(frame, planes=(), surface=result)
    else:
        shown = replace(frame, planes=result, surface=None)
    return replace(shown, format=picture.format, color=picture.color)


def upload(frames: Sequence[Frame], views: tuple[Tensor, ...]) -> tuple[DevicePlanes, ...]:
    """Copies the surfaces among frames into a batch of planes, on the current stream.

    Args:
        frames: Of a batch; those without a surface are left out.
        views: The batch's planes (N, h, w); copies to other devices than the host's are queued.

    Returns:
        The surfaces; to be kept, so that no decoder writes over them, until the work on the current
        stream has passed this point.
    """
    for n, frame in enumerate(frames):
        if frame.surface is not None:
            planes = taken_apart(frame.surface, frame.format.bits)
            for view, plane in zip(views, planes, strict=True):
                view[n].copy_(plane, non_blocking=view.is_cuda)
    return tuple(frame.surface for frame in frames if frame.surface is not None)


def enter(device: torch.device) -> None:
    """Makes PyTorch's context of a GPU the calling thread's, where FFmpeg can find and join it."""
    torch.cuda.set_device(device)
    torch.zeros(1, device=device)


def fits(picture: Picture) -> bool:
    """Whether a picture can be left on a device for its encoder: 4:2:0 of 8 or 10 bits, even."""
    form: PixelFormat = picture.format
    plain = form.family == "yuv" and not (form.alpha or form.floating)
    sampled = (form.chroma_w, form.chroma_h) == (1, 1) and form.bits in (8, 10)
    sides = (picture.width, picture.height)
    return plain and sampled and all(side % 2 == 0 and side >= _SMALLEST for side in sides)


class SurfacePool:
    """Memory for pictures that an encoder takes from the device.

    A picture's memory is used again when nobody holds it any more: neither a frame nor an encoder,
    which keeps its pictures through DLPack for as long as it reads them. It is never given back
    before the pool is, because NVENC remembers addresses that it has seen.

    Args:
        device: Where.
        picture: What fits (see `fits`).
    """

    def __init__(self, device: torch.device, picture: Picture) -> None:
        self._device, self._picture = device, picture
        self._all: list[tuple[Tensor, torch.UntypedStorage, int]] = []

    @property
    def size(self) -> int:
        """Pictures that there is memory for."""
        return len(self._all)

    def put(self, planes: Sequence[Tensor]) -> DevicePlanes:
        """Lays out a picture on the current stream.

        Args:
            planes: Luma, Cb and Cr, shape (h, w) each, of the picture's sample type.

        Returns:
            The picture, which may be handed on when the stream has passed this point.
        """
        picture, block = self._picture, self._free()
        height, width = picture.height, picture.width
        luma = block[:height, :width]
        chroma = block[height:, :width].view(height // 2, width // 2, 2)
        for part, plane in zip((luma, chroma[..., 0], chroma[..., 1]), planes, strict=True):
            if picture.format.bits == 8:
                part.copy_(plane)
            else:
                raised = plane.view(torch.int16) << (16 - picture.format.bits)
                part.view(torch.int16).copy_(raised)
        return DevicePlanes(luma=_Array(luma), chroma=_Array(chroma), width=width, height=height)

    def _free(self) -> Tensor:
        """A block, rows of luma and then of chroma: NVENC is told only where luma begins."""
        for block, storage, alone in self._all:
            if _holders(storage) == alone:
                return block
        picture = self._picture
        kind = torch.uint8 if picture.format.bits == 8 else torch.uint16
        pitch = picture.width + -picture.width % (_PITCH // kind.itemsize)
        rows = picture.height + picture.height // 2
        block = torch.zeros((rows, pitch), dtype=kind, device=self._device)
        storage = block.untyped_storage()
        self._all.append((block, storage, _holders(storage)))
        return block


def _holders(storage: torch.UntypedStorage) -> int:
    """Who holds a piece of memory: tensors, and arrays that were made of them through DLPack."""
    return int(torch._C._storage_Use_Count(storage._cdata))  # noqa: SLF001
