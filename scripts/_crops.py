"""Pairs of crops to train on: low resolution as MATLAB makes it, and what it was made of.

With `Damage` the low resolution has been through a video codec: a window moves over the picture by
whole pixels, the clip is reduced, encoded with a drawn quality and decoded, and one of its frames
is taken with the next one. Some stay as they were, as good sources do.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
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
    """Crops of one picture or of two successive ones.

    Attributes:
        lows: (N, T, P, P), half precision.
        highs: Targets (N, T, s·P, s·P), likewise.
        moves: (N, 2), rows and columns of high resolution by which the second one looks farther.
    """

    lows: Tensor
    highs: Tensor
    moves: Tensor

    def batch(self, random: np.random.Generator, count: int) -> "Crops":
        """Draws crops, turned and flipped together, single precision."""
        index = torch.from_numpy(random.integers(len(self.lows), size=count))
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        chosen = (torch.rot90(x[index].float(), turns, (2, 3)) for x in (self.lows, self.highs))
        low, high = (x.flip(3) if flip else x for x in chosen)
        rows, columns = self.moves[index].T
        for _ in range(turns):
            rows, columns = -columns, rows
        return Crops(low, high, torch.stack([rows, -columns if flip else columns], 1))


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

    def pieces(self, rgb: Tensor, scale: int, random: np.random.Generator) -> "Iterator[Piece]":
        """Successive frames of some windows of a picture."""
        for _ in range(self.windows):
            steps = random.integers(-self.step, self.step + 1, 2)
            truth = self._clip(rgb, scale, steps, random)
            number = int(random.integers(self.frames - 1))
            lows = [reduced(picture, scale) for picture in truth]
            if random.random() >= self.spared:
                small = [low.permute(1, 2, 0).byte().numpy() for low in lows]
                coded = damaged(small, self._encode(random))
                lows = [torch.from_numpy(np.array(x)).permute(2, 0, 1).float() for x in coded]
            two = slice(number, number + 2)
            low, high = (torch.stack([luma(x) for x in frames[two]]) for frames in (lows, truth))
            yield Piece(low, high, (int(steps[0]), int(steps[1])))

    def _clip(
        self,
        rgb: Tensor,
        scale: int,
        steps: NDArray[np.int64],
        random: np.random.Generator,
    ) -> list[Tensor]:
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


class Piece(NamedTuple):
    """Luma of a picture, or of a part of it in two successive frames, from 0 to 1.

    Attributes:
        low: (T, H, W).
        high: (T, s·H, s·W).
        move: Rows and columns of `high` by which the second frame looks farther.
    """

    low: Tensor
    high: Tensor
    move: tuple[int, int] = (0, 0)


def pieces(
    rgb: Tensor, scale: int, damage: Damage | None, random: np.random.Generator
) -> Iterator[Piece]:
    """What there is of a picture to take crops from."""
    rgb = cropped(rgb, scale)
    if damage is None:
        yield Piece(luma(reduced(rgb, scale))[None], luma(rgb)[None])
    else:
        yield from damage.pieces(rgb, scale, random)


def errors(low: Tensor, high: Tensor, scale: int, patch: int) -> Tensor:
    """Mean squared error of bicubic interpolation in windows a quarter of their side apart."""
    guess = F.interpolate(low[:1, None], scale_factor=scale, mode="bicubic")
    squared = F.avg_pool2d((guess - high[0]) ** 2, scale)
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
    made, windows, losses = [], [], []
    random = np.random.default_rng(seed)
    smallest = patch * scale + (0 if damage is None else damage.step * damage.frames)
    taken = (pieces(rgb, scale, damage, random) for rgb in levels(folder, side, smallest))
    for number, piece in enumerate(itertools.chain.from_iterable(taken)):
        loss = errors(piece.low, piece.high, scale, patch)
        y, x = torch.meshgrid(*(torch.arange(n) * (patch // 4) for n in loss.shape), indexing="ij")
        made.append(piece)
        windows.append(torch.stack([torch.full_like(y, number), y, x], -1).flatten(0, 1))
        losses.append(loss.flatten())
    loss = torch.cat(losses)
    weight = loss.sqrt().clamp(0, WORST).double()
    weight[loss < 10 ** (-LEARNT / 10)] = 0
    chosen = random.choice(len(loss), count, replace=False, p=(weight / weight.sum()).numpy())
    times, large = len(made[0].low), patch * scale
    lows = torch.empty(count, times, patch, patch, dtype=torch.float16)
    highs = torch.empty(count, times, large, large, dtype=torch.float16)
    moves = torch.empty(count, 2, dtype=torch.int64)
    for place, (number, y, x) in enumerate(torch.cat(windows)[torch.from_numpy(chosen)].tolist()):
        low, high, move = made[number]
        lows[place] = low[:, y : y + patch, x : x + patch]
        top, left = y * scale, x * scale
        highs[place] = high[:, top : top + large, left : left + large]
        moves[place] = torch.tensor(move)
    return Crops(lows, highs, moves)
