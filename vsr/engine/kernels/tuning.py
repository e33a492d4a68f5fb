"""The fastest cut of a convolution on this device, and whether cuDNN is faster still."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, override

import torch
from torch import Tensor

from vsr.engine.kernels.conv3x3 import Block, Epilogue, TritonConv2d, candidates, launch, tma_fits

_log = logging.getLogger(__name__)

type Clock = Callable[[Callable[[], object]], float]
"""Seconds that one call takes on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What tuning found.

    Attributes:
        block: The fastest.
        seconds: Its time for one call.
        reference: cuDNN's time with everything that follows the convolution; None if not asked.
        tried: Blocks that ran.
    """

    block: Block
    seconds: float
    reference: float | None
    tried: int

    @property
    def worthwhile(self) -> bool:
        """Whether the own kernel is faster than the reference."""
        return self.reference is None or self.seconds < self.reference


_found: dict[tuple[object, ...], Verdict] = {}


def on_device(work: Callable[[], object], repeats: int = 20) -> float:
    """Best of several seconds by CUDA events, after two calls that compile and warm up."""
    work()
    work()
    best = float("inf")
    for _ in range(3):
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1000 / repeats)
    return best


def tune(
    conv: TritonConv2d,
    x: Tensor,
    *,
    reference: Callable[[Tensor], Tensor] | None = None,
    budget: float = 30.0,
    clock: Clock = on_device,
) -> Verdict:
    """Finds the fastest block for a layout of input and gives it to the convolution.

    Convolutions of equal channels, activation and input layout are tried once in a process. A
    result goes to a buffer of its own, so nothing of the caller's is overwritten.

    Args:
        conv: Its `block` is set.
        x: Of the strides that it will get.
        reference: The same by cuDNN, to compare.
        budget: Seconds after which no further block is tried; compiling one takes a few.
        clock: How a call is timed.

    Raises:
        DeviceError: Triton cannot run here.
        RuntimeError: Not even the default block runs; or Triton's own error.
    """
    key = key_of(conv, x)
    known = _found.get(key)
    if known is None or (reference is not None and known.reference is None):
        known = _found[key] = _search(conv, x, reference, budget, clock)
    conv.block = known.block
    return known


def key_of(conv: TritonConv2d, x: Tensor) -> tuple[object, ...]:
    """What the fastest block of a convolution depends on."""
    device = torch.cuda.get_device_name(x.device) if x.device.type == "cuda" else "cpu"
    return (device, x.dtype, x.shape, x.stride(), conv.cout, conv.kernel, conv.activation)


class Runner(Protocol):
    """A network, or a part of one, of own convolutions; see `runners`."""

    @property
    def layers(self) -> tuple[TritonConv2d, ...]:
        """Its convolutions."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Runs it."""
        ...


def tune_runner(
    runner: Runner, x: Tensor, *, budget: float = 30.0, clock: Clock = on_device
) -> tuple[Verdict, ...]:
    """Tunes every convolution of a runner for what it gets when the runner gets `x`.

    Args:
        runner: Its convolutions' blocks are set.
        x: Of the shape and strides to come; captures of graphs must be made afterwards.
        budget: Seconds for each different convolution.
        clock: How a call is timed.

    Returns:
        A verdict for each layer, in order.
    """
    seen = inputs_of(runner, x)
    return tuple(tune(layer, seen[layer], budget=budget, clock=clock) for layer in runner.layers)


class _Alike(dict[TritonConv2d, Tensor]):
    """Keeps one input of each layout, or a deep network's would fill the memory together."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], Tensor] = {}

    @override
    def __setitem__(self, layer: TritonConv2d, x: Tensor) -> None:
        super().__setitem__(layer, self._first.setdefault(key_of(layer, x), x))


def inputs_of(runner: Runner, x: Tensor) -> dict[TritonConv2d, Tensor]:
    """An input of the layout that every convolution of a runner gets when the runner gets `x`."""
    seen = _Alike()
    hooks = [layer.observe(seen) for layer in runner.layers]
    try:
        runner(x)
    finally:
        for remove in hooks:
            remove()
    return seen


def _search(
    conv: TritonConv2d,
    x: Tensor,
    reference: Callable[[Tensor], Tensor] | None,
    budget: float,
    clock: Clock,
) -> Verdict:
    n, _, height, width = x.shape
    out = x.new_empty(n, height, width, conv.cout).permute(0, 3, 1, 2)
    from vsr.engine.kernels._language import Failure  # noqa: PLC0415 - imports Triton

    began, times = time.monotonic(), dict[Block, float]()
    for block in candidates(conv.cin, conv.cout, tma=tma_fits(conv, x), shared=_shared(x)):
        if times and time.monotonic() - began > budget:
            break
        try:
            times[block] = clock(lambda block=block: launch(conv, x, out, Epilogue(), block))  # type: ignore[misc]
        except (RuntimeError, Failure) as error:
            if not times:
                raise
            _log.debug("%s does not run: %s", block, error)
    best = min(times, key=times.__getitem__)
    other = None if reference is None else clock(lambda: reference(x))
    verdict = Verdict(block=best, seconds=times[best], reference=other, tried=len(times))
    _log.debug("%d to %d channels, %s: %s", conv.cin, conv.cout, tuple(x.shape), verdict)
    return verdict


def _shared(x: Tensor) -> int:
    """Bytes of shared memory that a program may have on a device."""
    if not x.is_cuda:
        return 99 << 10
    return int(torch.cuda.get_device_properties(x.device).shared_memory_per_block_optin)
