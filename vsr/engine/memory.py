"""How much memory a network needs per pixel, and what batch and tile follow from it."""

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from vsr.engine.devices import Precision, free_memory
from vsr.engine.stream import Settings
from vsr.errors import UsageError
from vsr.models._base import InputSpec
from vsr.tiling import smallest_tile

_log = logging.getLogger(__name__)

_PROBE = 16
_BATCH_PIXELS = 1_000_000
_ENDS = 24
"""Bytes for each pixel of a frame and of its result beside the network: planes, and twice the
picture in float32."""


def activation_bytes(module: nn.Module, spec: InputSpec, precision: Precision) -> float:
    """Estimates the peak of live activations per input pixel.

    Runs the network once on a tiny picture on the CPU (the meta device would import sympy and
    triton, for seconds), and takes the largest sum of a layer's inputs and outputs, doubled for
    what lives across layers.

    Args:
        module: Any device; not changed.
        spec: Of the module.
        precision: Arithmetic; half precisions halve the size.

    Returns:
        Bytes per pixel of the network's input.
    """
    peak = 0

    def measure(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal peak
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        peak = max(peak, sum(t.numel() for t in tensors))

    probe = copy.deepcopy(module).to("cpu").eval()
    for layer in probe.modules():
        if next(layer.children(), None) is None:
            layer.register_forward_hook(measure)
    side = spec.fitting(_PROBE)
    with torch.inference_mode():
        probe(torch.zeros(1, spec.channels or 1, side, side))
    return 2 * peak * (4 if precision == "fp32" else 2) / side**2


def automatic(
    spec: InputSpec,
    per_pixel: float,
    device: torch.device,
    precision: Precision,
    size: tuple[int, int],
    workers: int = 1,
) -> Settings:
    """Chooses the batch and tile for a picture size.

    The CPU gains nothing from batches; a GPU gets about a megapixel at a time. Tiles are only used
    when the whole picture would take more than half of the free memory (a quarter on the CPU).

    Args:
        spec: Of the network.
        per_pixel: From `activation_bytes`.
        device: Where the network runs.
        precision: Arithmetic.
        size: Width and height of the source.
        workers: Frames that the CPU may compute side by side, where that many fit.
    """
    pixels = size[0] * size[1]
    budget = free_memory(device) * (0.5 if device.type == "cuda" else 0.25)
    fitting = int(budget / max(1.0, per_pixel))
    if fitting >= pixels or spec.tiling == "none":
        wanted = max(1, min(8, _BATCH_PIXELS // pixels)) if device.type == "cuda" else 1
        return Settings(
            precision=precision,
            batch=max(1, min(wanted, fitting // pixels)),
            workers=max(1, min(workers, fitting // pixels)),
        )
    tile = int(fitting**0.5) // 32 * 32
    return Settings(
        precision=precision, tile=max(tile, smallest_tile(spec.overlap, spec.multiple_of))
    )


def bounded(
    settings: Settings,
    spec: InputSpec,
    size: tuple[int, int],
    *,
    per_pixel: float = 0.0,
    weights: int = 0,
) -> Settings:
    """Makes settings fit into `settings.max_memory`: fewer workers, then batches, then tiles.

    The needs are estimates (`activation_bytes`); what turns out not to fit after all is redone with
    smaller settings.

    Args:
        settings: With or without a limit.
        spec: Of the network.
        size: Width and height of the source.
        per_pixel: From `activation_bytes`; 0 where there is no network.
        weights: Bytes of the network's weights.

    Returns:
        The same settings if they fit.

    Raises:
        UsageError: Not even one frame in the smallest tiles fits.
    """
    limit, (width, height) = settings.max_memory, size
    if limit is None:
        return settings
    ends = _ENDS * width * height * (1 + spec.scale**2)

    def need(tile: int, count: int) -> float:
        sides = (min(tile or side, side) for side in size)
        return weights + count * (ends + per_pixel * math.prod(sides))

    tile, most = settings.tile, settings.batch * settings.workers
    count = next((n for n in range(most, 0, -1) if need(tile, n) <= limit), 0)
    if not count:
        count, tile = 1, _largest_tile(spec, settings.tile, size, lambda t: need(t, 1) <= limit)
    if need(tile, 1) > limit:
        least = smallest_tile(spec.overlap, spec.multiple_of) if spec.tiling != "none" else 0
        msg = (
            f"--max-memory {limit / 2**20:.3g} MiB is too little for {width}x{height} with this "
            f"network: it needs at least {-(-int(need(least, 1)) >> 20)} MiB"
        )
        raise UsageError(msg)
    workers = min(settings.workers, count)
    fitting = replace(
        settings, workers=workers, batch=min(settings.batch, count // workers), tile=tile
    )
    if fitting != settings:
        _log.info(
            "within %d MiB: batch %d, %d workers, tile %d",
            *(limit >> 20, fitting.batch, fitting.workers, fitting.tile),
        )
    return fitting


def _largest_tile(
    spec: InputSpec, tile: int, size: tuple[int, int], fits: Callable[[int], bool]
) -> int:
    """The largest tile below the one given that fits; the smallest one if none does."""
    if spec.tiling == "none":
        return tile
    least = smallest_tile(spec.overlap, spec.multiple_of)
    start = (min(tile or max(size), max(size)) - 1) // 32 * 32
    return next((t for t in range(start, least - 1, -32) if fits(t)), least)
