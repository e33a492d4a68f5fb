"""Own kernels in CUDA graphs: the way of networks made of 3×3 convolutions on NVIDIA GPUs.

From integer planes to integer planes everything is one graph for each shape: a kernel that makes
half-precision pictures, the network, and kernels that shuffle, add, round and move chroma. The
network in the middle is made of own convolutions or of cuDNN's, whichever is faster here. Where a
picture does not go from planes to planes (tiles, several passes, test-time augmentation), the
network alone is a graph.

PyTorch's eager route is the reference, and what remains where the fast ones differ from it, fail or
are not faster: see `vsr.engine.trusted`. Which is the fastest is measured once on a machine, and
taken from then on: see `vsr.engine.verdicts`.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vsr.engine.color import Picture
from vsr.engine.devices import Precision
from vsr.engine.kernels import available, runs_on
from vsr.engine.kernels.ends import FusedRoute, LumaEnds, RgbEnds, fits
from vsr.engine.kernels.graphs import Graphs, Recorder
from vsr.engine.kernels.remembered import set_blocks
from vsr.engine.kernels.runners import RRDBRunner, StackRunner
from vsr.engine.kernels.tuning import Clock, Runner, on_device
from vsr.engine.network import Network
from vsr.engine.route import Route
from vsr.engine.trusted import Inputs, Trusted
from vsr.engine.verdicts import Verdicts
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec
from vsr.models.compact import Compact
from vsr.models.rrdb import RRDBNet
from vsr.resample import Kernel

type Planes = tuple[Tensor, ...]
type Result = tuple[Planes, Tensor]
"""Planes, and a scalar that is finite if every sample was."""

RMS_CODES, MOST_CODES = 0.5, 8.0
"""What a fast way may differ from the eager one, in steps of 8 bits: root mean square over a plane
(54 dB), and of any sample. Half precision in another order differs by about 0.1 and by 1 or 2; a
wrong siting, matrix, border or shuffle by far more."""

_HALF = torch.float16
_REPEATS = 3


def suits(module: nn.Module | None, spec: InputSpec, device: torch.device) -> bool:
    """Whether own kernels are worth trying for a network on a device."""
    known = isinstance(module, Compact | RRDBNet) and spec.half
    return known and device.type == "cuda" and available()


class TritonNetwork:
    """Runs a network by own kernels and graphs, as an `Upscaler` and from planes to planes.

    In another precision than fp16 it is PyTorch's eager network.

    Args:
        module: A compact network or RRDB in float32 on any device; it is copied, never changed.
        spec: What it accepts.
        device: A CUDA device; the CPU in Triton's interpreter.
        precision: Arithmetic.
        recorder: How graphs are captured; CUDA's own way if None.

    Raises:
        UsageError: Another network.
        DeviceError: Triton cannot run here.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        device: torch.device,
        precision: Precision,
        *,
        recorder: Recorder | None = None,
    ) -> None:
        if not runs_on(device):
            msg = (
                f"engine triton needs the package triton and an NVIDIA GPU, got {device}: "
                "use --engine torch"
            )
            raise DeviceError(msg)
        if not isinstance(module, Compact | RRDBNet):
            msg = f"engine triton has no kernels for {type(module).__name__}: use --engine torch"
            raise UsageError(msg)
        self.spec, self.device, self.precision, self._recorder = spec, device, precision, recorder
        # The interpreter's processor may lack convolutions in half precision.
        plain: Precision = "fp32" if device.type == "cpu" else precision
        self._eager = Network(module, spec, device, plain)
        self._parameters = sum(p.numel() for p in module.parameters())
        self._middles = _middles(module, device) if precision == "fp16" else ()
        self._whole = self._trusted_network()
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # lanes compute on their own streams

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), same dtype and device."""
        if not self._middles:
            return self._eager(x)
        y = self._whole(x.to(_HALF).contiguous(memory_format=torch.channels_last))
        return y.to(x.dtype, copy=True)  # a graph's result is overwritten by the next

    def route(
        self, source: Picture, target: Picture, kernel: Kernel
    ) -> Callable[[Planes], Result] | None:
        """From the planes of a picture to those of another; None where the kernels do not fit.

        The result is overwritten by the next of its shape.
        """
        spec, sides = self.spec, (source.width, source.height)
        accepted = all(s >= spec.minimum and s % spec.multiple_of == 0 for s in sides)
        if not (self._middles and accepted and fits(source, target, spec.scale, spec.channels)):
            return None
        ends = (LumaEnds if spec.channels == 1 else RgbEnds)(
            source, target, kernel=kernel, device=self.device, base=self._middles[0].base
        )
        trusted = Trusted[Result](
            _spread(Route(self._eager, source, target, kernel)),
            {
                middle.name: Graphs(
                    _spread(FusedRoute(middle.detail, ends)), recorder=self._recorder
                )
                for middle in self._middles
            },
            difference=lambda ours, theirs: planes_differ(ours, theirs, target.format.bits),
            samples=lambda planes: samples(planes, (1 << source.format.bits) - 1),
            clock=self._clock,
            memory=self._verdicts(source=source, target=target, kernel=kernel),
        )
        return lambda planes: trusted(*planes)

    def _trusted_network(self) -> Trusted[Tensor]:
        return Trusted[Tensor](
            self._eager,
            {
                middle.name: Graphs(middle.whole, recorder=self._recorder)
                for middle in self._middles
            },
            difference=lambda ours, theirs: _off(255 * (ours.float() - theirs.float())),
            samples=lambda pictures: samples(pictures, 1),
            clock=self._clock,
            memory=self._verdicts(),
        )

    def _verdicts(self, **ends: object) -> Verdicts:
        return Verdicts(spec=self.spec, parameters=self._parameters, **ends)

    @property
    def _clock(self) -> Clock | None:
        on_gpu = self.device.type == "cuda"
        return (lambda work: on_device(work, _REPEATS)) if on_gpu else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Middle:
    """A network between the ends.

    Attributes:
        name: For people.
        detail: (N, C, H, W) to what still needs a shuffle, and the picture added if `base`.
        base: Whether it does.
        whole: (N, C, H, W) to (N, C, s·H, s·W).
    """

    name: str
    detail: Callable[[Tensor], Tensor]
    base: bool
    whole: Callable[[Tensor], Tensor]


def _middles(module: Compact | RRDBNet, device: torch.device) -> tuple[_Middle, ...]:
    """The network of own convolutions, and on a GPU that of cuDNN's."""
    single = copy.deepcopy(module).eval().requires_grad_(requires_grad=False).to(device)
    half = copy.deepcopy(single).to(_HALF).to(memory_format=torch.channels_last)
    base = isinstance(single, Compact)
    runner = (
        StackRunner(single, _HALF) if isinstance(single, Compact) else RRDBRunner(single, _HALF)
    )
    detail = runner.detail if isinstance(runner, StackRunner) else runner
    own = _Middle(
        name="own kernels", detail=_Tuned(runner, detail), base=base, whole=_Tuned(runner, runner)
    )
    if device.type == "cpu":
        return (own,)
    body = half.body if isinstance(half, Compact) else half
    return (own, _Middle(name="cuDNN in a graph", detail=body, base=base, whole=half))


class _Tuned:
    """Gives a runner its blocks before it first computes a shape, which is before its capture."""

    def __init__(self, runner: Runner, compute: Callable[[Tensor], Tensor]) -> None:
        self._runner, self._compute = runner, compute
        self._seen: set[torch.Size] = set()

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape not in self._seen:
            self._seen.add(x.shape)
            set_blocks(self._runner, x)
        return self._compute(x)


def _spread(route: Callable[[Planes], Result]) -> Callable[..., Result]:
    return lambda *planes: route(planes)


def samples(inputs: Inputs, most: float) -> Iterator[Inputs]:
    """Pictures of a layout to compare two ways on: the one given, noise, waves, and darkness.

    Args:
        inputs: Integer planes (N, h, w), or pictures (N, C, H, W).
        most: White.
    """
    yield inputs
    generator = torch.Generator(inputs[0].device).manual_seed(0)

    def like(x: Tensor, values: Tensor) -> Tensor:
        return torch.empty_like(x).copy_((values * most).expand(x.shape).to(x.dtype))

    yield tuple(like(x, torch.rand(x.shape, generator=generator, device=x.device)) for x in inputs)
    yield tuple(like(x, _waves(x)) for x in inputs)
    yield tuple(torch.zeros_like(x) for x in inputs)


def _waves(x: Tensor) -> Tensor:
    rows, columns = (torch.arange(side, device=x.device) for side in x.shape[-2:])
    images = torch.arange(x.shape[0], device=x.device).view(-1, *[1] * (x.ndim - 1))
    return 0.5 + 0.4 * torch.sin(0.3 * rows.unsqueeze(1) + 0.11 * columns + images)


def planes_differ(ours: Result, theirs: Result, bits: int) -> str:
    """What is wrong with planes beside the eager ones; nothing within `RMS_CODES`, `MOST_CODES`.

    Args:
        ours: Planes and health of the fast way.
        theirs: Of the eager one.
        bits: Of both.
    """
    finite = bool(torch.isfinite(theirs[1]))
    if bool(torch.isfinite(ours[1])) != finite:
        return "it overflows elsewhere than the eager network"
    if not finite:
        return ""  # both do: the job goes on in fp32
    if [p.shape for p in ours[0]] != [p.shape for p in theirs[0]]:
        return "its planes have other sizes"
    for a, b in zip(ours[0], theirs[0], strict=True):
        if wrong := _off((a.int() - b.int()).float() * 2.0 ** (8 - bits)):
            return wrong
    return ""


def _off(codes: Tensor) -> str:
    rms, most = float(codes.square().mean().sqrt()), float(codes.abs().max())
    if rms <= RMS_CODES and most <= MOST_CODES:  # NaN is not
        return ""
    return (
        f"it is off by {rms:.2g} steps of 8 bits (at most {most:.2g}), "
        f"{RMS_CODES:g} (at most {MOST_CODES:g}) were expected"
    )
