"""One thing to learn from."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A pair of crops.

    Attributes:
        low: (C, h, w), float32 in [0, 1]; (C, 0, 0) where the degradation is `none`.
        high: (C, s·h, s·w), likewise; of another picture where data are unpaired.
    """

    low: Tensor
    high: Tensor
