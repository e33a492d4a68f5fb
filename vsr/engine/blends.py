"""Checkpoints put together from several files: mixtures, and networks stored in parts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.checkpoints.blending import Share, mix
from vsr.checkpoints.containers import shortened
from vsr.checkpoints.download import sha256_of
from vsr.errors import CheckpointError
from vsr.models._base import Architecture, InputSpec
from vsr.models._detection import realise, resolve
from vsr.models.catalog import recognised


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A checkpoint whose network is known.

    Attributes:
        arch: Its architecture.
        config: That architecture's configuration.
        state: Tensors under the architecture's names, float32 on the CPU.
        metadata: The file's header, or what the catalogue knows in its place.
        digest: SHA-256 of the file, in hexadecimal.
    """

    arch: Architecture[Any]
    config: Any
    state: dict[str, Tensor]
    metadata: dict[str, str]
    digest: str

    def network(self) -> tuple[nn.Module, InputSpec]:
        """The network in eval mode and float32 on the CPU, and what it accepts.

        Raises:
            CheckpointError: A tensor is missing, left over or of another shape.
        """
        return realise(self.arch, self.config, self.state), self.arch.spec(self.config)


def join_checkpoints(
    paths: Sequence[Path],
    hints: Mapping[str, Any] | None = None,
    factor: Fraction | None = None,
) -> Loaded:
    """Reads a network from one file, or from several that each hold a part, as DASR's of 2022.

    Args:
        paths: The files; no two may hold a tensor of the same name.
        hints: Fields of the configuration that the tensors cannot tell and the files do not.
        factor: Output over input size that is wanted; see `vsr.models.build`.

    Raises:
        CheckpointError: One is unreadable, two overlap, or together they fit no architecture.
    """
    state: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        found = read_checkpoint(path)
        twice = next((key for key in found.state if key in state), None)
        if twice is not None:
            msg = (
                f"{shortened(path.name)} cannot be joined with the files before it: both have a "
                f"tensor {shortened(twice)}, expected the parts of one network"
            )
            raise CheckpointError(msg)
        state |= found.state
        metadata |= _header(path, found.metadata)
    arch, config, canonical = resolve(state, _hinted(metadata, state, hints or {}), factor)
    digest = "+".join(map(sha256_of, paths))
    return Loaded(arch=arch, config=config, state=dict(canonical), metadata=metadata, digest=digest)


def _header(path: Path, own: dict[str, str]) -> dict[str, str]:
    """The file's header, or what the catalogue knows in its place; the licence in any case."""
    known = recognised(path.stat().st_size, lambda: sha256_of(path))
    return {"licence": known.licence, **(own or known.header)} if known else own


def _hinted(
    metadata: dict[str, str], state: dict[str, Tensor], hints: Mapping[str, Any]
) -> dict[str, str]:
    if not hints:
        return metadata
    config = json.loads(metadata.get("config", "{}")) | dict(hints)
    name = metadata.get("architecture") or resolve(state, {})[0].id
    return {**metadata, "architecture": name, "config": json.dumps(config)}


def load_blend(
    shares: Sequence[Share], locate: Callable[[str], Path], factor: Fraction | None = None
) -> Loaded:
    """Reads and mixes checkpoints.

    Args:
        shares: Names and weights.
        locate: Gives the file of a name.
        factor: As for `join_checkpoints`.

    Returns:
        The mixture, as if it had been read from a file; `metadata` says in `blend` (JSON) what it
        was made of.

    Raises:
        CheckpointError: One is unreadable, or they are not of one architecture and size.
    """
    parts = [join_checkpoints([locate(share.name)], factor=factor) for share in shares]
    first = parts[0]
    for share, part in zip(shares[1:], parts[1:], strict=True):
        if part.arch.id != first.arch.id:
            _refuse(shares[0], share, f"{first.arch.id} and {part.arch.id} are not one network")
    for share, part in zip(shares[1:], parts[1:], strict=True):
        for name in (field.name for field in fields(first.config)):
            ours, theirs = (getattr(p.config, name) for p in (first, part))
            if ours != theirs:
                _refuse(
                    shares[0], share, f"{name} is {ours!r} in the first, {theirs!r} in the other"
                )
    state = mix([part.state for part in parts], shares)
    made_of = [
        {"name": Path(share.name).name, "weight": share.weight, "sha256": part.digest}
        for share, part in zip(shares, parts, strict=True)
    ]
    licences = dict.fromkeys(filter(None, (part.metadata.get("licence") for part in parts)))
    metadata = {"blend": json.dumps(made_of)}
    if licences:
        metadata["licence"] = " AND ".join(licences)
    digest = "+".join(part.digest for part in parts)
    return Loaded(
        arch=first.arch, config=first.config, state=state, metadata=metadata, digest=digest
    )


def _refuse(first: Share, second: Share, reason: str) -> None:
    msg = f"{shortened(first.name)} and {shortened(second.name)} cannot be blended: {reason}"
    raise CheckpointError(msg)
