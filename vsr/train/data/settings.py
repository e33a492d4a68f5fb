"""What is learned from, and how it is cut. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vsr.errors import UsageError
from vsr.train.strict import Within


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Where samples come from.

    Attributes:
        folders: Pictures and videos of high resolution, at any depth; files are taken too.
        lows: A folder with their low-resolution counterparts: same names, at most with `x4` (the
            scale) behind; None if those are to be made by the degradation.
        unpaired: Whether what is in `lows` has nothing to do with what is in `folders`, as CycleGAN
            learns from; each sample then holds two crops that were drawn apart. Without `lows` the
            degradation makes the low one, of another picture.
        patch: Side of the high-resolution crops in pixels, a multiple of the scale.
        channels: `rgb`, or `luma`, BT.601's in full range.
        augment: Whether crops are turned and flipped, in all eight ways alike.
        shuffle: Probability that the three channels change places.
        degradation: One of `vsr.train.degrade`, or `none` where batches are degraded on the device;
            `low` is then empty.
        degradation_settings: Its settings by name; what is missing is as in the paper.
        degraded_on: Where pictures are degraded: in the `workers`, each by itself, or a batch at a
            time on the `device`, which `realesrgan` can, with its queue of pictures that wait.
        spare: Pixels by which crops are larger when they are degraded on the device, so that what
            is cut from them afterwards has no borders (Real-ESRGAN: 400 - 256 = 144).
        sizes: Factors to reduce a picture by before it is cut, all equally likely: a photograph is
            soft at its own size and crisp when reduced, and both occur in films.
        contrast: Standard deviation of luma, of 1, below which a crop is drawn again, at most eight
            times; 0 takes all.
        crops: Of each picture in an epoch.
        video_frames: Most frames taken of a video.
        video_every: Seconds between them.
        cache: MiB of decoded pictures kept in memory, in each worker.

    Raises:
        UsageError: Nothing to read, or settings that contradict each other.
    """

    folders: tuple[Path, ...]
    lows: Path | None = None
    unpaired: bool = False
    patch: Annotated[int, Within(1, 4096)] = 128
    channels: Literal["rgb", "luma"] = "rgb"
    augment: bool = True
    shuffle: Annotated[float, Within(0, 1)] = 0.0
    degradation: str = "bicubic"
    degradation_settings: Mapping[str, Any] = field(default_factory=dict)
    degraded_on: Literal["workers", "device"] = "workers"
    spare: Annotated[int, Within(0, 4096)] = 0
    sizes: tuple[Annotated[float, Within(1, 16)], ...] = (1.0,)
    contrast: Annotated[float, Within(0, 0.5)] = 0.0
    crops: Annotated[int, Within(1)] = 1
    video_frames: Annotated[int, Within(1)] = 16
    video_every: Annotated[float, Within(0.01)] = 2.0
    cache: Annotated[int, Within(0)] = 1024

    def __post_init__(self) -> None:
        if not self.folders:
            msg = "folders is empty: at least one folder of pictures or videos is expected"
            raise UsageError(msg)
        onboard = self.degraded_on == "device"
        if self.unpaired and self.lows is None and (onboard or self.degradation == "none"):
            msg = (
                "unpaired data needs lows, a folder of low-resolution pictures, or a degradation "
                "in the workers, got neither"
            )
            raise UsageError(msg)
        if onboard and (self.degradation != "realesrgan" or self.lows is not None):
            given = "lows" if self.lows is not None else f"degradation {self.degradation!r}"
            msg = f"degraded_on is 'device' with {given}: 'realesrgan' alone is degraded there"
            raise UsageError(msg)
        if self.spare and not onboard:
            msg = f"spare is {self.spare}: 0 is expected unless degraded_on is 'device'"
            raise UsageError(msg)
        if not self.sizes or (self.lows is not None and not self.unpaired and self.sizes != (1.0,)):
            msg = f"sizes is {self.sizes}: (1.0,) is expected where pairs come from two folders"
            raise UsageError(msg)
