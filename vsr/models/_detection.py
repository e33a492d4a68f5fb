"""Which architecture a state dict belongs to, and strict loading into it."""

import itertools
import json
import typing
from collections.abc import Mapping
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models import _spandrel, architecture, architectures
from vsr.models._base import Architecture, InputSpec, StateDict

_MOST = 512
"""Largest setting that a header may tell; published ones end at 255."""

type Shapes = Mapping[str, tuple[int, ...]]


class _UnclaimedError(CheckpointError):
    """No own architecture knows the tensors; others may."""


def detect(state: StateDict) -> tuple[Architecture[Any], Any, StateDict]:
    """See `vsr.models.detect`."""
    claims = []
    for name in architectures():
        arch = architecture(name)
        canonical = arch.canonicalise(state)
        config = arch.detect(canonical)
        if config is not None:
            claims.append((arch, config, canonical))
    if len(claims) > 1:
        names = " and ".join(arch.id for arch, _, _ in claims)
        msg = f"the checkpoint fits {names} alike: one of them detects too much"
        raise CheckpointError(msg)
    if not claims:
        raise _UnclaimedError(_unclaimed(state))
    return claims[0]


def build(
    state: StateDict, metadata: Mapping[str, str], factor: Fraction | None
) -> tuple[nn.Module, InputSpec]:
    """See `vsr.models.build`."""
    arch, config, canonical = resolve(state, metadata, factor)
    return realise(arch, config, canonical), arch.spec(config)


def resolve(
    state: StateDict, metadata: Mapping[str, str], factor: Fraction | None = None
) -> tuple[Architecture[Any], Any, StateDict]:
    """The architecture, configuration and canonical tensors of a checkpoint, header included.

    An architecture that only the optional package spandrel knows is made for the occasion.

    Raises:
        CheckpointError: It fits no architecture, or its header contradicts it.
    """
    try:
        arch, config, canonical = _named(state, metadata) or detect(state)
    except _UnclaimedError as error:
        return _foreign(state, metadata, error)
    if arch.scales is not None and factor is not None:
        serving = arch.scales(config)
        config = replace(config, scale=next((s for s in serving if s >= factor), serving[-1]))
    return arch, _with_hints(arch, config, metadata), canonical


def _foreign(
    state: StateDict, metadata: Mapping[str, str], error: _UnclaimedError
) -> tuple[Architecture[Any], Any, StateDict]:
    """What spandrel makes of tensors that nobody here claims."""
    found = _spandrel.claim(state)
    if found is None and _spandrel.is_installed():
        raise error
    if found is None:
        msg = f"{error}; pip install 'vsr[spandrel]' adds architectures of the community"
        raise CheckpointError(msg) from error
    arch, config = found
    known = metadata.get("architecture") == arch.id  # others' headers use the word as they like
    return arch, _with_hints(arch, config, metadata if known else {}), state


def realise(arch: Architecture[Any], config: Any, canonical: StateDict) -> nn.Module:
    """A network in eval mode with copies of these tensors, which must fit exactly.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape.
    """
    if arch.realise is not None:
        return arch.realise(config, canonical)
    with torch.inference_mode(mode=False):
        module = _skeleton(arch, config)
        difference = _difference(_shapes(module.state_dict()), _shapes(canonical))
        if difference:
            msg = f"the checkpoint is a damaged or unknown variant of {arch.id}: {difference}"
            raise CheckpointError(msg)
        if any(buffer.is_meta for buffer in module.buffers()):
            module = arch.build(config)
        weights = {key: _owned(value) for key, value in canonical.items()}
        module.load_state_dict(weights, assign=True)
    return module.eval()


def _named(
    state: StateDict, metadata: Mapping[str, str]
) -> tuple[Architecture[Any], Any, StateDict] | None:
    """The claim of the architecture that a header names, so that no other need be imported."""
    name = metadata.get("architecture")
    if name not in architectures():
        return None
    arch = architecture(name)
    canonical = arch.canonicalise(state)
    config = arch.detect(canonical)
    return None if config is None else (arch, config, canonical)


def _owned(value: Tensor) -> Tensor:
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)


def _skeleton(arch: Architecture[Any], config: Any) -> nn.Module:
    """The network without memory: a wrong configuration costs nothing."""
    with torch.device("meta"):
        return arch.build(config)


def _shapes(state: StateDict) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items()}


def _difference(expected: Shapes, found: Shapes) -> str | None:
    """Names the first tensor that is missing, of another shape, or left over."""
    for key, shape in expected.items():
        if key not in found:
            return f"it lacks the tensor {key!r} of shape {_text(shape)}"
        if found[key] != shape:
            return f"its {key!r} has shape {_text(found[key])}, expected {_text(shape)}"
    extra = next((key for key in found if key not in expected), None)
    return f"it has the unexpected tensor {_quoted(extra)}" if extra is not None else None


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _quoted(key: str) -> str:
    return repr(key if len(key) <= 80 else f"{key[:77]}...")


def _with_hints(arch: Architecture[Any], config: Any, metadata: Mapping[str, str]) -> Any:
    """Takes over from a header what a state dict cannot tell."""
    if metadata.get("architecture", arch.id) != arch.id:
        msg = (
            f"the checkpoint's header says {_quoted(metadata['architecture'])}, but its tensors "
            f"are those of {arch.id}"
        )
        raise CheckpointError(msg)
    if "architecture" not in metadata or "config" not in metadata:
        return config
    hints = _header_config(metadata["config"])
    known = {field.name: getattr(config, field.name) for field in fields(config)}
    kinds = typing.get_type_hints(type(config))
    hints = {name: _like(known.get(name), value) for name, value in hints.items()}
    for name, value in hints.items():
        if name not in known or not _usable(kinds[name], known[name], value):
            told = f"{_quoted(name)} = {_quoted(str(value))}"
            msg = f"the checkpoint's header has an unusable setting {told} for {arch.id}"
            raise CheckpointError(msg)
        if name not in arch.hinted and value != known[name]:
            msg = (
                f"the checkpoint's header says {name} = {_quoted(str(value))}, its tensors say "
                f"{known[name]}: the file is damaged"
            )
            raise CheckpointError(msg)
    return replace(config, **hints)


def _usable(kind: Any, known: object, value: object) -> bool:
    """Whether a header's value is of a field's type, and of a size that some network has."""
    kind = kind.__value__ if isinstance(kind, typing.TypeAliasType) else kind
    if type(value) is not type(known) or value == known:
        return type(value) is type(known)
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if isinstance(value, float):
        return 0 < value <= _MOST  # also NaN is not
    return isinstance(value, bool) or not isinstance(value, int) or 1 <= value <= _MOST


def _like(known: object, value: Any) -> Any:
    """JSON has lists for tuples."""
    return tuple(value) if isinstance(known, tuple) and isinstance(value, list) else value


def _header_config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"the checkpoint's header has a config that is not JSON: {error}"
        raise CheckpointError(msg) from error
    if not isinstance(config, dict):
        msg = "the checkpoint's header has a config that is not a JSON object"
        raise CheckpointError(msg)
    return config


def _unclaimed(state: StateDict) -> str:
    """Says which published network a state dict resembles most, and where it departs from it."""
    known = ", ".join(architectures())
    if not state:
        return f"the checkpoint holds no tensors, expected those of one of {known}"
    best: tuple[int, int] = (0, 0)
    said = f"its first tensor is {_quoted(next(iter(state)))}"
    for arch in map(architecture, architectures()):
        found = _shapes(arch.canonicalise(state))
        smallest, _ = min(arch.parameters, key=lambda pair: pair[1])
        if found.keys().isdisjoint(_skeleton(arch, smallest).state_dict()):
            continue
        for config, _ in itertools.islice(arch.parameters, 8):
            expected = _shapes(_skeleton(arch, config).state_dict())
            names = expected.keys() & found.keys()
            score = (len(names), sum(expected[name] == found[name] for name in names))
            if score > best:
                alike = {key: expected.get(key, shape) for key, shape in found.items()}
                # another size of the same network is no difference: names first, then shapes
                told = _difference(expected, alike) or _difference(expected, found)
                best, said = score, f"the nearest is {arch.id}, but {told}"
    return f"the checkpoint fits no known architecture ({known}): {said}"
