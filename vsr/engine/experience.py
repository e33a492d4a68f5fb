"""What trials on this machine have found, kept between runs in the cache folder. Free of torch."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsr.checkpoints import cache_dir

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Experience:
    """A JSON object in the cache folder, which nothing depends on but speed.

    A file that is damaged counts as empty; a folder that cannot be written is no obstacle.

    Attributes:
        name: Of the file.
    """

    name: str

    @property
    def path(self) -> Path:
        """Where the file lies now."""
        return cache_dir() / self.name

    def read(self) -> dict[str, Any]:
        """All that is known."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            _log.info("%s cannot be read: %s", self.path, error)
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, known: Mapping[str, Any]) -> None:
        """Replaces all that is known."""
        partial = self.path.with_suffix(f".{os.getpid()}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
            partial.replace(self.path)
        except OSError as error:
            _log.info("what was found cannot be remembered: %s", error)
            with suppress(OSError):
                partial.unlink()
