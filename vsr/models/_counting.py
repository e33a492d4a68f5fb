"""What a network costs: its parameters, its layers, and its arithmetic per input pixel.

A FLOP is a multiplication or an addition, so that one multiply-add counts two, as in the tables of
most papers since 2018 (many older ones count "Mult-Adds", half as many). Convolutions and matrix
products count; activations, sums and rearrangements do not.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.models._base import InputSpec

_SIDE = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one pass takes.

    Attributes:
        parameters: Trained numbers.
        flops: Per input pixel, on a picture of `side`; the same for any size unless the network
            looks at the whole picture.
        side: Height and width that were counted on, in pixels.
        layers: Number of layers by kind, in the order of their first appearance.
    """

    parameters: int
    flops: int
    side: int
    layers: Mapping[str, int]


def cost(module: nn.Module, spec: InputSpec) -> Cost:
    """Counts by watching a pass over a small picture, without computing it where that is possible.

    Args:
        module: On any device; not changed.
        spec: What it accepts.
    """
    side = spec.fitting(_SIDE)
    try:
        flops = _watched(copy.deepcopy(module).to("meta"), spec, side)
    except (NotImplementedError, RuntimeError):  # its shapes depend on values: compute them
        flops = _watched(copy.deepcopy(module).cpu(), spec, side)
    leaves = (m for m in module.modules() if next(m.children(), None) is None)
    return Cost(
        parameters=sum(p.numel() for p in module.parameters()),
        flops=round(flops / side**2),
        side=side,
        layers=dict(Counter(type(leaf).__name__ for leaf in leaves)),
    )


def _watched(module: nn.Module, spec: InputSpec, side: int) -> int:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    x: Tensor = torch.zeros(1, spec.channels or 1, side, side, device=device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.device(device), counter:
        module.eval()(x)
    return int(counter.get_total_flops())
