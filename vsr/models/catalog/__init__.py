"""The published checkpoints, one TOML file per architecture. Free of torch.

A digest is pinned where the publisher or several independent packagers quote it. Where there is
none, the first download must be confirmed by the user and is pinned from then on.
"""

import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from vsr.errors import UnknownModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A checkpoint that somebody published.

    Attributes:
        name: The publisher's name.
        architecture: Which of `vsr.models.architectures()` it is for.
        scale: Output pixels per input pixel.
        licence: SPDX identifier.
        purpose: What it is good at, in a few words.
        aliases: Other names that people know it by.
        family: Name that it shares with checkpoints of other scales; its own if there are none.
        url: Where it is downloaded from; None if it ships in the package or comes by hand.
        page: Where a person finds it, if no program can download it or read it as it is.
        size: Bytes, None if unknown.
        sha256: Hexadecimal digest of the file, None if not pinned.
        embedded: File name within `vsr.embedded`; None if it is downloaded.
        denoise_twin: Name of the checkpoint to blend with for `--denoise-strength`.
        psnr: Published dB on luma by benchmark.
        config: Settings of the architecture that its tensors cannot tell, as a header would.
        network: Its other hyperparameters, where they differ from the architecture's defaults.
        parameters: Trained numbers, None if unknown.
        flops: Multiplications and additions per input pixel, None if unknown; a test counts both.
    """

    name: str
    architecture: str
    scale: int
    licence: str
    purpose: str
    aliases: tuple[str, ...] = ()
    family: str = ""
    url: str | None = None
    page: str | None = None
    size: int | None = None
    sha256: str | None = None
    embedded: str | None = None
    denoise_twin: str | None = None
    psnr: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    network: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    parameters: int | None = None
    flops: int | None = None

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", self.name)

    @property
    def pinned(self) -> bool:
        """Whether its content is known before it is downloaded."""
        return self.embedded is not None or self.sha256 is not None

    @property
    def header(self) -> dict[str, str]:
        """What a header of the file would tell `vsr.models.build`; empty if nothing."""
        config = json.dumps(dict(self.config))
        return {"architecture": self.architecture, "config": config} if self.config else {}

    @property
    def filename(self) -> str:
        """Name of the file in the cache: from this catalogue, never from a server."""
        suffix = PurePosixPath(urlsplit(self.url or "").path).suffix
        return self.embedded or f"{self.name}{suffix or '.pth'}"


@cache
def published() -> tuple[Published, ...]:
    """All known checkpoints, embedded ones first, then by architecture as in the files."""
    found: list[Published] = []
    folder = resources.files(__name__)
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            tables = tomllib.loads(file.read_text(encoding="utf-8"))["checkpoint"]
            found += [_entry(file.name.removesuffix(".toml"), table) for table in tables]
    return tuple(sorted(found, key=lambda entry: entry.embedded is None))


def _entry(architecture: str, table: dict[str, Any]) -> Published:
    values = dict(table)
    values["aliases"] = tuple(values.get("aliases", ()))
    for name in ("psnr", "config", "network"):
        given = values.get(name, {}).items()
        plain = {key: tuple(v) if isinstance(v, list) else v for key, v in given}
        values[name] = MappingProxyType(plain)
    return Published(architecture=architecture, **values)


def variants(name: str) -> tuple[Published, ...]:
    """All checkpoints that a name can mean: one, or a family's scales in ascending order.

    Args:
        name: A checkpoint's name or alias, or a family's name; letter case, `-` for `_` and a
            trailing `.pth` do not matter.

    Raises:
        UnknownModelError: No checkpoint has this name; the message suggests close ones.
    """
    wanted = _plain(name)
    exact = [e for e in published() if wanted in map(_plain, (e.name, *e.aliases))]
    found = exact or [e for e in published() if wanted == _plain(e.family)]
    if not found:
        raise UnknownModelError(_unknown(name))
    return tuple(sorted(found, key=lambda entry: entry.scale))


def find(name: str, scale: float | Fraction | None = None) -> Published:
    """The checkpoint of a name.

    Args:
        name: As for `variants`.
        scale: Where a family has several scales, the smallest that reaches this one is taken, or
            the largest of all if none does or this is None.

    Raises:
        UnknownModelError: No checkpoint has this name; the message suggests close ones.
    """
    family = variants(name)
    reaching = [entry for entry in family if scale is not None and entry.scale >= scale]
    return (reaching or family[-1:])[0]


def recognised(size: int, digest: Callable[[], str]) -> Published | None:
    """The checkpoint that a file is, whatever it is called.

    Args:
        size: Of the file, in bytes.
        digest: Computes its SHA-256 in hexadecimal; only called if the size is a known one's.
    """
    alike = [entry for entry in published() if entry.sha256 and entry.size == size]
    found = digest() if alike else None
    return next((entry for entry in alike if entry.sha256 == found), None)


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").removesuffix(".pth")


def _unknown(name: str) -> str:
    names = {_plain(n): n for e in published() for n in (*e.aliases, e.name, e.family)}
    close = difflib.get_close_matches(_plain(name), names, n=3)
    hint = f"did you mean {' or '.join(names[c] for c in close)}?" if close else "see `vsr models`"
    shown = name if len(name) <= 80 else f"{name[:77]}..."
    return f"no model is called {shown!r}: {hint}"
