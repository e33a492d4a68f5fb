"""What the classic luma networks share: the enlargement in front of them, and how far they see.

SRCNN, VDSR, DRCN and DRRN work on a picture that was enlarged before. MATLAB's bicubic, with which
all of them were trained, is written here as sums of shifted pictures, with one set of weights for
each of the s positions that an output pixel can have within an input pixel: nothing but slices and
products with constants, so that every exporter and every device computes it, in full precision.

Some public three-channel versions work on luma and chroma side by side; `Colour` is around them.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import StateDict

type Space = Literal["rgb", "ycc"]

LARGEST_SCALE = 8
_REACH = 2


def renamed(state: StateDict, layouts: Iterable[Mapping[str, str]]) -> StateDict:
    """Gives the layers of a foreign layout our names.

    Args:
        state: Weights and biases by name.
        layouts: Our names of layers by theirs.

    Returns:
        The state itself if it is of none of the layouts.
    """
    stems = {re.sub(r"\.(weight|bias)$", "", key) for key in state}
    homes = next((layout for layout in layouts if layout.keys() == stems), None)
    if homes is None:
        return state
    parts = {key: key.rpartition(".") for key in state}
    return {f"{homes[parts[key][0]]}.{parts[key][2]}": value for key, value in state.items()}


@lru_cache(maxsize=LARGEST_SCALE)
def bicubic_weights(scale: int) -> tuple[tuple[float, ...], ...]:
    """Weights of the five nearest input pixels for each position of an output pixel.

    Keys' cubic convolution with a = -0.5 (Keys 1981, eq. 15), as MATLAB's `imresize` enlarges.

    Args:
        scale: Output pixels per input pixel.

    Returns:
        `scale` rows for the positions from left to right, each of five weights that sum to one, for
        the input pixels from two before to two after the one that the output pixel lies in.
    """
    centres = [(position + 0.5) / scale - 0.5 for position in range(scale)]
    return tuple(
        tuple(_cubic(tap - centre) for tap in range(-_REACH, _REACH + 1)) for centre in centres
    )


def _cubic(distance: float) -> float:
    t = abs(distance)
    if t >= 2:
        return 0.0
    return (1.5 * t - 2.5) * t * t + 1 if t <= 1 else ((-0.5 * t + 2.5) * t - 4) * t + 2


class Bicubic(nn.Module):
    """Enlarges like `vsr.resample.resize` and MATLAB's `imresize`; has no weights of its own.

    Args:
        scale: Output pixels per input pixel, 1 to 8; with 1 the picture is left as it is.

    Raises:
        CheckpointError: Another scale.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        if not 1 <= scale <= LARGEST_SCALE:
            msg = f"the scale of the network must be 1 to {LARGEST_SCALE}, got {scale}"
            raise CheckpointError(msg)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, s·H, s·W), H and W at least 2; computes in float32."""
        if self.scale == 1:
            return x
        wide = x if x.dtype == torch.float64 else x.float()
        return _enlarged(_enlarged(wide, 3, self.scale), 2, self.scale).to(x.dtype)


def _enlarged(x: Tensor, axis: int, scale: int) -> Tensor:
    """Enlarges one axis; beyond an edge lies the mirrored picture (half-sample symmetric)."""
    length = x.shape[axis]
    near, far = x.narrow(axis, 0, 1), x.narrow(axis, 1, 1)
    end, before = x.narrow(axis, length - 1, 1), x.narrow(axis, length - 2, 1)
    padded = torch.cat([far, near, x, end, before], axis)
    positions = []
    for weights in bicubic_weights(scale):
        taps = [(tap, weight) for tap, weight in enumerate(weights) if weight]
        terms = [padded.narrow(axis, tap, length) * weight for tap, weight in taps]
        positions.append(sum(terms[1:], terms[0]))
    return torch.stack(positions, axis + 1).flatten(axis, axis + 1)


def radius_before_bicubic(radius: int, scale: int) -> int:
    """How far a network sees in the picture before its enlargement.

    Args:
        radius: Pixels of the enlarged picture to each side that an output pixel depends on.
        scale: Of the enlargement.

    Returns:
        Pixels of the picture itself to each side.
    """
    if scale == 1:
        return radius
    left = []
    for position in range(scale):
        pixel, within = divmod(position - radius, scale)
        first = next(tap for tap, weight in enumerate(bicubic_weights(scale)[within]) if weight)
        left.append(_REACH - first - pixel)
    return max(left)


class Colour:
    """The picture as a network sees it: as it is, or as luma and chroma.

    The latter is full-range BT.601 (JPEG's), chroma with 0.5 for gray, as in the public versions of
    Nhat-Thanh. In full precision and without tensors of its own.

    Args:
        space: `rgb` to leave it as it is, `ycc` to convert.
        channels: Channels of the picture.

    Raises:
        CheckpointError: Another space, or `ycc` with one channel.
    """

    def __init__(self, space: Space, channels: int) -> None:
        if space not in {"rgb", "ycc"} or (space == "ycc" and channels != 3):
            msg = f"colour must be rgb, or ycc with three channels, got {space} with {channels}"
            raise CheckpointError(msg)
        self.space = space

    def enter(self, x: Tensor) -> Tensor:
        """From what the engine gives, (N, C, H, W), to what the network sees."""
        if self.space == "rgb":
            return x
        red, green, blue = torch.split(x, 1, 1)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        return torch.cat([luma, (blue - luma) / 1.772 + 0.5, (red - luma) / 1.402 + 0.5], 1)

    def leave(self, x: Tensor) -> Tensor:
        """Undoes `enter`."""
        if self.space == "rgb":
            return x
        luma, bluish, reddish = torch.split(x, 1, 1)
        blue, red = luma + 1.772 * (bluish - 0.5), luma + 1.402 * (reddish - 0.5)
        return torch.cat([red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue], 1)
