"""The losses and the discriminator of a stage, made from its settings."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vsr.errors import UsageError
from vsr.train.discriminators.patch import PatchDiscriminator
from vsr.train.discriminators.srgan import SrganDiscriminator
from vsr.train.discriminators.unet import UnetDiscriminator
from vsr.train.discriminators.vgg import VggDiscriminator
from vsr.train.losses import gan, pixel
from vsr.train.losses.perceptual import FeatureDistance
from vsr.train.losses.random import LAYERS, RandomFeatures
from vsr.train.losses.vgg import load_vgg
from vsr.train.recipe import Stage
from vsr.train.settings import (
    DiscriminatorSettings,
    GanSettings,
    LossSettings,
    PixelLoss,
    RandomLoss,
    TvLoss,
    VggLoss,
)

type Loss = Callable[[Tensor, Tensor], Tensor]


class Criteria:
    """The weighted losses between an output and its target.

    Args:
        settings: One for each.
        device: Where features are computed.

    Raises:
        UsageError: A loss whose file is not given, or has no such layer.
        CheckpointError: A file that cannot be used.
    """

    def __init__(self, settings: Sequence[LossSettings], device: torch.device) -> None:
        self._losses: list[tuple[str, float, Loss]] = []
        for place, one in enumerate(settings):
            name = one.kind if not any(one.kind == n for n, _, _ in self._losses) else None
            made = _loss(one, f"losses[{place}]", device)
            self._losses.append((name or f"{one.kind}{place}", one.weight, made))

    def __call__(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Weighted losses by name, of float32 tensors of one shape in [0, 1]."""
        return {name: weight * loss(output, target) for name, weight, loss in self._losses}


def _loss(settings: LossSettings, where: str, device: torch.device) -> Loss:
    match settings:
        case PixelLoss(kind="l1"):
            return pixel.l1
        case PixelLoss(kind="l2"):
            return pixel.l2
        case PixelLoss():
            eps = settings.eps
            return lambda output, target: pixel.charbonnier(output, target, eps)
        case TvLoss():
            return lambda output, _: pixel.total_variation(output)
        case VggLoss():
            return _vgg(settings, where, device)
        case RandomLoss():
            unknown = set(settings.layers) - set(LAYERS)
            if unknown or not settings.layers:
                msg = f"{where}.layers has {sorted(unknown)}: use some of {', '.join(LAYERS)}"
                raise UsageError(msg)
            features = RandomFeatures()
            return FeatureDistance(features, settings.layers, settings.criterion).to(device)


def _vgg(settings: VggLoss, where: str, device: torch.device) -> Loss:
    if settings.weights is None:
        msg = (
            f"{where} needs {settings.network.upper()}'s weights in torchvision's layout: pass "
            "--vgg FILE, or use a loss of kind 'random', which needs no file"
        )
        raise UsageError(msg)
    features = load_vgg(
        settings.weights,
        settings.network,
        settings.layers,
        after_activation=settings.after_activation,
    )
    return FeatureDistance(features, settings.layers, settings.criterion).to(device)


def discriminator(settings: DiscriminatorSettings, channels: int) -> nn.Module:
    """Makes a discriminator for pictures of so many channels.

    Raises:
        UsageError: A size that its kind cannot have.
    """
    match settings.kind:
        case "vgg":
            return VggDiscriminator(channels, settings.features, settings.size)
        case "srgan":
            return SrganDiscriminator(channels, settings.features, settings.size)
        case "patch":
            return PatchDiscriminator(channels, settings.features, settings.layers, settings.norm)
        case "unet":
            return UnetDiscriminator(channels, settings.features)


def check_criteria(stage: Stage) -> None:
    """Finds out before the first step of a run whether a later stage's losses can be had.

    Raises:
        UsageError: A loss without its file, or a discriminator that cannot be.
        CheckpointError: A file that cannot be used.
    """
    Criteria(stage.losses, torch.device("cpu"))
    if stage.gan is not None:
        with torch.device("meta"):
            discriminator(stage.gan.discriminator, 3)


class Contest:
    """The adversarial loss of a stage, and its discriminator.

    Args:
        settings: Of both.
        channels: Of what is judged.
    """

    def __init__(self, settings: GanSettings, channels: int) -> None:
        self.settings = settings
        self.judge = discriminator(settings.discriminator, channels)

    def maker(self, made: Tensor, real: Tensor) -> Tensor:
        """The generator's weighted loss; the discriminator gets no gradients.

        Args:
            made: What the generator made, float32.
            real: What it should pass for.
        """
        self.judge.requires_grad_(requires_grad=False)
        logits = self.judge(made).float()
        reference = None
        if self.settings.relativistic:
            with torch.no_grad():
                reference = self.judge(real).float()
        kind, relativistic = self.settings.kind, self.settings.relativistic
        loss = gan.maker_loss(kind, logits, reference, relativistic=relativistic)
        self.judge.requires_grad_(requires_grad=True)
        return self.settings.weight * loss

    def referee(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The discriminator's weighted losses, by name.

        Args:
            made: What the generator made; gradients do not go there.
            real: Real ones of the same shape.
        """
        made = made.detach()
        kind, relativistic = self.settings.kind, self.settings.relativistic
        logits = self.judge(real).float(), self.judge(made).float()
        loss = gan.judge_loss(kind, *logits, relativistic=relativistic)
        losses = {"judge": self.settings.judge_weight * loss}
        if self.settings.penalty:
            with torch.autocast(made.device.type, enabled=False):
                penalty = gan.gradient_penalty(self.judge, real, made)
            losses["penalty"] = self.settings.penalty * penalty
        return losses
