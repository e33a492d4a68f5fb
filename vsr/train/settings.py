"""The tables within a stage of a recipe. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vsr.errors import UsageError
from vsr.train.strict import Within

type Share = Annotated[float, Within(0, 1)]
type Positive = Annotated[float, Within(0)]
type Count = Annotated[int, Within(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelLoss:
    """A distance between pixels.

    Attributes:
        kind: Which one.
        weight: Factor in the sum.
        eps: Of `charbonnier`, under its root.
    """

    kind: Literal["l1", "l2", "charbonnier"]
    weight: float = 1.0
    eps: Annotated[float, Within(1e-30)] = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class TvLoss:
    """Total variation of the output: less of it is smoother.

    Attributes:
        kind: Its name.
        weight: Factor in the sum.
    """

    kind: Literal["tv"]
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VggLoss:
    """A distance between features of VGG, whose weights lie in a file.

    Attributes:
        kind: Its name.
        weight: Factor in the sum.
        weights: The file, in torchvision's layout (`vgg19-dcbb9e9d.pth`), or MINC's VGG16. It does
            not ship: it is half a gigabyte under ImageNet's terms.
        network: Whose weights they are.
        layers: Factors by layer, such as `conv5_4`.
        criterion: How features are compared.
        after_activation: Whether behind the ReLU (SRGAN) or before it (ESRGAN).
    """

    kind: Literal["vgg"]
    weight: float = 1.0
    weights: Path | None = None
    network: Literal["vgg16", "vgg19"] = "vgg19"
    layers: Mapping[str, float] = field(default_factory=lambda: {"conv5_4": 1.0})
    criterion: Literal["l1", "l2"] = "l1"
    after_activation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomLoss:
    """The substitute that needs no file: features of fixed random filters.

    Attributes:
        kind: Its name.
        weight: Factor in the sum.
        layers: Factors of the levels `scale1`, `scale2` and `scale3`.
        criterion: How features are compared.
    """

    kind: Literal["random"]
    weight: float = 1.0
    layers: Mapping[str, float] = field(
        default_factory=lambda: {"scale1": 0.1, "scale2": 0.3, "scale3": 1.0}
    )
    criterion: Literal["l1", "l2"] = "l1"


type LossSettings = PixelLoss | TvLoss | VggLoss | RandomLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscriminatorSettings:
    """Which discriminator.

    Attributes:
        kind: A module of `vsr.train.discriminators`.
        features: Of its first layer.
        size: Side of the pictures, for `vgg` and `srgan`.
        layers: Of `patch`.
        norm: Of `patch`.
    """

    kind: Literal["vgg", "srgan", "patch", "unet"] = "unet"
    features: Annotated[int, Within(1, 1024)] = 64
    size: Count = 128
    layers: Annotated[int, Within(1, 6)] = 3
    norm: Literal["batch", "instance"] = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserSettings:
    """What turns gradients into steps.

    Attributes:
        kind: Adam, AdamW, or Muon for matrices with AdamW for the rest.
        rate: Of learning, before the schedule's factor.
        betas: Of Adam.
        eps: Of Adam.
        decay: Of weights, per step and rate; for `adam` added to the gradient.
        momentum: Of Muon.
        rest: Of Muon: the rate of what it leaves to AdamW, as a share of `rate`.
    """

    kind: Literal["adam", "adamw", "muon"] = "adam"
    rate: Positive = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.99)
    eps: Positive = 1e-8
    decay: Positive = 0.0
    momentum: Share = 0.95
    rest: Positive = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """Factor of the learning rate over a stage.

    Attributes:
        kind: `constant`; `cosine` to `floor`; `steps`, multiplied by `gamma` at each milestone;
            `linear`, constant until the first milestone and then straight to `floor`.
        milestones: In steps.
        gamma: Of `steps`.
        floor: Of `cosine` and `linear`.
        warmup: Steps in which the factor first rises from 0.
    """

    kind: Literal["constant", "cosine", "steps", "linear"] = "constant"
    milestones: tuple[Annotated[int, Within(0)], ...] = ()
    gamma: Share = 0.5
    floor: Share = 0.0
    warmup: Annotated[int, Within(0)] = 0

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            msg = f"milestones must rise, got {list(self.milestones)}"
            raise UsageError(msg)
        if self.kind == "steps" and not self.milestones:
            msg = "a schedule of kind 'steps' needs milestones, got none"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class GanSettings:
    """An adversarial loss and its discriminator.

    Attributes:
        kind: See `vsr.train.losses.gan`.
        relativistic: Whether pictures are judged relative to those of the other kind.
        weight: Of the generator's adversarial loss.
        penalty: Weight of the gradient penalty (WGAN-GP: 10); 0 for none.
        judge_steps: Updates of the discriminator per update of the generator (WGAN-GP: 5).
        judge_weight: Of the discriminator's loss (pix2pix and CycleGAN: 0.5).
        after: Step from which on the generator feels it; the discriminator learns from the start.
        discriminator: Which one.
        optimiser: The discriminator's; None for the generator's settings.
    """

    kind: Literal["vanilla", "lsgan", "hinge", "wgan", "wgan_softplus"] = "vanilla"
    relativistic: bool = False
    weight: Positive = 0.1
    penalty: Positive = 0.0
    judge_steps: Annotated[int, Within(1, 100)] = 1
    judge_weight: Positive = 1.0
    after: Annotated[int, Within(0)] = 0
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    optimiser: OptimiserSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSettings:
    """Of CycleGAN.

    Attributes:
        weight: Of the L1 between a picture and what comes back of it.
        identity: Of the L1 between a picture and itself translated to its own kind, as a share of
            `weight`.
        pool: Made pictures that the replay buffer keeps.
    """

    weight: Positive = 10.0
    identity: Positive = 0.5
    pool: Annotated[int, Within(0, 10000)] = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastSettings:
    """Of DASR's representation learning.

    Attributes:
        weight: Of the contrastive loss.
        queue: Keys of earlier pictures.
        momentum: Of the key encoder.
        temperature: By which similarities are divided.
    """

    weight: Positive = 1.0
    queue: Count = 8192
    momentum: Share = 0.999
    temperature: Annotated[float, Within(1e-6)] = 0.07


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSettings:
    """Pictures that are measured now and then, and never learned from.

    Attributes:
        folders: Pictures and videos of high resolution.
        lows: Their low-resolution counterparts, as in the data's `lows`; None if those are made.
        degradation: By what; None for the stage's own degradation, drawn alike every time.
        degradation_settings: Its settings by name; only where `degradation` is given.
        every: Steps between measurements; there is one before the first step and after the last.
        most: Pictures at most; the first ones of the folders.
        side: Pixels of the middle of a picture that are taken, at most; 0 for all of it.
        best: What decides which network is the best one: `psnr` and `ssim` on luma as papers
            measure them, or `features`, a distance that needs no weights, for adversarial stages.

    Raises:
        UsageError: Nothing to read, or settings that contradict each other.
    """

    folders: tuple[Path, ...]
    lows: Path | None = None
    degradation: str | None = None
    degradation_settings: Mapping[str, Any] = field(default_factory=dict)
    every: Count = 5000
    most: Count = 100
    side: Annotated[int, Within(0)] = 512
    best: Literal["psnr", "ssim", "features"] = "psnr"

    def __post_init__(self) -> None:
        if not self.folders:
            msg = "folders is empty: at least one folder of pictures to validate on is expected"
            raise UsageError(msg)
        if self.degradation_settings and self.degradation is None:
            msg = "degradation_settings are given without degradation: name the degradation too"
            raise UsageError(msg)
        if self.degradation == "none" or (self.lows and self.degradation):
            msg = f"degradation is {self.degradation!r}: leave it, or give lows, or name another"
            raise UsageError(msg)
