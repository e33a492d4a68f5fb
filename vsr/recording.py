"""Jobs as plain values that JSON can hold, and back: for journals and manifests.

Only what differs from a job's defaults is written, so that a record is short, and stays valid when
a later version adds a setting.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from vsr.errors import UsageError
from vsr.faces.options import FaceOptions
from vsr.io.av_source import SourceOptions
from vsr.io.folder import Stills
from vsr.io.plan import SinkOptions
from vsr.planning import UpscaleJob

_KINDS: Final = {
    kind.__name__: kind for kind in (UpscaleJob, SourceOptions, SinkOptions, FaceOptions, Stills)
}


def plain(value: object) -> Any:
    """Writes a job, or a part of one, as plain values.

    Raises:
        UsageError: It holds something that no job has.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Path():
            return {"path": str(value.absolute())}
        case Fraction():
            return {"fraction": str(value)}
        case tuple() | list():
            return [plain(item) for item in value]
        case Mapping():
            return {"table": {str(key): plain(item) for key, item in value.items()}}
    if is_dataclass(value) and type(value).__name__ in _KINDS:
        given = {
            entry.name: plain(getattr(value, entry.name))
            for entry in fields(value)
            if getattr(value, entry.name) != _default(entry)
        }
        return {"kind": type(value).__name__, **given}
    msg = f"{type(value).__name__} cannot be recorded: a job holds paths, numbers and texts"
    raise UsageError(msg)


def _default(entry: "Field[Any]") -> object:
    if entry.default_factory is not MISSING:
        return entry.default_factory()
    return entry.default


def from_plain(value: Any) -> Any:
    """Reads what `plain` wrote.

    Raises:
        UsageError: It is not that, or of a later version.
    """
    match value:
        case {"path": str(path)}:
            return Path(path)
        case {"fraction": str(number)}:
            return Fraction(number)
        case {"table": dict(table)}:
            return {key: from_plain(item) for key, item in table.items()}
        case {"kind": str(kind)} if kind in _KINDS:
            given = {key: from_plain(item) for key, item in value.items() if key != "kind"}
            try:
                return _KINDS[kind](**given)
            except TypeError as error:
                msg = f"the recorded job is not one of this version: {error}"
                raise UsageError(msg) from error
        case dict():
            msg = f"{sorted(value)} is nothing that a job is recorded with: the file is damaged"
            raise UsageError(msg)
        case list():
            return tuple(from_plain(item) for item in value)
    return value


def settings(job: UpscaleJob) -> dict[str, str]:
    """What was asked for, setting by setting as text, without names of files."""
    found: dict[str, str] = {}
    _flatten("", plain(job), found)
    return {name: text for name, text in found.items() if not name.startswith(("source", "target"))}


def _flatten(name: str, value: Any, found: dict[str, str]) -> None:
    if not isinstance(value, dict):
        found[name] = str(value)
    elif text := value.get("path") or value.get("fraction"):
        found[name] = str(text)
    else:
        for key, item in value.get("table", value).items():
            if key != "kind":
                _flatten(f"{name}.{key}" if name else str(key), item, found)
