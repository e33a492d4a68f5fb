"""Trains the embedded luma networks from a folder of images with free licences.

    python scripts/train_embedded.py --images DIR --scale 2 --convs 8 --out OUT.safetensors

The network is a `compact` one on luma, with `--fold` a `folded` one. It learns from crops with
something to learn in them: every picture is taken at several sizes, and a crop is drawn the
likelier the worse bicubic interpolation does on it; flat ones never. Loss L1, then L2; cosine
schedule; exponential moving average.

The convolutions' weights are stepped by Muon (Jordan et al. 2024, "Muon: an optimizer for hidden
layers in neural networks"): momentum whose matrix, features by taps, is made orthogonal. In five
minutes of one core it brought 32 features × 8 at x2 to 37.08 dB on Set5, where Adam on
over-parametrised convolutions came to 36.89.

A network with fewer features or convolutions is a good `--start`: it is made wider and deeper such
that it computes the same at first. One with more convolutions is one too: those that are missed
least are left out, and with the longer one as `--teacher` hardly anything is lost. 32 × 10 learnt
so from 32 × 12 came to its very figures.

With `--video` the low resolution is what video codecs leave of it, and the network learns to undo
that as well; a network that was trained without is the best start. With `--steady` it also learns
to make the same of what two successive frames show alike.

With `--teacher`, the targets are drawn towards the mean that earlier networks give over the eight
symmetries of the square: it is nearer to the truth than any of them alone, and a steadier guide.

A large network is trained in several runs: the first ones with `--decay-from 1 --raw`, each started
from the last one's weights, and a final one in which the rate falls. `--pool` keeps what the
teachers have said, which takes long.
"""

import argparse
import hashlib
import itertools
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from _crops import Crops, Damage, draw_crops, files
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vsr.checkpoints.download import sha256_of
from vsr.models.compact import Compact, CompactConfig
from vsr.models.folded import Folded, FoldedConfig
from vsr.train.muon import Muon

SEEN = 64
"""Crops by which convolutions are judged."""
TOLD = 500
"""Steps between two lines about them."""
VECTORS = 0.1
"""Rate of the biases as a share of the weights'."""

type Network = Compact | Folded
type Config = CompactConfig | FoldedConfig


def built(config: Config) -> Network:
    return Compact(config) if isinstance(config, CompactConfig) else Folded(config)


def pooled(arguments: argparse.Namespace) -> tuple[Crops, int]:
    """What to learn from, kept by an earlier run or drawn and taught anew; and its seed."""
    pool, wanted = arguments.pool, drawing(arguments)
    if pool and pool.exists():
        kept = torch.load(pool)
        unlike = [
            f"{key} {kept['drawing'][key]} instead of {value}"
            for key, value in wanted.items()
            if kept["drawing"][key] != value
        ]
        if unlike:
            msg = f"{pool} was drawn with {', '.join(unlike)}: ask for that, or for another --pool"
            raise SystemExit(msg)
        return Crops(*kept["crops"]), kept["seed"]
    draw = (arguments.crops, arguments.patch, arguments.side, arguments.seed)
    damage = Damage(crf=tuple(arguments.crf)) if arguments.video else None
    crops = draw_crops(arguments.images, arguments.scale, *draw, damage)
    if arguments.teacher:
        crops = taught(crops, [loaded(path) for path in arguments.teacher], arguments.share)
    if pool:
        partial = pool.with_name(f"{pool.name}.part")
        tensors = [crops.lows, crops.highs, crops.moves]
        torch.save({"drawing": wanted, "seed": arguments.seed, "crops": tensors}, partial)
        partial.replace(pool)
    return crops, arguments.seed


def drawing(arguments: argparse.Namespace) -> dict[str, object]:
    """What else decides which crops there are, and what their targets say."""
    teachers = [sha256_of(path) for path in arguments.teacher or ()]
    settings = {key: getattr(arguments, key) for key in ("scale", "crops", "patch", "side")}
    return settings | {
        "images": arguments.data_sha256,
        "crf": list(arguments.crf) if arguments.video else None,
        "teachers": teachers,
        "share": arguments.share if teachers else None,
    }


def taught(crops: Crops, teachers: list[Network], share: float) -> Crops:
    """Draws the targets towards the teachers' opinion."""
    highs = torch.empty_like(crops.highs)
    for start in range(0, len(highs), 32):
        part = slice(start, start + 32)
        low, high = crops.lows[part].float(), crops.highs[part].float()
        opinion = mean_over_symmetries(teachers, low.flatten(0, 1)[:, None]).view_as(high)
        highs[part] = torch.lerp(high, opinion, share).half()
    return Crops(crops.lows, highs, crops.moves)


@torch.inference_mode()
def mean_over_symmetries(teachers: list[Network], low: Tensor) -> Tensor:
    total = torch.zeros(())
    for teacher in teachers:
        for turns in range(4):
            for flip in (False, True):
                view = torch.rot90(low, turns, (2, 3))
                y = enlarged(teacher, view.flip(3) if flip else view, bf16=True)
                total = total + torch.rot90(y.flip(3) if flip else y, -turns, (2, 3))
    return total / (8 * len(teachers))


def enlarged(network: Network, low: Tensor, *, bf16: bool) -> Tensor:
    fold = network.fold if isinstance(network, Folded) else 1
    folded = F.pixel_unshuffle(low, fold).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        detail = F.pixel_shuffle(network.body(folded).float(), network.scale * fold)
    return detail + F.interpolate(low, scale_factor=network.scale, mode="nearest")


def loaded(path: Path) -> Network:
    """A stored network with its header's configuration."""
    with safe_open(path, "pt") as file:
        kind = FoldedConfig if file.metadata()["architecture"] == "folded" else CompactConfig
        config = kind(**json.loads(file.metadata()["config"]))
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    network = built(config).eval()
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last)


@torch.no_grad()
def shortened(network: Network, config: Config, crops: Crops) -> Network:
    """The network without those hidden convolutions that are too many, and missed least."""
    low, high = crops.lows[:SEEN, :1].float(), crops.highs[:SEEN, :1].float()
    layers = list(network.body)
    hidden = [k for k in range(2, len(layers) - 1) if isinstance(layers[k], nn.Conv2d)]
    made, least = built(config).eval(), math.inf
    best: dict[str, Tensor] = {}
    for left_out in itertools.combinations(hidden, len(hidden) - config.convs):
        kept = [x for k, x in enumerate(layers) if not {k, k - 1} & set(left_out)]
        made.body.load_state_dict(nn.Sequential(*kept).state_dict())
        loss = float(F.mse_loss(enlarged(made, low, bf16=False), high))
        if loss < least:
            least, best = loss, {key: x.clone() for key, x in made.state_dict().items()}
    made.load_state_dict(best)
    return made.to(memory_format=torch.channels_last)


@torch.no_grad()
def grown(network: Network, config: Config) -> Network:
    """A wider and deeper network with the same result.

    Nothing listens to the added features yet, and the added convolutions are the identity, which a
    ReLU passes on unchanged.
    """
    made = fresh(config)
    before, after = convolutions(network), convolutions(made)
    old = before[0].out_channels
    for conv in after[len(before) - 1 : -1]:
        conv.weight[:old] = 0
        conv.weight[range(old), range(old), 1, 1] = 1
    for source, conv in zip(before, [*after[: len(before) - 1], after[-1]], strict=True):
        rows, columns = source.weight.shape[:2]
        conv.weight[:rows, columns:] = 0
        conv.weight[:rows, :columns] = source.weight
        conv.bias[:rows] = source.bias
    return made


def fresh(config: Config) -> Network:
    """A network whose hidden layers begin near the identity, which a ReLU passes on unchanged."""
    network = built(config).to(memory_format=torch.channels_last)
    for conv in convolutions(network):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        if conv.in_channels == conv.out_channels:
            diagonal = range(conv.in_channels)
            conv.weight.data *= 0.5
            conv.weight.data[diagonal, diagonal, 1, 1] += 0.7
    convolutions(network)[-1].weight.data *= 0.1
    return network


def convolutions(network: Network) -> list[nn.Conv2d]:
    return [layer for layer in network.body if isinstance(layer, nn.Conv2d)]


def train(arguments: argparse.Namespace, network: Network, crops: Crops) -> tuple[Network, int]:
    """Trains in place; returns the moving average, or the network itself, and the steps made."""
    average = built(arguments.config)
    average.load_state_dict(network.state_dict())
    kept = network if arguments.raw else average
    muon = Muon(network.parameters())
    random = np.random.default_rng(arguments.seed)
    began, step, progress, total = time.process_time(), 0, 0.0, 0.0
    while progress < 1:
        spent = (time.process_time() - began) / arguments.threads
        progress = min(1.0, spent / (60 * arguments.minutes))
        rate = arguments.rate * share_of_rate(progress, step, arguments.decay_from)
        chosen = crops.batch(random, arguments.batch)
        low = chosen.lows.flatten(0, 1)[:, None]
        result = enlarged(network, low, bf16=progress < arguments.bf16_until)
        result = result.view_as(chosen.highs)
        measure = F.mse_loss if progress >= arguments.squared_from else F.l1_loss
        loss = measure(result, chosen.highs)
        if arguments.steady and len(low) > len(chosen.lows):
            before, after = aligned(result, chosen.moves)
            loss = loss + arguments.steady * measure(before, after)
        network.zero_grad()
        loss.backward()
        for group in muon.param_groups:
            group["lr"] = rate * (1 if group["matrices"] else VECTORS)
        muon.step()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        total += float(loss.detach())
        step += 1
        if step % TOLD == 0:
            print(f"step {step} {progress:.0%} rate {rate:.1e} loss {total / TOLD:.6f}", flush=True)
            total = 0.0
            store(kept, arguments, step)
    return kept, step


def share_of_rate(progress: float, step: int, decay_from: float) -> float:
    """A short rise, a level, and from a share of the run on half a cosine."""
    falling = max(0.0, progress - decay_from) / max(1 - decay_from, 1e-9)
    return min(1.0, (step + 1) / 300) * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * falling)))


def aligned(results: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
    """What both of two successive results (N, 2, H, W) show, one after another."""
    before, after = [], []
    for (first, second), move in zip(results, moves.tolist(), strict=True):
        rows, columns = (
            (slice(max(0, step), side + min(0, step)), slice(max(0, -step), side + min(0, -step)))
            for step, side in zip(move, first.shape, strict=True)
        )
        before.append(first[rows[0], columns[0]].flatten())
        after.append(second[rows[1], columns[1]].flatten())
    return torch.cat(before), torch.cat(after)


def store(network: Network, arguments: argparse.Namespace, step: int) -> None:
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    paths = ("images", "out", "start", "teacher", "pool", "config")
    recipe = {key: str(value) for key, value in vars(arguments).items() if key not in paths}
    recipe |= {"steps": step, "optimiser": "muon"}
    metadata = {
        "architecture": "compact" if isinstance(network, Compact) else "folded",
        "config": json.dumps(asdict(arguments.config)),
        "licence": "MIT",
        "recipe": json.dumps(recipe),
    }
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, arguments.out, metadata=metadata)


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in files(folder):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of training images")
    add("--out", type=Path, required=True)
    add("--start", type=Path, help="a stored network to go on from, or to shorten")
    add("--teacher", type=Path, nargs="*", help="stored networks to learn from")
    add("--share", type=float, default=0.8, help="of the teachers in the target")
    add("--crops", type=int, default=30_000, help="crops to draw from the pictures")
    add("--pool", type=Path, help="file to keep the crops in, or to take them from")
    add("--video", action="store_true", help="low resolution has been through video codecs")
    add("--crf", type=int, nargs=2, default=[15, 34], help="least and greatest of --video")
    add("--steady", type=float, default=0, help="weight of what differs between frames of --video")
    add("--scale", type=int, choices=(2, 3, 4), required=True)
    add("--features", type=int, default=32)
    add("--convs", type=int, default=8)
    add("--fold", type=int, choices=(1, 2, 4), default=1, help="work at a fraction of the size")
    add("--minutes", type=float, default=60, help="of processor time, by thread")
    add("--batch", type=int, default=16)
    add("--patch", type=int, default=48, help="side of a low-resolution crop")
    add("--rate", type=float, default=0.02)
    add("--decay-from", type=float, default=0, help="share of the run before the rate falls")
    add("--raw", action="store_true", help="store the last weights, to go on from, not their mean")
    add("--bf16-until", type=float, default=0.96, help="share of the run done in bfloat16")
    add("--squared-from", type=float, default=0.5, help="share of the run before the loss is L2")
    add("--side", type=int, default=3000, help="corner of large pictures to use")
    add("--threads", type=int, default=1)
    add("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    size = {"features": arguments.features, "convs": arguments.convs, "scale": arguments.scale}
    arguments.config = (
        FoldedConfig(fold=arguments.fold, **size)
        if arguments.fold > 1
        else CompactConfig(channels=1, activation="relu", **size)
    )
    arguments.data_sha256 = fingerprint(arguments.images)
    crops, arguments.crops_seed = pooled(arguments)
    network = loaded(arguments.start) if arguments.start else fresh(arguments.config)
    convs = len(convolutions(network)) - 2
    if convs > arguments.convs:
        network = shortened(network, arguments.config, crops)
    elif (convs, network.body[0].out_channels) != (arguments.convs, arguments.features):
        network = grown(network, arguments.config)
    average, steps = train(arguments, network.train(), crops)
    store(average, arguments, steps)


if __name__ == "__main__":
    main()
