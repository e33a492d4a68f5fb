"""Mixtures of networks of one architecture: `A*0.8+B*0.2`. Free of torch until tensors are mixed.

Wang et al. 2018, "Deep Network Interpolation for Continuous Imagery Effect Transition",
arXiv:1811.10515, equation 3; ESRGAN (arXiv:1809.00219, section 3.4) goes so from its PSNR-trained
weights to its adversarial ones.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.checkpoints.containers import shortened
from vsr.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

_SUFFIXES = frozenset(
    {".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".npz", ".pb", ".mat", ".param"}
)
_TERM = re.compile(r"\s*([^*\s](?:[^*]*?[^*\s])?)\s*\*\s*(\d+\.?\d*|\.\d+)\s*(?:\+|$)")
_MOST_TERMS = 16
_CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a mixture.

    Attributes:
        name: Of a checkpoint: in the catalogue, or a path.
        weight: From 0 to 1.
    """

    name: str
    weight: float

    def __str__(self) -> str:
        """As `parse_blend` reads it."""
        return f"{self.name}*{self.weight:g}"


def is_file_name(text: str) -> bool:
    """Whether a model's name is that of a file: it has a checkpoint's suffix."""
    return Path(text).suffix.lower() in _SUFFIXES


def is_blend(text: str) -> bool:
    """Whether a model's name is a mixture: names and files have no asterisk."""
    return "*" in text


def parse_blend(text: str) -> tuple[Share, ...]:
    """Reads a mixture.

    >>> parse_blend("A*0.8 + B*0.2")
    (Share(name='A', weight=0.8), Share(name='B', weight=0.2))

    Args:
        text: Names, each times its weight, with plus signs between them.

    Raises:
        UsageError: It is not written so, or its weights do not sum to 1.
    """
    shares: list[Share] = []
    position = 0
    while position < len(text) and len(shares) <= _MOST_TERMS:
        term = _TERM.match(text, position)
        if term is None:
            break
        shares.append(Share(term[1], float(term[2])))
        position = term.end()
    if position < len(text) or not shares or text.rstrip().endswith("+"):
        msg = (
            f"the mixture {shortened(text)} is not understood: write names times weights that sum "
            "to 1, such as 'A*0.8+B*0.2'"
        )
        raise UsageError(msg)
    return check_shares(shares)


def check_shares(shares: Sequence[Share]) -> tuple[Share, ...]:
    """Refuses weights that make no mixture.

    Raises:
        UsageError: One lies outside 0 to 1, or they do not sum to 1.
    """
    weights = [share.weight for share in shares]
    total = math.fsum(weights)
    if not all(0 <= weight <= 1 for weight in weights) or abs(total - 1) > _CLOSE:
        listed = " + ".join(f"{weight:g}" for weight in weights)
        msg = f"the weights of a mixture must lie in 0 to 1 and sum to 1, got {listed} = {total:g}"
        raise UsageError(msg)
    return tuple(shares)


def mix(states: "Sequence[Mapping[str, Tensor]]", shares: Sequence[Share]) -> "dict[str, Tensor]":
    """The weighted sum of networks.

    Args:
        states: State dicts with the same names and shapes.
        shares: Their weights, one each.

    Returns:
        A new state dict, summed in float64; integer tensors are the first's.

    Raises:
        CheckpointError: A tensor is missing in one of them or of another shape.
    """
    first = states[0]
    for share, state in zip(shares[1:], states[1:], strict=True):
        for key in (*first, *state):
            shapes = [tuple(s[key].shape) if key in s else None for s in (first, state)]
            if shapes[0] != shapes[1]:
                msg = (
                    f"{shortened(shares[0].name)} and {shortened(share.name)} cannot be blended: "
                    f"{key!r} has shape {shapes[0]} in the first and {shapes[1]} in the second"
                )
                raise CheckpointError(msg)
    mixed: dict[str, Tensor] = {}
    for key, value in first.items():
        if not value.is_floating_point():
            mixed[key] = value.clone()
            continue
        total = value.double() * shares[0].weight
        for share, state in zip(shares[1:], states[1:], strict=True):
            total.add_(state[key].double(), alpha=share.weight)
        mixed[key] = total.to(value.dtype)
    return mixed
