"""CUDA graphs: the launches of a call recorded once for each shape and replayed at once.

A small network's kernels are shorter than their launches; a graph launches all of them together. It
replays with the same addresses, so inputs are copied into static buffers, and the result is the
same tensor every time: use it, or copy it, before the next call of that shape on another stream.
"""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vsr.errors import UsageError

_log = logging.getLogger(__name__)

type _Key = tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True)
class Recording[R]:
    """One captured call.

    Attributes:
        inputs: Static buffers that a replay reads.
        output: What a replay writes.
        replay: Queues the work on the current stream.
    """

    inputs: tuple[Tensor, ...]
    output: R
    replay: Callable[[], object]


class Recorder(Protocol):
    """Captures a call; `CudaRecorder`, or a fake in tests."""

    def __call__[R](self, function: Callable[..., R], inputs: tuple[Tensor, ...]) -> Recording[R]:
        """Records `function(*inputs)`.

        Raises:
            RuntimeError: It cannot be captured.
        """
        ...


class CudaRecorder:
    """Records with `torch.cuda.graph`; graphs that live together share one pool of memory.

    Sharing is safe because they replay one after another on one stream, and because every recording
    keeps its output, whose memory no later capture is given.

    Args:
        warmups: Calls before the capture, in which libraries choose kernels and allocate.
    """

    def __init__(self, warmups: int = 3) -> None:
        self._warmups = warmups
        self._side: dict[torch.device, Any] = {}
        self._graphs: weakref.WeakSet[Any] = weakref.WeakSet()

    def __call__[R](self, function: Callable[..., R], inputs: tuple[Tensor, ...]) -> Recording[R]:
        """See `Recorder`. Waits for the device."""
        device = inputs[0].device
        with torch.cuda.device(device):
            static = tuple(_buffer(x) for x in inputs)
            side = self._stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            try:
                # The outer context restores the stream even where ending a broken capture raises.
                with torch.cuda.stream(side):
                    for buffer, x in zip(static, inputs, strict=True):
                        buffer.copy_(x)
                    for _ in range(self._warmups):
                        function(*static)
                    side.synchronize()
                    graph, output = self._captured(function, static, side)
            finally:
                # What the warm-up reads belongs to the caller's stream, and may be freed next.
                side.synchronize()
        return Recording(static, output, graph.replay)

    def _captured[R](
        self, function: Callable[..., R], static: tuple[Tensor, ...], side: Any
    ) -> tuple[Any, R]:
        graph = torch.cuda.CUDAGraph()
        # Other threads decode and pin memory meanwhile; only this one must stay in the graph.
        with torch.cuda.graph(
            graph, pool=self._pool(), stream=side, capture_error_mode="thread_local"
        ):
            output = function(*static)
        self._graphs.add(graph)
        return graph, output

    def _pool(self) -> Any:
        """That of a graph which is alive; a pool whose graphs are all gone must not be used."""
        for graph in self._graphs:
            return graph.pool()
        return None

    def _stream(self, device: torch.device) -> Any:
        """One for all captures: a pool's memory is only handed on within a stream."""
        if device not in self._side:
            self._side[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return self._side[device]


def _buffer(x: Tensor) -> Tensor:
    """A tensor of the same layout that may be written to in and out of inference mode."""
    with torch.inference_mode(mode=False):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)


class Graphs[R]:
    """A function of tensors that is replayed from graphs, one for each layout of its inputs.

    The function must launch the same kernels whatever the values, wait for nothing, and keep no
    state. Tensors that are not on a CUDA device are passed on as they are. Where capturing fails,
    one warning says so, and calls of that layout stay eager; when memory runs out, all graphs are
    dropped and the error goes on to whoever halves batches.

    Args:
        function: Of one or more tensors of one device.
        limit: Most graphs; the one that was not used for longest goes first.
        recorder: How calls are captured.
    """

    def __init__(
        self, function: Callable[..., R], *, limit: int = 8, recorder: Recorder | None = None
    ) -> None:
        if limit < 1:
            msg = f"the number of graphs must be at least 1, got {limit}"
            raise UsageError(msg)
        self.function, self.limit = function, limit
        self._record: Recorder = recorder or CudaRecorder()
        self._needs_cuda = recorder is None
        self._graphs: OrderedDict[_Key, Recording[R]] = OrderedDict()
        self._eager: set[_Key] = set()

    def __len__(self) -> int:
        return len(self._graphs)

    def clear(self) -> None:
        """Gives the memory of all graphs back."""
        self._graphs.clear()

    def prepare(self, *inputs: Tensor) -> bool:
        """Captures the graph of a layout before it is needed; true if there is one afterwards.

        Waits for the device, while a call of a known layout does not.
        """
        return self._recording(inputs) is not None

    def __call__(self, *inputs: Tensor) -> R:
        """Computes `function(*inputs)`; the result is overwritten by the next call."""
        recording = self._recording(inputs)
        if recording is None:
            return self.function(*inputs)
        for buffer, x in zip(recording.inputs, inputs, strict=True):
            buffer.copy_(x, non_blocking=True)
        recording.replay()
        return recording.output

    def _recording(self, inputs: tuple[Tensor, ...]) -> Recording[R] | None:
        if not inputs or (self._needs_cuda and inputs[0].device.type != "cuda"):
            return None
        key: _Key = tuple((x.shape, x.stride(), x.dtype, x.device) for x in inputs)
        if key in self._eager:
            return None
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        recording = self._capture(inputs)
        if recording is None:
            self._eager.add(key)
            return None
        self._graphs[key] = recording
        if len(self._graphs) > self.limit:
            self._graphs.popitem(last=False)
        return recording

    def _capture(self, inputs: tuple[Tensor, ...]) -> Recording[Any] | None:
        try:
            return self._record(self.function, inputs)
        except torch.OutOfMemoryError:
            self.clear()
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):  # ending the capture hid it
                self.clear()
                raise error.__context__ from None
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            reason = str(error).partition("\n")[0]
            _log.warning("no CUDA graph for %s, computing it call by call: %s", shapes, reason)
            return None
