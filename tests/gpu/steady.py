"""The steady state: what follows the first frames, for which memory is taken and lanes begin."""

from collections.abc import Iterator

import torch

from vsr.types import Frame

_FIRST = 12


def count_unsynchronised(results: Iterator[Frame]) -> int:
    """Takes all frames; how many came after the first ones, while synchronising was an error."""
    for _ in range(_FIRST):
        next(results)
    torch.cuda.set_sync_debug_mode("error")
    try:
        return sum(1 for _ in results)
    finally:
        torch.cuda.set_sync_debug_mode("default")
