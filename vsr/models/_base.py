"""What an architecture tells the rest of the house about itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

type StateDict = Mapping[str, Tensor]
type Tiling = Literal["exact", "approximate", "none"]
type LumaRange = Literal["full", "studio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a network accepts and what it does to the size.

    Attributes:
        scale: Output pixels per input pixel along each axis.
        channels: 3 for RGB networks; 1 for networks that work on luma alone; None for what treats
            each plane by itself, any number of them.
        multiple_of: Height and width of the input must be multiples of this.
        minimum: Smallest height and width of the input.
        overlap: Input pixels on each side that an output pixel can depend on (the receptive field's
            radius), counted from the edges of its block where `multiple_of` is above 1. With
            `tiling="exact"`, tiles that overlap by this much give the bits of the whole picture.
        tiling: `exact`: bounded receptive field, `overlap` covers it. `approximate`: `overlap` is a
            measured compromise. `none`: the network needs the whole picture.
        tile_error: With `tiling="approximate"`, how far tiles were at most off the whole picture at
            this overlap when it was measured, of a white of 1; None if it was not.
        half: Whether float16 is safe; bfloat16 has float32's exponent and always is.
        luma: What a luma network was trained on: black and white at 0 and 1, or, as MATLAB's
            `rgb2ycbcr` makes them, at 16/255 and 235/255.
    """

    scale: int
    channels: Literal[1, 3] | None = 3
    multiple_of: int = 1
    minimum: int = 1
    overlap: int
    tiling: Tiling = "exact"
    tile_error: float | None = None
    half: bool = True
    luma: LumaRange = "full"

    def fitting(self, side: int) -> int:
        """The least side, not under this one, that the network accepts."""
        least = max(side, self.minimum)
        return least + -least % self.multiple_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture[C]:
    """A family of networks: how to recognise, build and describe one.

    The network that `build` makes has a `forward` from (N, C, H, W) in [0, 1] to (N, C, s·H, s·W).
    Its class may name submodules in an attribute `full_precision: tuple[str, ...]` which must
    compute in float32 when all other convolutions use bfloat16.

    Attributes:
        id: Short name, equal to the file's.
        paper: Title, authors, year and arXiv number.
        config: The frozen dataclass of hyperparameters.
        build: Makes an untrained network from a config.
        spec: Describes the network of a config.
        detect: Infers the config from a canonical state dict; None if the dict is of another
            architecture. It looks at the layout only: whether every tensor has the right shape is
            for strict loading to say, by name.
        canonicalise: Renames the keys of known foreign layouts to this network's own; identity on
            others.
        parameters: Published parameter counts by config, for the tests and for error messages.
        hinted: Fields of the config that no state dict can tell and a checkpoint's header may.
        scales: Factors that the weights of a config serve, in ascending order, where they are not
            made for one alone.
        realise: Makes the network of a config and its tensors, where others than `build` must do
            it: those who know the code of a foreign network.
    """

    id: str
    paper: str
    config: type[C]
    build: Callable[[C], nn.Module]
    spec: Callable[[C], InputSpec]
    detect: Callable[[StateDict], C | None]
    canonicalise: Callable[[StateDict], StateDict] = lambda state: state
    parameters: tuple[tuple[C, int], ...] = ()
    hinted: tuple[str, ...] = ()
    scales: Callable[[C], Sequence[int]] | None = None
    realise: Callable[[C, StateDict], nn.Module] | None = None
