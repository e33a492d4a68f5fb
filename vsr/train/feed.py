"""Samples in their order: which ones make up a step depends on the seed and the step alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vsr.errors import UsageError
from vsr.train.data import DataSettings
from vsr.train.data.dataset import open_data
from vsr.train.peers import Peers
from vsr.train.strict import structure
from vsr.train.tasks._base import Batch


class Samples(Protocol):
    """A map-style dataset whose item depends on the seed, the epoch and its number alone."""

    def __len__(self) -> int:
        """Items of an epoch."""
        ...

    def __getitem__(self, index: int) -> Any:
        """A `vsr.train.data.sample.Sample`."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Tells which epoch the items asked for from now on belong to."""
        ...

    def fingerprint(self) -> str:
        """A digest of what is learned from."""
        ...


def open_dataset(table: Mapping[str, Any], scale: int, seed: int) -> Samples:
    """Opens the data of a recipe.

    Args:
        table: Its `[data]`, with a stage's changes.
        scale: High-resolution pixels per low-resolution pixel.
        seed: Of crops and degradations.

    Raises:
        UsageError: A key that is unknown, or a value that cannot be.
        SourceError: Pictures that are missing or cannot be read.
    """
    return open_data(structure(DataSettings, table, "data"), scale, seed)


class Numbered(Dataset[tuple[Tensor, Tensor]]):
    """A dataset whose items are addressed by (epoch, index) and are pairs of tensors.

    Args:
        dataset: Whose.
    """

    def __init__(self, dataset: Samples) -> None:
        self.dataset = dataset
        self._epoch: int | None = None

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = place
        if epoch != self._epoch:
            self.dataset.set_epoch(epoch)
        self._epoch = epoch
        sample = self.dataset[index]
        return sample.low, sample.high


class Places(Sampler[list[tuple[int, int]]]):
    """Which items make up each step of one process, without end.

    The items of all epochs, each shuffled anew, are one sequence; a step takes the next `batch` of
    them, and each process a share of these.

    Args:
        length: Of the dataset.
        batch: Samples of a step over all processes.
        seed: Of the order.
        first: Step to begin with.
        peers: Who share a batch.
    """

    def __init__(self, length: int, batch: int, seed: int, first: int, peers: Peers) -> None:
        self.length, self.batch, self.seed = length, batch, seed
        self.first, self.peers = first, peers
        self._epoch = -1
        self._order: list[int] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.first
        mine = range(self.peers.rank, self.batch, self.peers.count)
        while True:
            yield [self._place(step * self.batch + k) for k in mine]
            step += 1

    def _place(self, number: int) -> tuple[int, int]:
        epoch, place = divmod(number, self.length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = torch.randperm(self.length, generator=generator).tolist()
            self._epoch = epoch
        return epoch, self._order[place]


def feed(
    dataset: Samples, batch: int, seed: int, first: int, peers: Peers, workers: int
) -> Iterator[Batch]:
    """Batches from a step on, without end.

    Args:
        dataset: Map-style.
        batch: Samples of a step over all processes.
        seed: Of the order.
        first: Step to begin with.
        peers: Who share a batch.
        workers: Processes that make samples; 0 makes them here.

    Yields:
        This process's share of each step, on its device.

    Raises:
        UsageError: The batch cannot be shared evenly.
    """
    if batch % peers.count:
        msg = f"a batch of {batch} cannot be shared by {peers.count} processes: make it a multiple"
        raise UsageError(msg)
    loader = DataLoader(
        Numbered(dataset),
        batch_sampler=Places(len(dataset), batch, seed, first, peers),
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),  # leaves the default one alone
        pin_memory=peers.device.type == "cuda",
    )
    for low, high in loader:
        yield on_device(low, high, peers.device)


def on_device(low: Tensor, high: Tensor, device: torch.device) -> Batch:
    """A batch where it is computed."""
    return Batch(low.to(device, non_blocking=True), high.to(device, non_blocking=True))


def first_samples(dataset: Samples, count: int, device: torch.device) -> Batch:
    """The same few samples every time, for pictures of the progress."""
    numbered = Numbered(dataset)
    pairs: Sequence[tuple[Tensor, Tensor]] = [numbered[0, k % len(dataset)] for k in range(count)]
    low, high = (torch.stack(list(column)) for column in zip(*pairs, strict=True))
    return on_device(low, high, device)
