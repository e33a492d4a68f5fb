"""Trains the embedded luma networks from a folder of images with free licences.

    python scripts/train_embedded.py --images DIR --scale 2 --out OUT.safetensors

The network is a `compact` one on luma. While it trains, every 3×3 convolution is the product of a
3×3 one with four times the features and a 1×1 one, plus identity (linear over-parametrisation as in
SESR, Bhardwaj et al. 2022, arXiv:2103.09404); the product is taken on the weights, so a step costs
no more, and the plain convolution is what gets stored. Loss L1, then L2, Adam, cosine schedule,
exponential moving average.

With `--teacher`, the targets are drawn towards the mean that earlier networks give over the eight
symmetries of the square: it is nearer to the truth than any of them alone, and a steadier guide.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vsr.models.compact import Compact, CompactConfig
from vsr.resample import resize

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
LUMA = torch.tensor([0.299, 0.587, 0.114])


class Overparametrised(nn.Module):
    """A 3×3 convolution that is trained as (1×1 ∘ 3×3) + identity."""

    def __init__(self, conv: nn.Conv2d, expansion: int = 4) -> None:
        super().__init__()
        wide = expansion * max(conv.in_channels, conv.out_channels)
        self.inner = nn.Parameter(torch.empty(wide, conv.in_channels, 3, 3))
        self.outer = nn.Parameter(torch.empty(conv.out_channels, wide))
        self.bias = nn.Parameter(torch.zeros(conv.out_channels))
        nn.init.kaiming_normal_(self.inner, nonlinearity="linear")
        nn.init.kaiming_normal_(self.outer, nonlinearity="linear")
        self.outer.data *= 0.5
        self.identity = conv.in_channels == conv.out_channels

    def weight(self) -> Tensor:
        weight = (self.outer @ self.inner.flatten(1)).view(-1, *self.inner.shape[1:])
        if self.identity:
            weight = weight + F.pad(torch.eye(weight.shape[0])[:, :, None, None], (1, 1, 1, 1))
        return weight

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            weight = self.weight()
        return F.conv2d(x, weight, self.bias, padding=1)


def collapse(network: Compact) -> dict[str, Tensor]:
    """The state dict of the plain network that computes the same."""
    state: dict[str, Tensor] = {}
    for index, layer in enumerate(network.body):
        if isinstance(layer, Overparametrised):
            state[f"body.{index}.weight"] = layer.weight().detach().clone()
            state[f"body.{index}.bias"] = layer.bias.detach().clone()
    return state


def loaded(path: Path) -> Compact:
    """A stored network with its header's configuration."""
    with safe_open(path, "pt") as file:
        config = CompactConfig(**json.loads(file.metadata()["config"]))
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    network = Compact(config).eval()
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last)


class Taught:
    """Crops whose targets lie between the truth and the teachers' mean over eight symmetries."""

    def __init__(
        self, sampler: "Sampler", teachers: list[Compact], share: float, count: int, patch: int
    ) -> None:
        self.random = sampler.random
        self.lows, self.highs = [], []
        for _ in range(count // 32):
            low, high = sampler.batch(32, patch)
            taught = mean_over_symmetries(teachers, low)
            self.lows.append(low)
            self.highs.append(torch.lerp(high, taught, share))
        self.lows, self.highs = torch.cat(self.lows), torch.cat(self.highs)

    def batch(self, count: int, _: int) -> tuple[Tensor, Tensor]:
        index = torch.from_numpy(self.random.integers(len(self.lows), size=count))
        turns, flip = int(self.random.integers(4)), bool(self.random.integers(2))
        chosen = (torch.rot90(x[index], turns, (2, 3)) for x in (self.lows, self.highs))
        low, high = (x.flip(3) if flip else x for x in chosen)
        return low, high


@torch.inference_mode()
def mean_over_symmetries(teachers: list[Compact], low: Tensor) -> Tensor:
    total = torch.zeros(())
    for teacher in teachers:
        for turns in range(4):
            for flip in (False, True):
                view = torch.rot90(low, turns, (2, 3))
                view = (view.flip(3) if flip else view).contiguous(
                    memory_format=torch.channels_last
                )
                with torch.autocast("cpu", torch.bfloat16):
                    detail = F.pixel_shuffle(teacher.body(view).float(), teacher.scale)
                y = detail + F.interpolate(view, scale_factor=teacher.scale, mode="nearest")
                total = total + torch.rot90(y.flip(3) if flip else y, -turns, (2, 3))
    return total / (8 * len(teachers))


def overparametrise(config: CompactConfig) -> Compact:
    network = Compact(config)
    for index, layer in enumerate(network.body):
        if isinstance(layer, nn.Conv2d):
            network.body[index] = Overparametrised(layer)
    last = network.body[-1]
    if isinstance(last, Overparametrised):
        last.outer.data *= 0.1
    return network.to(memory_format=torch.channels_last)


def pictures(folder: Path, side: int) -> Iterator[Image.Image]:
    """Opens every image as RGB, large ones at several sizes, at most `side` pixels square each.

    A large photograph is soft at its own size and crisp when reduced; both kinds occur in films.
    """
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        with Image.open(path) as image:
            rgb = image.convert("RGBA")
            opaque = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")
        for factor in (1, 2, 4):
            level = opaque.reduce(factor) if factor > 1 else opaque
            if factor > 1 and min(level.size) < 512:
                break
            left, top = (max(0, (length - side) // 2) for length in level.size)
            yield level.crop(
                (left, top, left + min(side, level.width), top + min(side, level.height))
            )


def load_pairs(folder: Path, scale: int, side: int) -> list[tuple[Tensor, Tensor]]:
    """Luma of every picture and of its bicubic reduction, made from 8-bit RGB as benchmarks are."""
    pairs = []
    for picture in pictures(folder, side):
        rgb = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
        height, width = (side // scale for side in rgb.shape[1:])
        rgb = rgb[:, : height * scale, : width * scale]
        low = resize(rgb, height, width, "bicubic").round().clamp(0, 255)
        high, low = (torch.einsum("chw,c->hw", image / 255, LUMA) for image in (rgb, low))
        pairs.append((low.contiguous(), high.contiguous()))
    return pairs


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Sampler:
    """Draws aligned random crops, turned and flipped, of every picture equally often."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]], scale: int, seed: int) -> None:
        self.pairs, self.scale = pairs, scale
        self.random = np.random.default_rng(seed)

    def batch(self, count: int, patch: int) -> tuple[Tensor, Tensor]:
        lows, highs = [], []
        for index in self.random.integers(len(self.pairs), size=count):
            low, high = self.crop(*self.pairs[index], patch)
            turns, flip = int(self.random.integers(4)), bool(self.random.integers(2))
            for image, out in ((low, lows), (high, highs)):
                turned = torch.rot90(image, turns)
                out.append(turned.flip(0) if flip else turned)
        return torch.stack(lows)[:, None], torch.stack(highs)[:, None]

    def crop(self, low: Tensor, high: Tensor, patch: int) -> tuple[Tensor, Tensor]:
        y = int(self.random.integers(low.shape[0] - patch + 1))
        x = int(self.random.integers(low.shape[1] - patch + 1))
        s = self.scale
        return low[y : y + patch, x : x + patch], high[
            y * s : (y + patch) * s, x * s : (x + patch) * s
        ]


def grown(state: dict[str, Tensor], network: Compact) -> dict[str, Tensor]:
    """Fits an earlier run's state to a deeper network or another scale.

    New hidden layers are identities, which a ReLU passes on unchanged; a last layer of another
    scale starts anew.
    """
    fresh = network.state_dict()
    old_last = max(int(key.split(".")[1]) for key in state)
    new_last = len(network.body) - 1
    result = dict(fresh)
    for key, value in state.items():
        index, rest = int(key.split(".")[1]), key.split(".", 2)[2]
        home = f"body.{new_last if index == old_last else index}.{rest}"
        if fresh[home].shape == value.shape:
            result[home] = value
    for index in range(old_last, new_last, 2):
        result[f"body.{index}.outer"] = torch.zeros_like(fresh[f"body.{index}.outer"])
    return result


def train(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    config = CompactConfig(
        channels=1,
        features=arguments.features,
        convs=arguments.convs,
        scale=arguments.scale,
        activation="relu",
    )
    network = overparametrise(config)
    if arguments.resume:
        network.load_state_dict(grown(torch.load(arguments.resume, weights_only=True), network))
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    sampler = Sampler(
        load_pairs(arguments.images, arguments.scale, arguments.side),
        arguments.scale,
        arguments.seed,
    )
    if arguments.teacher:
        teachers = [loaded(path) for path in arguments.teacher]
        sampler = Taught(sampler, teachers, arguments.share, arguments.crops, arguments.patch)
    optimiser = torch.optim.Adam(network.parameters(), arguments.rate, betas=(0.9, 0.99))
    start, deadline = time.monotonic(), time.monotonic() + 60 * arguments.minutes
    step, progress, total = 0, 0.0, 0.0
    while progress < 1:
        progress = min(1.0, (time.monotonic() - start) / (deadline - start))
        warm = min(1.0, (step + 1) / 500)
        rate = warm * arguments.rate * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        low, high = sampler.batch(arguments.batch, arguments.patch)
        low = low.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=progress < arguments.bf16_until):
            detail = F.pixel_shuffle(network.body(low).float(), arguments.scale)
        result = detail + F.interpolate(low, scale_factor=arguments.scale, mode="nearest")
        squared = progress >= arguments.squared_from
        loss = F.mse_loss(result, high) if squared else F.l1_loss(result, high)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for key, value in network.state_dict().items():
                average[key].lerp_(value, 1 - decay)
        total += float(loss.detach())
        step += 1
        if step % 2000 == 0:
            print(f"step {step} {progress:.0%} rate {rate:.1e} loss {total / 2000:.5f}", flush=True)
            total = 0.0
            store(network, average, config, arguments, step)
    store(network, average, config, arguments, step)


def plain_network(network: Compact, average: dict[str, Tensor]) -> Compact:
    kept = {k: v.detach().clone() for k, v in network.state_dict().items()}
    network.load_state_dict(average)
    first, last = network.body[0], network.body[-1]
    config = CompactConfig(
        channels=1,
        features=first.weight().shape[0],
        convs=len(network.body) // 2 - 1,
        scale=math.isqrt(last.weight().shape[0]),
        activation="relu",
    )
    plain = Compact(config)
    plain.load_state_dict(collapse(network))
    network.load_state_dict(kept)
    return plain


def store(
    network: Compact,
    average: dict[str, Tensor],
    config: CompactConfig,
    arguments: argparse.Namespace,
    step: int,
) -> None:
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(average, arguments.out.with_suffix(".train.pth"))
    recipe = {
        k: str(v)
        for k, v in vars(arguments).items()
        if k not in ("images", "out", "resume", "teacher")
    } | {
        "steps": step,
        "data_sha256": arguments.data_sha256,
    }
    metadata = {
        "architecture": "compact",
        "config": json.dumps(asdict(config)),
        "licence": "MIT",
        "recipe": json.dumps(recipe),
    }
    state = {k: v.contiguous() for k, v in plain_network(network, average).state_dict().items()}
    save_file(state, arguments.out, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of training images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a .train.pth of an earlier run to start from")
    parser.add_argument("--teacher", type=Path, nargs="*", help="stored networks to learn from")
    parser.add_argument("--share", type=float, default=0.7, help="of the teachers in the target")
    parser.add_argument("--crops", type=int, default=6000, help="crops that the teachers prepare")
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), required=True)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--convs", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=32, help="side of a low-resolution crop")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument(
        "--bf16-until", type=float, default=0.85, help="share of the run done in bfloat16"
    )
    parser.add_argument(
        "--squared-from",
        type=float,
        default=0.75,
        help="share of the run after which the loss is L2",
    )
    parser.add_argument("--side", type=int, default=1536, help="centre of large pictures to use")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.data_sha256 = fingerprint(arguments.images)
    train(arguments)


if __name__ == "__main__":
    main()
