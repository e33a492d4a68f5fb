"""Pairs of crops to train on: low resolution as MATLAB makes it, and what it was made of.

With `Damage` the low resolution has been through a video codec: a window moves over the picture by
whole pixels, the clip is reduced, encoded with a drawn quality and decoded, and one of its frames
is taken. Some stay as they were, as good sources do.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from vsr.io.codec_damage import Codec, Encode, damaged
from vsr.resample import resize

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
LUMA = torch.tensor([0.299, 0.587, 0.114])
REDUCTIONS = (1.0, 1.5, 2.0, 3.0, 4.0)
LEARNT = 42.0
WORST = 0.06


@dataclass(frozen=True, slots=True)
class Crops:
    """Low-resolution crops (N, 1, P, P) and their targets (N, 1, s·P, s·P), half precision."""

    lows: Tensor
    highs: Tensor

    def batch(self, random: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Draws crops, turned and flipped together."""
        index = torch.from_numpy(random.integers(len(self.lows), size=count))
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        chosen = (torch.rot90(x[index].float(), turns, (2, 3)) for x in (self.lows, self.highs))
        low, high = (x.flip(3) if flip else x for x in chosen)
        return low.contiguous(memory_format=torch.channels_last), high


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def levels(folder: Path, side: int, smallest: int) -> Iterator[Tensor]:
    """Every picture as (3, H, W) RGB 0 to 255 at several sizes.

    A large photograph is soft at its own size and crisp when reduced; both kinds occur in films.
    """
    for path in files(folder):
        with Image.open(path) as image:
            rgb = image.convert("RGBA")
            opaque = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")
        picture = torch.from_numpy(np.array(opaque)).permute(2, 0, 1).float()
        for factor in REDUCTIONS if min(opaque.size) > 600 else REDUCTIONS[:3]:
            height, width = int(opaque.height / factor), int(opaque.width / factor)
            if min(height, width) < smallest:
                break
            if factor == 1:
                yield picture[:, :side, :side]
            else:
                yield resize(picture, height, width, "bicubic").round().clamp(0, 255)


def reduced(rgb: Tensor, scale: int) -> Tensor:
    """A picture reduced as MATLAB does it, which rounds between the axes; (3, H, W), 0 to 255."""
    height, width = (side // scale for side in rgb.shape[1:])
    low = resize(rgb, height, width * scale, "bicubic").round().clamp(0, 255)
    return resize(low, height, width, "bicubic").round().clamp(0, 255)


def luma(rgb: Tensor) -> Tensor:
    """(H, W) from 0 to 1 of (3, H, W) from 0 to 255."""
    return torch.einsum("chw,c->hw", rgb / 255, LUMA)


def cropped(rgb: Tensor, scale: int) -> Tensor:
    """Its sides become multiples of the scale."""
    height, width = (side // scale * scale for side in rgb.shape[1:])
    return rgb[:, :height, :width]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """How low resolution is encoded before a network sees it.

    Attributes:
        spared: Share of the windows that stay as they were.
        frames: Of a clip.
        window: Most pixels of a side of low resolution.
        step: Most pixels of high resolution by which a window moves.
        windows: Clips from every picture.
        crf: Least and greatest, of x264; the other codecs' scales lie alongside.
        codecs: How often each is drawn.
    """

    spared: float = 0.12
    frames: int = 4
    window: int = 288
    step: int = 5
    windows: int = 2
    crf: tuple[int, int] = (15, 34)
    codecs: tuple[tuple[Codec, float], ...] = (("h264", 0.75), ("h265", 0.15), ("mpeg2", 0.1))

    def pairs(
        self, rgb: Tensor, scale: int, random: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Low and high luma of some windows of a picture."""
        for _ in range(self.windows):
            truth = self._clip(rgb, scale, random)
            number = int(random.integers(self.frames))
            if random.random() < self.spared:
                low = reduced(truth[number], scale)
            else:
                small = [
                    reduced(picture, scale).permute(1, 2, 0).byte().numpy() for picture in truth
                ]
                coded = damaged(small, self._encode(random))[number]
                low = torch.from_numpy(np.array(coded)).permute(2, 0, 1).float()
            yield luma(low), luma(truth[number])

    def _clip(self, rgb: Tensor, scale: int, random: np.random.Generator) -> list[Tensor]:
        steps = random.integers(-self.step, self.step + 1, 2)
        room = abs(steps) * (self.frames - 1)
        extents = np.array(rgb.shape[1:]) - room
        sides = np.minimum(extents, self.window * scale) // scale * scale
        place = (random.random(2) * (extents - sides + 1)).astype(int) + room * (steps < 0)
        starts = [place + k * steps for k in range(self.frames)]
        return [rgb[:, y : y + sides[0], x : x + sides[1]] for y, x in starts]

    def _encode(self, random: np.random.Generator) -> Encode:
        names, shares = zip(*self.codecs, strict=True)
        codec: Codec = names[random.choice(len(names), p=shares)]
        crf = random.integers(self.crf[0], self.crf[1] + 1)
        if codec == "mpeg2":  # its quantiser
            return Encode(codec=codec, crf=1 + (crf - self.crf[0]) // 3)
        preset = str(random.choice(["veryfast", "medium"]))
        return Encode(codec=codec, crf=crf + 2 * (codec == "h265"), preset=preset)


def pairs(
    rgb: Tensor, scale: int, damage: Damage | None, random: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Low and high luma of a picture, (H, W) from 0 to 1, or of parts of it."""
    rgb = cropped(rgb, scale)
    if damage is None:
        yield luma(reduced(rgb, scale)), luma(rgb)
    else:
        yield from damage.pairs(rgb, scale, random)


def errors(low: Tensor, high: Tensor, scale: int, patch: int) -> Tensor:
    """Mean squared error of bicubic interpolation in windows a quarter of their side apart."""
    guess = F.interpolate(low[None, None], scale_factor=scale, mode="bicubic")
    squared = F.avg_pool2d((guess - high) ** 2, scale)
    return F.avg_pool2d(squared, patch, patch // 4)[0, 0]


def draw_crops(
    folder: Path,
    scale: int,
    count: int,
    patch: int,
    side: int,
    seed: int,
    damage: Damage | None = None,
) -> Crops:
    """Draws crops from all pictures, the likelier the more there is to learn in them."""
    pictures, windows, losses = [], [], []
    random = np.random.default_rng(seed)
    smallest = patch * scale + (0 if damage is None else damage.step * damage.frames)
    made = (pairs(rgb, scale, damage, random) for rgb in levels(folder, side, smallest))
    for number, (low, high) in enumerate(itertools.chain.from_iterable(made)):
        loss = errors(low, high, scale, patch)
        y, x = torch.meshgrid(*(torch.arange(n) * (patch // 4) for n in loss.shape), indexing="ij")
        pictures.append((low, high))
        windows.append(torch.stack([torch.full_like(y, number), y, x], -1).flatten(0, 1))
        losses.append(loss.flatten())
    loss = torch.cat(losses)
    weight = loss.sqrt().clamp(0, WORST).double()
    weight[loss < 10 ** (-LEARNT / 10)] = 0
    chosen = random.choice(len(loss), count, replace=False, p=(weight / weight.sum()).numpy())
    lows = torch.empty(count, 1, patch, patch, dtype=torch.float16)
    highs = torch.empty(count, 1, patch * scale, patch * scale, dtype=torch.float16)
    for place, (number, y, x) in enumerate(torch.cat(windows)[torch.from_numpy(chosen)].tolist()):
        low, high = pictures[number]
        lows[place, 0] = low[y : y + patch, x : x + patch]
        top, left, size = y * scale, x * scale, patch * scale
        highs[place, 0] = high[top : top + size, left : left + size]
    return Crops(lows, highs)
