"""Built engines on disk: each with a header that says what it was built of, for and by.

A file is a line of magic, a line of JSON (the key and the digest of what follows), and the engine.
It is written beside its place and moved there, so that nobody ever reads half of one.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vsr.checkpoints import cache_dir
from vsr.engine.devices import Precision
from vsr.errors import DeviceError

_log = logging.getLogger(__name__)

_MAGIC = b"vsr engine 1\n"
_SUFFIX = ".engine"
_LONGEST_HEADER = 1 << 16
_REMEDY = "`vsr engine build` makes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes:
        model: `model_digest` of the network.
        shape: Of the input, (N, C, H, W); empty if it takes any.
        precision: Arithmetic.
        device: Product name of the device.
        library: Name and version of what built it.
    """

    model: str
    shape: tuple[int, ...]
    precision: Precision
    device: str
    library: str

    @property
    def filename(self) -> str:
        """Of the engine; without the library's version: a newer one finds the old one's file."""
        shape = "x".join(map(str, self.shape)) or "any"
        device = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-")
        return f"{self.model[:16]}-{shape}-{self.precision}-{self.engine}-{device}{_SUFFIX}"

    @property
    def engine(self) -> str:
        """Name of what built it."""
        return self.library.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache; its key is None if it is damaged.

    Attributes:
        path: Of the file.
        key: What it was built of, for and by.
        size: In bytes.
        about: The network's name, if it was built on purpose.
    """

    path: Path
    key: EngineKey | None
    size: int
    about: str = ""


class EngineCache:
    """A folder of engines.

    Args:
        folder: `engines` in the cache of `vsr` if None; made when needed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_dir() / "engines" if folder is None else folder

    def path(self, key: EngineKey) -> Path:
        """Where an engine lies, or will lie."""
        return self.folder / key.filename

    def load(self, key: EngineKey) -> bytes:
        """Reads an engine.

        Raises:
            DeviceError: It is not there, was built for something else, or is damaged.
        """
        path = self.path(key)
        if not path.is_file():
            msg = f"no engine {path.name} is cached: {_REMEDY}"
            raise DeviceError(msg)
        found, digest, plan, _ = _split(path.read_bytes())
        if found is None or hashlib.sha256(plan).hexdigest() != digest:
            msg = f"the engine {path.name} is damaged: {_REMEDY}"
            raise DeviceError(msg)
        if found != key:
            msg = f"the engine {path.name} is stale ({_difference(found, key)}): {_REMEDY}"
            raise DeviceError(msg)
        return plan

    def find(self, key: EngineKey) -> bytes | None:
        """Reads an engine if it is there and good; says so if it is there and is not."""
        if not self.path(key).exists():
            return None
        try:
            return self.load(key)
        except DeviceError as error:
            _log.warning("%s", error)
            return None

    def store(self, key: EngineKey, plan: bytes, about: str = "") -> Path:
        """Writes an engine in one step, over whatever had its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(key)
        digest = hashlib.sha256(plan).hexdigest()
        header = {"key": asdict(key), "sha256": digest, "about": about}
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            partial.write_bytes(_MAGIC + json.dumps(header).encode() + b"\n" + plan)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def obtain(self, key: EngineKey, build: Callable[[], bytes], about: str = "") -> bytes:
        """Reads an engine, or builds and keeps it where it is absent, stale or damaged.

        Args:
            key: Which.
            build: Makes it; takes minutes.
            about: The network's name, to be kept with it.
        """
        if self.path(key).exists():
            try:
                return self.load(key)
            except DeviceError as error:
                _log.warning("%s; it is rebuilt now", str(error).removesuffix(f": {_REMEDY}"))
        else:
            _log.warning("building the engine %s: this is done once", key.filename)
        plan = build()
        self.store(key, plan, about)
        return plan

    def entries(self) -> tuple[Entry, ...]:
        """What is in the cache, by name."""
        paths = sorted(self.folder.glob(f"*{_SUFFIX}")) if self.folder.is_dir() else []
        return tuple(_entry(path) for path in paths)

    def knows(self, key: EngineKey) -> bool:
        """Whether an engine of the same network, precision, device and library is here."""
        return any(
            e.key is not None and replace(e.key, shape=key.shape) == key for e in self.entries()
        )

    def clear(self, engine: str | None = None) -> tuple[Entry, ...]:
        """Deletes engines, and what was left half written.

        Args:
            engine: Only those that this one built; damaged files belong to all.

        Returns:
            What was deleted.
        """
        gone = [
            e for e in self.entries() if engine is None or e.key is None or e.key.engine == engine
        ]
        for entry in gone:
            entry.path.unlink(missing_ok=True)
        for partial in self.folder.glob(f".*{_SUFFIX}.*.part"):
            partial.unlink(missing_ok=True)
        return tuple(gone)


def _entry(path: Path) -> Entry:
    with path.open("rb") as file:
        key, _, _, about = _split(file.read(_LONGEST_HEADER))
    return Entry(path, key, path.stat().st_size, about)


def _split(data: bytes) -> tuple[EngineKey | None, str, bytes, str]:
    """(key, digest, engine, about) of a file; the key is None if this is no such file."""
    header, _, plan = data.removeprefix(_MAGIC).partition(b"\n")
    if not data.startswith(_MAGIC):
        return None, "", b"", ""
    try:
        facts = json.loads(header)
        return _key(facts["key"]), str(facts["sha256"]), plan, str(facts.get("about", ""))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, "", b"", ""


def _key(facts: dict[str, Any]) -> EngineKey:
    return EngineKey(**facts | {"shape": tuple(facts["shape"])})


def _difference(found: EngineKey, wanted: EngineKey) -> str:
    parts = [
        f"{field.name} {getattr(found, field.name)}, not {getattr(wanted, field.name)}"
        for field in fields(EngineKey)
        if getattr(found, field.name) != getattr(wanted, field.name)
    ]
    return "; ".join(parts)
