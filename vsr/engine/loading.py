"""From a name to a network that runs: choosing, loading, and composing upscalers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from vsr.checkpoints import blend, ensure, read_checkpoint
from vsr.checkpoints.blending import is_blend, is_file_name, parse_blend
from vsr.checkpoints.download import sha256_of
from vsr.engine.base import Upscaler
from vsr.engine.blends import load_blend
from vsr.engine.color import rgb_to_ycc, ycc_to_rgb
from vsr.engine.devices import most_workers, resolve_device, resolve_devices, resolve_precision
from vsr.engine.engines.registry import open_network, resolve_engine
from vsr.engine.ensemble import Ensemble
from vsr.engine.faces import FaceModel
from vsr.engine.memory import activation_bytes, automatic
from vsr.engine.stream import Factory, Settings
from vsr.engine.tiled import Chained, Padded, Tiled
from vsr.errors import UsageError
from vsr.models import build
from vsr.models._base import InputSpec
from vsr.models.catalog import Published, find, recognised
from vsr.models.interpolation import KERNELS, Interpolation
from vsr.resample import Kernel, resize

_BT601 = 6
DEFAULT_MODEL = "vsr-fast"
VIDEO_MODEL = "vsr-video"
"""The default where a codec has left out detail."""


@dataclass(frozen=True, slots=True)
class Model:
    """A network in memory, or an interpolation, not yet on a device.

    Attributes:
        name: For people.
        spec: Of one pass.
        module: In float32 on the CPU; None for an interpolation.
        kernel: Of an interpolation, and of chroma beside a luma network.
        passes: How often it runs after itself to reach the asked factor.
        faces: Restores faces afterwards, if they shall be.
    """

    name: str
    spec: InputSpec
    module: nn.Module | None
    kernel: Kernel = "bicubic"
    passes: int = 1
    faces: FaceModel | None = None

    @property
    def learned(self) -> bool:
        """Whether it has weights."""
        return self.module is not None


def find_model(
    name: str = "auto",
    *,
    path: Path | None = None,
    factor: Fraction = Fraction(1),
    denoise: float | None = None,
    lossy: bool = False,
    offline: bool = False,
    confirm: Callable[[str], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """Loads what reaches a factor: the nearest larger scale, or the largest more than once.

    Args:
        name: A name of the catalogue, `auto`, a kernel such as `bicubic`, or a mixture of names and
            paths such as `A*0.8+B*0.2`.
        path: A checkpoint file instead.
        factor: Output over input size.
        denoise: Strength from 0 to 1 for models with a denoising twin.
        lossy: Whether a codec has left out detail, for what `auto` takes.
        offline: Never download.
        confirm: Asked before a file without a pinned digest is downloaded.
        progress: Told (bytes so far, bytes in all) of a download.

    Raises:
        ModelError: No such model, or its checkpoint cannot be used.
        UsageError: The denoising strength does not apply.
    """
    if path is not None:
        if denoise is not None:
            msg = "--denoise-strength needs a model with a denoising twin, not --model-path"
            raise UsageError(msg)
        return _loaded(path.name, path, factor)
    if is_interpolation(name):
        scale = max(1, math.ceil(factor))
        return Model(name, Interpolation(KERNELS[name], scale).spec, None, KERNELS[name])

    def fetched(entry: Published) -> Path:
        return ensure(entry, offline=offline, confirm=confirm, progress=progress)

    if is_blend(name):
        return _blended(name, denoise, fetched, factor)
    published = find(default_model(lossy=lossy) if name == "auto" else name, factor)
    if denoise is None:
        return _loaded(published.name, fetched(published), factor)
    return _denoising(published, denoise, fetched, factor)


def default_model(*, lossy: bool) -> str:
    """The family that `auto` takes."""
    return VIDEO_MODEL if lossy else DEFAULT_MODEL


def is_interpolation(name: str) -> bool:
    """Whether a model's name is that of a kernel."""
    return name in KERNELS


def _loaded(name: str, path: Path, factor: Fraction) -> Model:
    checkpoint = read_checkpoint(path)
    enlarging = factor if factor > 1 else None
    module, spec = build(checkpoint.state, checkpoint.metadata or _header(path), enlarging)
    return Model(name, spec, module, passes=_passes(spec.scale, factor))


def _blended(
    name: str, denoise: float | None, fetched: Callable[[Published], Path], factor: Fraction
) -> Model:
    if denoise is not None:
        msg = "--denoise-strength is itself a mixture: give it with one model's name"
        raise UsageError(msg)

    def locate(part: str) -> Path:
        return Path(part) if _is_path(part) else fetched(find(part, factor))

    module, spec = load_blend(parse_blend(name), locate, factor if factor > 1 else None).network()
    return Model(name, spec, module, passes=_passes(spec.scale, factor))


def _header(path: Path) -> dict[str, str]:
    """What the catalogue knows of a file without a header."""
    known = recognised(path.stat().st_size, lambda: sha256_of(path))
    return known.header if known else {}


def _passes(scale: int, factor: Fraction) -> int:
    passes, reached = 1, scale
    while scale > 1 and reached < factor:
        passes, reached = passes + 1, reached * scale
    return passes


def _denoising(
    published: Published, strength: float, fetched: Callable[[Published], Path], factor: Fraction
) -> Model:
    if not 0 <= strength <= 1:
        msg = f"the denoising strength must lie between 0 and 1, got {strength}"
        raise UsageError(msg)
    if published.denoise_twin is None:
        msg = (
            f"{published.name} has no denoising twin: --denoise-strength works with "
            "realesr-general-x4v3"
        )
        raise UsageError(msg)
    strong = read_checkpoint(fetched(published)).state
    weak = read_checkpoint(fetched(find(published.denoise_twin))).state
    module, spec = build(blend(weak, strong, strength), {})
    return Model(published.name, spec, module, passes=_passes(spec.scale, factor))


def describe_model(
    name: str,
    path: Path | None,
    factor: Fraction,
    device: str,
    precision: str,
    *,
    lossy: bool = False,
) -> list[tuple[str, str, str]]:
    """Says which network `find_model` would take, without downloading anything.

    Returns:
        (topic, decision, reason) for people.
    """
    chosen_devices = resolve_devices(device)
    where, shown = chosen_devices[0], ",".join(map(str, chosen_devices))
    rows = [("device", shown, "asked for" if device != "auto" else "the fastest one here")]
    spec: InputSpec | None = None
    if path is not None:
        spec = find_model(path=path, factor=factor).spec
        rows.append(("model", f"{path.name}, x{spec.scale}", "its own scale"))
    elif is_blend(name):
        return [*rows, ("model", name, "a mixture of networks")]
    elif is_interpolation(name):
        return [*rows, ("model", name, "an interpolation without weights")]
    else:
        published = find(default_model(lossy=lossy) if name == "auto" else name, factor)
        origin = "embedded" if published.embedded else "downloaded once, then cached"
        why = ", for the codec has left out detail" if lossy and name == "auto" else ""
        rows.append(("model", published.name, f"{origin}{why}"))
        if published.embedded:
            spec = find_model(published.name, factor=factor).spec
    if spec is not None:
        chosen = resolve_precision(precision, where, spec)
        rows.append(
            ("precision", chosen, "fastest safe one" if precision == "auto" else "asked for")
        )
    return rows


def factory(
    model: Model,
    device: torch.device,
    *,
    tile_pad: int | None = None,
    tta: bool = False,
    engine: str = "torch",
) -> Factory:
    """Makes the function that puts a model on a device for given settings.

    Args:
        model: What to put there.
        device: Where.
        tile_pad: Overlap of tiles instead of the receptive field.
        tta: Whether to average over the eight symmetries.
        engine: What computes, see `vsr.engine.engines`.
    """

    def make(settings: Settings) -> Upscaler:
        if model.module is None:
            return Interpolation(model.kernel, model.spec.scale)
        upscaler = open_network(engine, model.module, model.spec, device, settings.precision)
        if settings.tile:
            upscaler = Tiled(upscaler, settings.tile, tile_pad)
        upscaler = one = Padded(upscaler)
        for _ in range(model.passes - 1):
            upscaler = Chained(upscaler, one)
        return Ensemble(upscaler) if tta else upscaler

    return make


def settings_for(
    model: Model,
    device: torch.device,
    size: tuple[int, int],
    *,
    precision: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    stream: bool = False,
) -> Settings:
    """Fills in what was left automatic.

    Args:
        model: What runs.
        device: Where.
        size: Width and height of the source.
        precision: `auto` for the fastest safe one.
        tile: Side of a tile, None for what fits.
        batch: Frames computed together, None for what the device likes.
        stream: Whether many frames come, so that the cores are best given to several at a time.

    Raises:
        UsageError: A tile or precision that the network cannot use.
    """
    workers = most_workers(device) if stream else 1
    if model.module is None:
        return Settings(batch=batch or 1, workers=workers)
    chosen = resolve_precision(precision, device, model.spec)
    per_pixel = activation_bytes(model.module, model.spec, chosen)
    settings = automatic(model.spec, per_pixel, device, chosen, size, workers)
    if tile is not None:
        settings = replace(settings, tile=tile)
    return replace(settings, batch=batch) if batch else settings


class StudioLuma:
    """Gives a network luma as it was trained on it, 16 to 235 of 255, and takes it so.

    Args:
        inner: The network.
    """

    def __init__(self, inner: Upscaler) -> None:
        self.inner, self.spec = inner, inner.spec

    def __call__(self, x: Tensor, /) -> Tensor:
        """Maps (N, 1, H, W) in [0, 1] to (N, 1, s·H, s·W), black at 0 and white at 1."""
        return (self.inner(x * (219 / 255) + 16 / 255) - 16 / 255) * (255 / 219)


class OnPictures:
    """An upscaler for people's tensors: any of one, three or four channels, any float type.

    A luma network gets the BT.601 luma of RGB, in the range that it was trained on, and the chroma
    is resampled beside it. One channel goes to it as it is, as papers do with gray pictures. A
    fourth channel is alpha and is resampled too.

    Args:
        inner: The network.
        device: Where it runs.
        kernel: For chroma and alpha.
    """

    def __init__(self, inner: Upscaler, device: torch.device, kernel: Kernel = "bicubic") -> None:
        self.inner, self.spec, self.device, self.kernel = inner, inner.spec, device, kernel

    def __call__(self, x: Tensor, /) -> Tensor:
        """Upscales a batch.

        Args:
            x: Shape (N, C, H, W), values in [0, 1], float, on `device`; C is 1 (gray), 3 (RGB) or
                4 (RGB and alpha).

        Returns:
            Shape (N, C, s·H, s·W) in [0, 1], same dtype and device.

        Raises:
            UsageError: Another shape, type or device.
        """
        if x.ndim != 4 or x.shape[1] not in (1, 3, 4) or not x.is_floating_point():
            msg = f"expected a float tensor (N, 1|3|4, H, W), got {x.dtype} {tuple(x.shape)}"
            raise UsageError(msg)
        if x.device != self.device:
            msg = f"the model is on {self.device}, the tensor on {x.device}: move one of them"
            raise UsageError(msg)
        with torch.inference_mode():
            y = self._color(x[:, :3].float())
            if x.shape[1] == 4:
                y = torch.cat([y, self._resized(x[:, 3:].float())], 1)
            return y.clamp_(0, 1).to(x.dtype)

    def _color(self, x: Tensor) -> Tensor:
        channels = self.spec.channels
        if channels is None or channels == x.shape[1]:
            return self.inner(x)
        if x.shape[1] == 1:
            return self.inner(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
        ycc = rgb_to_ycc(x, _BT601)
        inner = StudioLuma(self.inner) if self.spec.luma == "studio" else self.inner
        return ycc_to_rgb(torch.cat([inner(ycc[:, :1]), self._resized(ycc[:, 1:])], 1), _BT601)

    def _resized(self, x: Tensor) -> Tensor:
        height, width = (side * self.spec.scale for side in x.shape[2:])
        return resize(x, height, width, self.kernel)


def load_model(
    model: str | Path = "auto",
    *,
    scale: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    tile: int = 0,
    denoise: float | None = None,
    offline: bool = False,
) -> OnPictures:
    """Loads a network as a function on tensors.

    Args:
        model: A name of the catalogue such as `realesr-animevideov3`, a kernel such as `bicubic`,
            the path of a checkpoint (anything that ends in .safetensors, .pth, .pt, .ckpt, .npz,
            .pb, .mat or .param), or a mixture of both such as `A*0.8+B*0.2`.
        scale: Which of the model's scales; the smallest that reaches it. The model's own if None.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `fp16`, `bf16` or `int8`.
        tile: Side of a tile in input pixels, 0 for the whole picture.
        denoise: Strength from 0 to 1, for models with a denoising twin.
        offline: Never download.

    Returns:
        A callable that maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W); see `OnPictures`.

    Raises:
        ModelError: Unknown name, unusable checkpoint, failed download.
        DeviceError: The device is not there.
        UsageError: Settings that do not apply.
    """
    path = Path(model) if _is_path(model) else None
    factor = Fraction(scale or 1)
    found = find_model(str(model), path=path, factor=factor, denoise=denoise, offline=offline)
    where = resolve_device(device)
    chosen = resolve_precision(precision, where, found.spec)
    make = factory(found, where, engine=resolve_engine("auto", chosen))
    return OnPictures(make(Settings(precision=chosen, tile=tile)), where, found.kernel)


def _is_path(model: str | Path) -> bool:
    return isinstance(model, Path) or is_file_name(model)
