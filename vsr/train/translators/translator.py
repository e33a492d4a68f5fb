"""The translator or noise model of a file, as a function on pictures in [0, 1].

A learned degradation is such a file: `vsr train` writes it, the `learned` degradation uses it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError, UsageError
from vsr.train.strict import structure
from vsr.train.translators.noise import NoiseConfig, build_noise
from vsr.train.translators.resnet import Resnet, ResnetConfig
from vsr.train.translators.unet import Unet, UnetConfig

HEADER = "translator."
"""What comes before the family's name in a checkpoint's header."""

FAMILIES: Mapping[str, tuple[Any, Any]] = {
    "unet": (UnetConfig, Unet),
    "resnet": (ResnetConfig, Resnet),
    "noise": (NoiseConfig, build_noise),
}
"""Configuration and builder by name."""


class Translator:
    """Damages pictures as it has learned to.

    Args:
        network: In eval mode, but for dropout where it has some: pix2pix keeps it for variety.
        config: Its.
    """

    def __init__(self, network: nn.Module, config: Any) -> None:
        self.network, self.config = network, config

    @torch.inference_mode()
    def __call__(self, clean: Tensor, level: float = 0.5) -> Tensor:
        """Damages pictures of any size.

        Args:
            clean: (N, C, H, W) in [0, 1].
            level: For noise: strength of the compression, from 0 to 1.

        Returns:
            The same shape, in [0, 1].
        """
        if isinstance(self.config, NoiseConfig):
            return (clean + self._noise(clean, level)).clamp(0, 1)
        height, width = clean.shape[2:]
        step = int(getattr(self.network, "multiple_of", 1))
        padded = F.pad(clean, (0, -width % step, 0, -height % step), mode="replicate")
        made: Tensor = self.network(padded * 2 - 1)
        return ((made[:, :, :height, :width] + 1) / 2).clamp(0, 1)

    def _noise(self, clean: Tensor, level: float) -> Tensor:
        """Noise of the pictures' size; patches of `dcgan` are laid side by side."""
        count, _, height, width = clean.shape
        if self.config.kind == "conditional":
            made: Tensor = self.network(clean, clean.new_full((count,), level))
            return made
        size = self.config.size
        down, across = -(-height // size), -(-width // size)
        many = clean.new_empty(count * down * across, 1, 1, 1)
        patches: Tensor = self.network(many, clean.new_full((len(many),), level))
        rows = patches.view(count, down, across, -1, size, size).permute(0, 3, 1, 4, 2, 5)
        whole = rows.reshape(count, -1, down * size, across * size)
        return whole[:, :, :height, :width]


def load_translator(path: Path) -> Translator:
    """Reads a translator.

    Args:
        path: A checkpoint that `vsr train` wrote for the tasks translate, cycle or noise.

    Raises:
        CheckpointError: It cannot be read, or is of something else.
    """
    checkpoint = read_checkpoint(path)
    name = checkpoint.metadata.get("architecture", "").removeprefix(HEADER)
    if name not in FAMILIES or "config" not in checkpoint.metadata:
        msg = (
            f"{path.name} holds no translator: train one with a recipe such as pix2pix, cyclegan "
            "or noise-gan"
        )
        raise CheckpointError(msg)
    kind, build = FAMILIES[name]
    try:
        config = structure(kind, json.loads(checkpoint.metadata["config"]), "config")
        network: nn.Module = build(config)
        network.load_state_dict(checkpoint.state)
    except (ValueError, RuntimeError, UsageError) as error:
        msg = f"{path.name} is damaged: {str(error).splitlines()[0]}"
        raise CheckpointError(msg) from error
    network.eval()
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.train()
    return Translator(network, config)
