"""Model-free upscaling: nearest, bilinear, bicubic and Lanczos, with zimg's phase and weights."""

from typing import Final, get_args

from torch import Tensor

from vsr.models._base import InputSpec
from vsr.resample import Kernel, resize

KERNELS: Final[dict[str, Kernel]] = {kernel: kernel for kernel in get_args(Kernel.__value__)}
"""The names under which users ask for an interpolation."""

_RADIUS: dict[Kernel, int] = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos": 3}


class Interpolation:
    """Resamples every plane by itself, as an `Upscaler`.

    Args:
        kernel: Reconstruction kernel.
        scale: Output pixels per input pixel.
    """

    def __init__(self, kernel: Kernel, scale: int) -> None:
        self.kernel = kernel
        self.spec = InputSpec(scale=scale, channels=None, overlap=_RADIUS[kernel])

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) to (N, C, s·H, s·W); values may overshoot the input's range."""
        height, width = (side * self.spec.scale for side in x.shape[-2:])
        return resize(x, height, width, self.kernel)
