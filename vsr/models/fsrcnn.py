"""FSRCNN: SRCNN at the input's size, in the shape of an hourglass.

Dong, Loy, Tang, "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016,
arXiv:1608.00367. New against SRCNN: no enlargement in front but a transposed convolution at the
end; the mapping is done with few channels, which are shrunk before and expanded after it; PReLU.
FSRCNN is (d, s, m) = (56, 12, 4), FSRCNN-s is (32, 5, 1). It works on luma.

    x               (N, C, H, W)
    first_part      (N, d, H, W)            5×5, PReLU
    mid_part        (N, s, H, W)            1×1, PReLU; 3×3, PReLU, m times
                    (N, d, H, W)            1×1, PReLU
    last_part       (N, C, s·H, s·W)        9×9 transposed; output pixel (s·i, s·j) lies on (i, j)

Layouts that are read: yjn870's (the names above), Lornatang's (`feature_extraction`, `shrink`,
`map`, `expand`, `deconv`), Nhat-Thanh's (`feature_extract`, `map_1` …, with one PReLU after all of
the mapping) and the frozen graphs of OpenCV's `dnn_superres` (`vsr.checkpoints.foreign`), whose
sub-pixel convolution is a transposed one with a kernel as large as the scale.

Deviations: none. Some versions clip to [0, 1]; the engine does that. A 9×9 kernel does not tell the
scale: a header or the user does, otherwise it is the paper's 3. Nhat-Thanh's three channels are
luma and chroma, which a header must tell too (`colour`).
"""

import re
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec, LumaRange, StateDict
from vsr.models._blocks_luma import Colour, Space

_KEY = re.compile(r"(?:first_part\.0|mid_part\.\d{1,3}|last_part)\.(?:weight|bias)")
_LARGEST_SCALE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FSRCNNConfig:
    """Hyperparameters.

    Attributes:
        channels: Channels of the picture, 1 for luma and 3 for colour.
        colour: What three channels are within: `rgb`, or `ycc` for luma and chroma (Nhat-Thanh's).
        features: Channels at the ends (d in the paper).
        mapped: Channels of the mapping (s).
        convs: Convolutions of the mapping (m).
        linear: Whether one PReLU follows the whole mapping, not one every convolution of it.
        kernel: Side of the last kernel: odd and larger than the scale, or the scale itself.
        scale: Upscaling factor, 2 to 8.
        luma: Range of luma that the weights were trained on, see `InputSpec`; the field's own code,
            MATLAB's, has `studio`.
    """

    channels: Literal[1, 3] = 1
    colour: Space = "rgb"
    features: int = 56
    mapped: int = 12
    convs: int = 4
    linear: bool = False
    kernel: int = 9
    scale: int = 3
    luma: LumaRange = "studio"


class FSRCNN(nn.Module):
    """The network; keys equal those of yjn870's `FSRCNN-pytorch`.

    Raises:
        CheckpointError: A kernel that cannot make the scale.
    """

    full_precision: tuple[str, ...] = ("last_part",)

    def __init__(self, config: FSRCNNConfig) -> None:
        super().__init__()
        wide, narrow = config.features, config.mapped
        self.colour = Colour(config.colour, config.channels)
        self.first_part = nn.Sequential(
            nn.Conv2d(config.channels, wide, 5, padding=2), nn.PReLU(wide)
        )
        layers = [nn.Conv2d(wide, narrow, 1), nn.PReLU(narrow)]
        for number in range(1, config.convs + 1):
            silent = config.linear and number < config.convs
            layers.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            layers.append(nn.Identity() if silent else nn.PReLU(narrow))
        self.mid_part = nn.Sequential(*layers, nn.Conv2d(narrow, wide, 1), nn.PReLU(wide))
        self.last_part = _transposed(config)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W)."""
        x = self.mid_part(self.first_part(self.colour.enter(x)))
        return self.colour.leave(self.last_part(x.to(self.last_part.weight.dtype)))


def _transposed(config: FSRCNNConfig) -> nn.ConvTranspose2d:
    kernel, scale = config.kernel, config.scale
    if kernel != scale and (kernel % 2 == 0 or kernel < scale):
        msg = (
            f"fsrcnn's last kernel is {kernel}×{kernel}, which cannot make a scale of {scale}: "
            f"expected {scale} or an odd kernel above it"
        )
        raise CheckpointError(msg)
    margin = 0 if kernel == scale else kernel // 2
    return nn.ConvTranspose2d(
        config.features,
        config.channels,
        kernel,
        stride=scale,
        padding=margin,
        output_padding=scale - kernel + 2 * margin,
    )


def _spec(config: FSRCNNConfig) -> InputSpec:
    reach = 0
    if config.kernel != config.scale:
        reach = (config.kernel // 2 + config.scale - 1) // config.scale
    return InputSpec(
        scale=config.scale,
        channels=config.channels,
        luma=config.luma if config.channels == 1 else "full",
        overlap=2 + config.convs + reach,
    )


def _scales(config: FSRCNNConfig) -> range:
    """A kernel larger than the scale does not tell it."""
    if config.kernel % 2 == 0:
        return range(config.scale, config.scale + 1)
    return range(2, min(_LARGEST_SCALE, config.kernel) + 1)


def _detect(state: StateDict) -> FSRCNNConfig | None:
    """Even entries of `mid_part` are convolutions, odd ones PReLU; in the ends 1×1, else 3×3."""
    known = all(_KEY.fullmatch(key) or key == "first_part.1.weight" for key in state)
    ends = [state.get(key) for key in ("first_part.0.weight", "last_part.weight")]
    shrink = state.get("mid_part.0.weight")
    if not known or shrink is None or any(end is None or end.ndim != 4 for end in ends):
        return None
    first, last = cast("list[Tensor]", ends)
    numbers = {int(key.split(".")[1]) for key in state if key.startswith("mid_part.")}
    convs, channels, kernel = max(numbers) // 2 - 1, last.shape[1], last.shape[2]
    if convs < 1 or channels not in (1, 3) or first.shape[1] != channels:
        return None
    return FSRCNNConfig(
        channels=cast("Literal[1, 3]", channels),
        features=first.shape[0],
        mapped=shrink.shape[0],
        convs=convs,
        linear=convs > 1 and "mid_part.3.weight" not in state,
        kernel=kernel,
        scale=kernel if 2 <= kernel <= _LARGEST_SCALE and kernel % 2 == 0 else 3,
    )


def _canonicalise(state: StateDict) -> StateDict:
    if "deconv.weight" not in state:
        return state
    if "map_1.weight" in state:
        convs = len({key.split(".")[0] for key in state if key.startswith("map_")})
        return {_from_nhatthanh(key, convs): value for key, value in state.items()}
    if "map.0.weight" in state:
        convs = len([k for k in state if re.fullmatch(r"map\.\d+\.bias", k)])
        return {_from_lornatang(key, convs): value for key, value in state.items()}
    return state


def _from_nhatthanh(key: str, convs: int) -> str:
    homes = {"feature_extract": "first_part.0", "activation_1": "first_part.1"}
    homes |= {"shrink": "mid_part.0", "activation_2": "mid_part.1"}
    homes |= {f"map_{k}": f"mid_part.{2 * k}" for k in range(1, convs + 1)}
    homes |= {"activation_3": f"mid_part.{2 * convs + 1}", "expand": f"mid_part.{2 * convs + 2}"}
    homes |= {"activation_4": f"mid_part.{2 * convs + 3}", "deconv": "last_part"}
    stem, _, kind = key.rpartition(".")
    return f"{homes.get(stem, stem)}.{kind}"


def _from_lornatang(key: str, convs: int) -> str:
    shifts = {"shrink": 0, "map": 2, "expand": 2 * convs + 2}
    found = re.fullmatch(r"(shrink|map|expand)\.(\d+)\.(\w+)", key)
    if found:
        return f"mid_part.{int(found[2]) + shifts[found[1]]}.{found[3]}"
    return key.replace("feature_extraction.", "first_part.").replace("deconv.", "last_part.")


ARCH = Architecture(
    id="fsrcnn",
    paper="Accelerating the Super-Resolution Convolutional Neural Network, "
    "Dong, Loy, Tang 2016, arXiv:1608.00367",
    config=FSRCNNConfig,
    build=FSRCNN,
    spec=_spec,
    detect=_detect,
    canonicalise=_canonicalise,
    # the paper counts 12 464 and 3 937, without biases and slopes
    parameters=(
        (FSRCNNConfig(), 12_809),
        (FSRCNNConfig(features=32, mapped=5, convs=1), 4_086),
        (FSRCNNConfig(channels=3, linear=True), 24_647),
    ),
    hinted=("scale", "colour", "luma"),
    scales=_scales,
)
