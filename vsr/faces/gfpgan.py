"""GFPGAN: blind restoration of one aligned face by the prior of a generator of faces.

Wang, Li, Zhang, Shan, "Towards Real-World Blind Face Restoration with Generative Facial Prior",
2021, arXiv:2101.04061; this is the "clean" network of releases 1.2 to 1.4, without compiled
operators. A U-Net removes the damage and says which face it is: its lowest features become the
latents of a StyleGAN2 (arXiv:1912.04958), and its features of every size scale and shift half of
the generator's own ("spatial feature transform"), which ties the face to the picture.

    x                    (N, 3, S, S)       in [-1, 1], S = 512 in the releases
    conv_body_first      (N, U_S, S, S)     1×1
    conv_body_down       (N, U_k, k, k)     k = S/2 … 4: residual blocks that halve
    final_conv           (N, U_4, 4, 4)     3×3
    final_linear         (N, L, D)          L = 2·log2(S) - 2 latents of D numbers
    conv_body_up         (N, U_k, k, k)     k = 8 … S, + the features on the way down
      condition_scale    (N, V_k/2, k, k)   3×3, LeakyReLU, 3×3; condition_shift alike
      toRGB              (N, 3, k, k)       1×1, for the losses of training
    stylegan_decoder     (N, 3, S, S)       in about [-1, 1]

Keys equal those of the authors' `GFPGANv1Clean`. What a checkpoint has beyond them, the mapping
network `style_mlp` that no latent passes, is dropped.

Deviations: the authors' program draws noise anew for each picture. Here the noise that is stored in
the checkpoint is added: a face is restored alike each time, and does not flicker in a video.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vsr.errors import CheckpointError

_SLOPE = 0.2
_SMALLEST, _LARGEST = 3, 10
"""Binary logarithms of the sides that are built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GFPGANConfig:
    """Hyperparameters; channels are listed by size: 4, 8, … S.

    Attributes:
        unet: Channels of the U-Net.
        decoder: Channels of the generator.
        style: Numbers in a latent.
        latents: Latents that the U-Net gives; one is for all layers.
        half: Whether the U-Net moves only the second half of the generator's channels.
    """

    unet: tuple[int, ...] = (256, 256, 256, 256, 256, 128, 64, 32)
    decoder: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)
    style: int = 512
    latents: int = 16
    half: bool = True

    @property
    def side(self) -> int:
        """Height and width of a face."""
        return int(2 ** (len(self.unet) + 1))


class ResBlock(nn.Module):
    """Two 3×3 with a bilinear resize between, beside a 1×1; (N, A, H, W) to (N, B, f·H, f·W)."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Adds both ways."""
        y = _leaky(self.conv2(_resized(_leaky(self.conv1(x)), self.factor)))
        return cast("Tensor", y + self.skip(_resized(x, self.factor)))


class ModulatedConv2d(nn.Module):
    """A convolution whose input channels a latent weights (StyleGAN2, equations 1 and 3)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, style: int) -> None:
        super().__init__()
        self.demodulate = kernel > 1
        self.modulation = nn.Linear(style, inputs)
        nn.init.ones_(self.modulation.bias)
        spread = 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel) * spread)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Maps (N, A, H, W) and (N, D) to (N, B, H, W)."""
        count, inputs, height, width = x.shape
        _, outputs, _, kernel, _ = self.weight.shape
        weight = self.weight * self.modulation(latent).reshape(count, 1, inputs, 1, 1)
        if self.demodulate:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        weight = weight.reshape(count * outputs, inputs, kernel, kernel)
        one = x.reshape(1, count * inputs, height, width)
        y = functional.conv2d(one, weight, padding=kernel // 2, groups=count)
        return y.reshape(count, outputs, height, width)


class StyleConv(nn.Module):
    """A modulated 3×3, noise, bias and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv2d(inputs, outputs, 3, style)
        self.weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(self, x: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Maps (N, A, H, W) to (N, B, H, W); `noise` is (1, 1, H, W)."""
        y = self.modulated_conv(x, latent) * math.sqrt(2)
        return _leaky(y + self.weight * noise + self.bias)


class ToRGB(nn.Module):
    """Colours of features, (N, A, H, W) to (N, 3, H, W)."""

    def __init__(self, inputs: int, style: int) -> None:
        super().__init__()
        self.modulated_conv = ModulatedConv2d(inputs, 3, 1, style)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """A modulated 1×1."""
        return cast("Tensor", self.modulated_conv(x, latent) + self.bias)


class ConstantInput(nn.Module):
    """What every face starts from, (1, V, 4, 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, count: int) -> Tensor:
        """Repeats it for each face."""
        return self.weight.repeat(count, 1, 1, 1)


class Decoder(nn.Module):
    """The StyleGAN2 whose features the U-Net scales and shifts."""

    def __init__(self, config: GFPGANConfig) -> None:
        super().__init__()
        widths, style = config.decoder, config.style
        self.partly = config.half
        self.constant_input = ConstantInput(widths[0])
        self.style_conv1 = StyleConv(widths[0], widths[0], style)
        self.to_rgb1 = ToRGB(widths[0], style)
        self.style_convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for low, high in itertools.pairwise(widths):
            self.style_convs += [StyleConv(low, high, style), StyleConv(high, high, style)]
            self.to_rgbs.append(ToRGB(high, style))
        self.noises = nn.Module()
        for layer in range(2 * len(widths) - 1):
            side = 2 ** ((layer + 5) // 2)
            self.noises.register_buffer(f"noise{layer}", torch.randn(1, 1, side, side))

    def forward(self, latents: Tensor, conditions: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Maps (N, L, D), and a scale and shift for each size from 8 on, to (N, 3, S, S)."""
        x = self.constant_input(latents.shape[0])
        x = self.style_conv1(x, latents[:, 0], self._noise(0))
        image = self.to_rgb1(x, latents[:, 1])
        for k, (scale, shift) in enumerate(conditions):
            enter, leave = self.style_convs[2 * k], self.style_convs[2 * k + 1]
            x = enter(_resized(x, 2), latents[:, 2 * k + 1], self._noise(2 * k + 1))
            x = self._moved(x, scale, shift)
            x = leave(x, latents[:, 2 * k + 2], self._noise(2 * k + 2))
            image = _resized(image, 2) + self.to_rgbs[k](x, latents[:, 2 * k + 3])
        return cast("Tensor", image)

    def _noise(self, layer: int) -> Tensor:
        return self.noises.get_buffer(f"noise{layer}")

    def _moved(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Spatial feature transform (the paper's equation 5)."""
        if not self.partly:
            return x * scale + shift
        same, moved = x.chunk(2, 1)
        return torch.cat([same, moved * scale + shift], 1)


class GFPGANClean(nn.Module):
    """The network, in float32."""

    def __init__(self, config: GFPGANConfig) -> None:
        super().__init__()
        self.config = config
        unet, moved = config.unet, [v // 2 if config.half else v for v in config.decoder]
        downs = itertools.pairwise(unet[::-1])
        self.conv_body_first = nn.Conv2d(3, unet[-1], 1)
        self.conv_body_down = nn.ModuleList(ResBlock(a, b, 0.5) for a, b in downs)
        self.final_conv = nn.Conv2d(unet[0], unet[0], 3, padding=1)
        self.final_linear = nn.Linear(unet[0] * 16, config.latents * config.style)
        ups = itertools.pairwise(unet)
        self.conv_body_up = nn.ModuleList(ResBlock(a, b, 2) for a, b in ups)
        self.toRGB = nn.ModuleList(nn.Conv2d(b, 3, 1) for b in unet[1:])
        pairs = list(zip(unet[1:], moved[1:], strict=True))
        self.condition_scale = nn.ModuleList(_condition(a, b) for a, b in pairs)
        self.condition_shift = nn.ModuleList(_condition(a, b) for a, b in pairs)
        self.stylegan_decoder = Decoder(config)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Builds the network that a state dict is of, in eval mode.

        Args:
            state: Tensors by name, as the authors publish them.

        Raises:
            CheckpointError: It is not one of this network, or a tensor is missing, left over or of
                another shape.
        """
        state = {k: v for k, v in state.items() if ".style_mlp." not in k}
        config = detect(state)
        if config is None:
            msg = "the checkpoint is not GFPGAN's clean network: take GFPGANv1.3.pth or v1.4"
            raise CheckpointError(msg)
        with torch.device("meta"):  # nothing is drawn only to be replaced
            network = cls(config)
        expected = {k: tuple(v.shape) for k, v in network.state_dict().items()}
        for key in (*expected, *state):
            found = tuple(state[key].shape) if key in state else None
            if found != expected.get(key):
                msg = (
                    f"the checkpoint is a damaged or unknown variant of GFPGAN: {key[:80]!r} has "
                    f"the shape {found}, expected {expected.get(key)}"
                )
                raise CheckpointError(msg)
        own = {k: v.to("cpu", torch.float32, copy=True).contiguous() for k, v in state.items()}
        network.load_state_dict(own, assign=True)
        return network.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Maps faces (N, 3, S, S) in [-1, 1] to the same, restored and not clamped."""
        return self.restore(x)[0]

    def restore(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As `forward`, with the U-Net's own pictures of sizes 8 to S, which training judges."""
        y = _leaky(self.conv_body_first(x))
        seen = []
        for down in self.conv_body_down:
            y = down(y)
            seen.append(y)
        y = _leaky(self.final_conv(y))
        latents = self.final_linear(y.flatten(1)).reshape(len(x), -1, self.config.style)
        latents = latents.expand(-1, 2 * len(self.config.unet), -1)
        conditions, pictures = [], []
        for k, up in enumerate(self.conv_body_up):
            y = up(y + seen[-1 - k])
            conditions.append((self.condition_scale[k](y), self.condition_shift[k](y)))
            pictures.append(self.toRGB[k](y))
        return self.stylegan_decoder(latents, conditions), pictures


def detect(state: Mapping[str, Tensor]) -> GFPGANConfig | None:
    """Infers the configuration from names and shapes; None if the state is of another network."""
    names = [f"conv_body_up.{k}.conv2.weight" for k in range(_LARGEST)]
    unet = [(*state[name].shape, 0)[0] for name in ("final_conv.weight", *names) if name in state]
    names = [f"stylegan_decoder.style_convs.{2 * k}.bias" for k in range(_LARGEST)]
    names = ["stylegan_decoder.style_conv1.bias", *names]
    decoder = [state[name].numel() for name in names if name in state]
    latent = state.get("stylegan_decoder.style_conv1.modulated_conv.modulation.weight")
    linear, scale = state.get("final_linear.weight"), state.get("condition_scale.0.2.weight")
    if latent is None or linear is None or scale is None or latent.ndim != 2 or linear.ndim != 2:
        return None
    if scale.ndim != 4 or min(*unet, *decoder, *latent.shape) < 2:
        return None
    if not _SMALLEST <= len(unet) + 1 <= _LARGEST or len(decoder) != len(unet):
        return None
    latents = linear.shape[0] // max(1, latent.shape[1])
    if latents not in (1, 2 * len(unet)):
        return None
    return GFPGANConfig(
        unet=tuple(unet),
        decoder=tuple(decoder),
        style=latent.shape[1],
        latents=latents,
        half=2 * scale.shape[0] == decoder[1],
    )


def _condition(inputs: int, outputs: int) -> nn.Sequential:
    first = nn.Conv2d(inputs, inputs, 3, padding=1)
    return nn.Sequential(first, nn.LeakyReLU(_SLOPE), nn.Conv2d(inputs, outputs, 3, padding=1))


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _SLOPE)


def _resized(x: Tensor, factor: float) -> Tensor:
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
