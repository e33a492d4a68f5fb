"""Tables of TOML to frozen dataclasses, strictly: whatever is not understood is an error.

Types that fields may have: bool, int, float, str, Path, Literal, None, tuples, mappings from text,
dataclasses, and unions of these. Of a union of dataclasses, the one is taken whose `kind`, a
Literal, is the table's. `Annotated[int, Within(1)]` limits a number. Free of torch.
"""

import difflib
import re
import tomllib
import types
import typing
from collections import abc
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from vsr.errors import UsageError

_MOST_BITS = 64
_STEP = re.compile(r"([A-Za-z0-9_-]+)|\[(\d+|\*)\]")


@dataclass(frozen=True, slots=True)
class Within:
    """Limits of a number, both allowed; None for none."""

    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low:g}"
        return f"from {self.low:g} to {self.high:g}" if self.low is not None else f"≤ {self.high:g}"


def structure[S](kind: type[S], table: Mapping[str, Any], where: str = "") -> S:
    """Builds a dataclass from a table.

    Args:
        kind: The dataclass.
        table: By field name.
        where: Path of the table, for errors.

    Raises:
        UsageError: An unknown or missing key, a value of another type or out of its limits. The
            line begins with the value's path, such as `stages[0].losses[1].weight`.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in table:
        if key not in known:
            raise UsageError(_unknown(_under(where, key), key, known))
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in table:
            msg = f"{_under(where, name)} is missing: {_said(hints[name])} is expected"
            raise UsageError(msg)
    made = {key: _converted(value, hints[key], _under(where, key)) for key, value in table.items()}
    try:
        return kind(**made)
    except ValueError as error:  # what only several fields together tell
        msg = f"{where}: {error}" if where else str(error)
        raise UsageError(msg) from error


def override(table: dict[str, Any], assignments: Sequence[str]) -> None:
    """Sets values in a table by lines such as `stages[0].losses[1].weight=0.1`.

    `[*]` means every entry of a list. A value is TOML; what is not TOML is text.

    Args:
        table: Changed in place.
        assignments: Applied in order.

    Raises:
        UsageError: No `=`, or a path that leads nowhere.
    """
    for line in assignments:
        path, equals, text = line.partition("=")
        path = path.strip()
        steps = _steps(path)
        if not equals or not steps:
            msg = f"--set takes PATH=VALUE such as stages[0].steps=1000, got {line!r}"
            raise UsageError(msg)
        _assign(table, steps, _value(text.strip()), path)


def _steps(path: str) -> list[str | int]:
    """`a[0].b` as `["a", 0, "b"]`; empty if it is no path."""
    steps: list[str | int] = []
    place = 0
    while place < len(path):
        if path[place] == "." and steps:
            place += 1
        match = _STEP.match(path, place)
        if match is None:
            return []
        index = match[2]
        steps.append(match[1] if index is None else -1 if index == "*" else int(index))
        place = match.end()
    return steps


def _assign(node: Any, steps: Sequence[str | int], value: Any, path: str) -> None:
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        if not isinstance(node, list) or step >= len(node):
            length = len(node) if isinstance(node, list) else 0
            msg = f"--set {path}: there is no entry [{step}], the recipe has {length} there"
            raise UsageError(msg)
        for place in range(len(node)) if step < 0 else (step,):
            if rest:
                _assign(node[place], rest, value, path)
            else:
                node[place] = value
        return
    if not isinstance(node, dict):
        msg = f"--set {path}: {step!r} would lie within something that is no table"
        raise UsageError(msg)
    if not rest:
        node[step] = value
    else:
        _assign(node.setdefault(step, {}), rest, value, path)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also a number of thousands of digits
        return text


def _converted(value: Any, hint: Any, where: str) -> Any:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:  # no float, perhaps no text
        msg = f"{where} is a number of {value.bit_length()} bits: at most {_MOST_BITS} are read"
        raise UsageError(msg)
    hint = hint.__value__ if isinstance(hint, typing.TypeAliasType) else hint
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *limits = get_args(hint)
        return _limited(_converted(value, inner, where), limits, where)
    if origin in {types.UnionType, typing.Union}:
        return _one_of(value, get_args(hint), where)
    if origin is tuple and isinstance(value, list | tuple):
        return _tuple(value, get_args(hint), where)
    if isinstance(value, Mapping) and (origin is abc.Mapping or is_dataclass(hint)):
        return _table(value, hint, where)
    if not _fits(value, hint):
        msg = f"{where} is {value!r}: {_said(hint)} is expected"
        raise UsageError(msg)
    return hint(value) if hint in {float, Path} else value


def _table(value: Mapping[str, Any], hint: Any, where: str) -> Any:
    if is_dataclass(hint):
        return structure(typing.cast("type", hint), value, where)
    inner = get_args(hint)[1]
    return {key: _converted(item, inner, _under(where, key)) for key, item in value.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value that holds no others is of a type."""
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    return get_origin(hint) is None and not is_dataclass(hint) and _plain(value, hint)


def _plain(value: Any, hint: Any) -> bool:
    if hint is Path:
        return isinstance(value, str | Path)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def _limited(value: Any, limits: Sequence[Any], where: str) -> Any:
    for limit in limits:
        low, high = limit.low, limit.high
        fits = (low is None or value >= low) and (high is None or value <= high)
        if value is not None and not fits:  # also NaN fits nowhere
            msg = f"{where} is {value:g}: a number {limit} is expected"
            raise UsageError(msg)
    return value


def _tuple(value: Sequence[Any], kinds: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        msg = f"{where} has {len(value)} values: {len(kinds)} are expected"
        raise UsageError(msg)
    pairs = enumerate(zip(value, kinds, strict=True))
    return tuple(_converted(item, kind, f"{where}[{k}]") for k, (item, kind) in pairs)


def _one_of(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    several = sum(isinstance(kind, type) and is_dataclass(kind) for kind in kinds) > 1
    if isinstance(value, Mapping) and several:
        tables = {name: kind for kind in kinds for name in _kind_names(kind)}
        name = value.get("kind")
        if name not in tables:
            hint = _nearest(str(name), tables)
            msg = f"{where}.kind is {name!r}{hint}: one of {', '.join(tables)} is expected"
            raise UsageError(msg)
        return structure(tables[name], value, where)
    if value is None and types.NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not types.NoneType]
    for kind in rest[:-1]:
        try:
            return _converted(value, kind, where)
        except UsageError:
            continue  # the last kind's error is the one that is told
    return _converted(value, rest[-1], where)


def _kind_names(kind: Any) -> tuple[str, ...]:
    """What `kind` may be in the table of a dataclass of a union."""
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return ()
    hint = typing.get_type_hints(kind).get("kind")
    hint = hint.__value__ if isinstance(hint, typing.TypeAliasType) else hint
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()


def _unknown(path: str, key: str, known: Mapping[str, Any]) -> str:
    return f"{path} is unknown{_nearest(key, known)}; known there are {', '.join(sorted(known))}"


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""


def _under(where: str, key: str) -> str:
    shown = key if key.isprintable() else repr(key)  # a message is one line
    return f"{where}.{shown}" if where else shown


def _said(hint: Any) -> str:
    """A type in the words of people who write recipes."""
    hint = hint.__value__ if isinstance(hint, typing.TypeAliasType) else hint
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *limits = get_args(hint)
        return f"{_said(inner)} {' '.join(map(str, limits))}"
    if origin is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(_said(kind) for kind in get_args(hint) if kind is not types.NoneType)
    if origin is tuple:
        return "a list"
    if isinstance(hint, type) and is_dataclass(hint):
        return "a table"
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    words |= {str: "a text", Path: "a path"}
    return words.get(hint, "a table")
