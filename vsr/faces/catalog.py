"""The published checkpoints of face restoration. Free of torch.

They are no upscalers, so `-n` does not take them and they are listed apart from `vsr.models`. The
cache and the download of `vsr.checkpoints` take them as they are.
"""

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from vsr.errors import UnknownModelError

type Kind = Literal["restorer", "detector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceCheckpoint:
    """A checkpoint that somebody published; a `vsr.checkpoints.Remote`.

    Attributes:
        name: The publisher's name.
        kind: What it does with faces.
        licence: SPDX identifier.
        purpose: What it is good at, in a few words.
        url: Where it is downloaded from.
        size: Bytes.
        sha256: Hexadecimal digest of the file, None if not pinned.
        aliases: Other names that people know it by.
    """

    name: str
    kind: Kind
    licence: str
    purpose: str
    url: str
    size: int | None = None
    sha256: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def embedded(self) -> None:
        """None of them ships in the package."""
        return

    @property
    def filename(self) -> str:
        """Name of the file in the cache: from this catalogue, never from a server."""
        return f"{self.name}.pth"


@cache
def face_checkpoints() -> tuple[FaceCheckpoint, ...]:
    """All known ones, in the catalogue's order."""
    text = resources.files(__package__).joinpath("catalog.toml").read_text(encoding="utf-8")
    return tuple(_entry(table) for table in tomllib.loads(text)["checkpoint"])


def _entry(table: dict[str, Any]) -> FaceCheckpoint:
    return FaceCheckpoint(**table | {"aliases": tuple(table.get("aliases", ()))})


def find_face_checkpoint(name: str, kind: Kind | None = None) -> FaceCheckpoint:
    """The checkpoint of a name.

    Args:
        name: A name or alias; letter case, `-` for `_` and a trailing `.pth` do not matter.
        kind: What it must do.

    Raises:
        UnknownModelError: No such checkpoint; the message says which there are.
    """
    entries = [entry for entry in face_checkpoints() if kind in {None, entry.kind}]
    names = {_plain(known): entry for entry in entries for known in (*entry.aliases, entry.name)}
    if found := names.get(_plain(name)):
        return found
    close = difflib.get_close_matches(_plain(name), names, n=1)
    there = " or ".join(entry.name for entry in entries)
    hint = f"did you mean {names[close[0]].name}?" if close else f"there is {there}"
    msg = f"no face {kind or 'model'} is called {name[:80]!r}: {hint}"
    raise UnknownModelError(msg)


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-").removesuffix(".pth")
