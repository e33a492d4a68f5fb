"""Networks that the optional package `spandrel` knows and this one does not (extra `spandrel`).

spandrel (chaiNNer, MIT) recognises some forty architectures by their tensors and describes each by
a descriptor. Here one becomes a module and an `InputSpec`, so that it runs through the same tiles,
precisions and doors as an own network. Its tensors have been read by `vsr.checkpoints`; spandrel's
own file readers are never called.

A descriptor does not tell how far a network sees, so that tiles are `approximate` with an overlap
of 32 pixels, 64 where tiling is discouraged, and `none` where the network tiles by itself. Who
knows better says so with `vsr models convert --set overlap=18 --set tiling=exact`.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, StateDict, Tiling

_PACKAGE = "spandrel"
_TILINGS: dict[str, tuple[Tiling, int]] = {
    "SUPPORTED": ("approximate", 32),
    "DISCOURAGED": ("approximate", 64),
    "INTERNAL": ("none", 0),
}


class Descriptor(Protocol):
    """What is used of spandrel's `ImageModelDescriptor`."""

    purpose: str
    scale: int
    input_channels: int
    output_channels: int
    supports_half: bool
    supports_bfloat16: bool
    architecture: Any
    size_requirements: Any
    tiling: Any
    model: nn.Module

    def __call__(self, image: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpandrelConfig:
    """What is known of a network of spandrel; see `InputSpec` for the rest.

    Attributes:
        network: Its name there.
        scale: Upscaling factor.
        channels: Of the picture, 1 or 3.
        multiple_of: Height and width must be multiples of this.
        minimum: Smallest height and width.
        overlap: Input pixels by which tiles overlap.
        tiling: Whether it may be tiled.
        half: Whether float16 is safe.
    """

    network: str
    scale: int
    channels: Literal[1, 3]
    multiple_of: int
    minimum: int
    overlap: int
    tiling: Tiling
    half: bool

    def __post_init__(self) -> None:
        if self.tiling not in {"exact", "approximate", "none"} or self.overlap < 0:
            msg = (
                "tiling must be exact, approximate or none and overlap at least 0, got "
                f"{self.tiling!r} and {self.overlap}"
            )
            raise CheckpointError(msg)


class Foreign(nn.Module):
    """A network of spandrel.

    Its layers keep float32 where the engine asks for bfloat16, and autocast chooses operation by
    operation: nobody has said which of its parts may be rounded.

    Args:
        descriptor: From spandrel; its network is used, not copied.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        super().__init__()
        self.network = descriptor.model.eval()
        self.arithmetic = _Arithmetic()
        self.full_precision: tuple[str, ...] = ("network",)
        if not descriptor.supports_bfloat16:
            self.full_precision += ("arithmetic",)
        self._descriptor = descriptor  # shares the network, in copies too
        for layer in self.network.modules():
            if type(layer) is nn.Conv2d:
                layer.__class__ = _Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W) in [0, 1]."""
        rounded = self.arithmetic.weight.dtype == torch.bfloat16
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounded):
            return self._descriptor(x).to(x.dtype)


class _Arithmetic(nn.Module):
    """A number without use, but for its type: the engine sets that as for any other layer."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(1), persistent=False)


class _Conv2d(nn.Conv2d):
    """A convolution that the engine leaves alone: code that is not ours may look into it."""


def is_installed() -> bool:
    """Whether spandrel can be asked."""
    return importlib.util.find_spec(_PACKAGE) is not None


def claim(
    state: StateDict, describe: Callable[[StateDict], Descriptor | None] | None = None
) -> tuple[Architecture[SpandrelConfig], SpandrelConfig] | None:
    """What spandrel says of a state dict that no own architecture claims.

    Args:
        state: Tensors by name; not changed.
        describe: Asks spandrel; replaced by tests.

    Returns:
        The network as an `Architecture` made for this occasion, and its configuration; None if
        spandrel does not know it either.

    Raises:
        CheckpointError: spandrel knows it, but it is not from pictures to pictures of one kind and
            any size, or its tensors do not fit.
    """
    ask = describe or _describe
    descriptor = ask(state)
    if descriptor is None:
        return None
    config = foreign_config(descriptor)

    def realise(config: SpandrelConfig, tensors: StateDict) -> nn.Module:
        found = descriptor if tensors is state else ask(tensors)
        if found is None or foreign_config(found).network != config.network:
            msg = f"the tensors are no longer those of a {config.network} as spandrel knows it"
            raise CheckpointError(msg)
        return Foreign(found).eval()

    return _architecture(realise, config), config


def _architecture(
    realise: Callable[[SpandrelConfig, StateDict], nn.Module], found: SpandrelConfig
) -> Architecture[SpandrelConfig]:
    def build(config: SpandrelConfig) -> nn.Module:
        msg = f"spandrel makes a {config.network} from tensors only, not from settings"
        raise CheckpointError(msg)

    return Architecture(
        id=f"{_PACKAGE}/{found.network}",
        paper=f"{found.network}, as the package spandrel has it",
        config=SpandrelConfig,
        build=build,
        spec=_spec,
        detect=lambda _: found,
        hinted=("overlap", "tiling", "half"),
        realise=realise,
    )


def foreign_config(descriptor: Descriptor) -> SpandrelConfig:
    """What a descriptor tells of its network.

    Raises:
        CheckpointError: It needs masks, faces or square pictures, or changes the channels.
    """
    name = str(getattr(descriptor.architecture, "name", "network"))
    channels = descriptor.input_channels
    sizes = descriptor.size_requirements
    if descriptor.purpose not in {"SR", "Restoration"}:
        raise _unusable(name, f"its purpose is {descriptor.purpose}")
    if channels not in (1, 3) or descriptor.output_channels != channels:
        raise _unusable(name, f"it maps {channels} channels to {descriptor.output_channels}")
    if sizes.square:
        raise _unusable(name, "it takes square pictures only")
    tiling, overlap = _TILINGS.get(descriptor.tiling.name, ("none", 0))
    return SpandrelConfig(
        network=name,
        scale=descriptor.scale,
        channels=cast("Literal[1, 3]", channels),
        multiple_of=max(1, sizes.multiple_of),
        minimum=max(1, sizes.minimum),
        overlap=overlap,
        tiling=tiling,
        half=descriptor.supports_half,
    )


def _spec(config: SpandrelConfig) -> InputSpec:
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        multiple_of=config.multiple_of,
        minimum=config.minimum,
        overlap=config.overlap,
        tiling=config.tiling,
        half=config.half,
    )


def _unusable(name: str, reason: str) -> CheckpointError:
    msg = f"the checkpoint is a {name}, which spandrel knows, but {reason}: it cannot upscale video"
    return CheckpointError(msg)


def _describe(state: StateDict) -> Descriptor | None:
    """Asks spandrel, if it is installed."""
    if not is_installed():
        return None
    spandrel = importlib.import_module(_PACKAGE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about PyTorch's future; nothing to act on
            found = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        return None
    except Exception as error:  # each of its architectures raises what it likes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        msg = f"the checkpoint looks like one that spandrel knows, but it cannot load it: {reason}"
        raise CheckpointError(msg) from error
    return cast("Descriptor", found)
