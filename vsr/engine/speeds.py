"""How fast networks have been on this machine, remembered between runs. Free of torch.

`vsr models` shows what is here beside each model; what has not been measured on this machine is not
guessed from another's.
"""

import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vsr.checkpoints import cache_dir

_log = logging.getLogger(__name__)

USUAL_SIZE = (640, 360)
"""Width and height that speeds are compared at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was measured.

    Attributes:
        fps: Frames per second.
        width: Of the source in pixels.
        height: Likewise.
        device: Product name of what computed.
        how: What ran, such as `network alone, fp32, 2 threads`.
        day: Date of the measurement, as in 2026-01-31.
    """

    fps: float
    width: int
    height: int
    device: str
    how: str
    day: str


def remembered_speeds() -> dict[str, Speed]:
    """The last measurement of each model at the usual size, by its name in the catalogue."""
    found: dict[str, Speed] = {}
    for name, facts in _read().items():
        try:
            speed = Speed(**facts)
            usual = (speed.width, speed.height) == USUAL_SIZE and speed.fps > 0
        except TypeError:
            _log.info("%s is of another version of vsr: %s is left out", _path(), name)
            continue
        if usual:
            found[name] = speed
    return found


def remember_speed(name: str, speed: Speed) -> None:
    """Keeps a measurement for `vsr models`; a folder that cannot be written is no obstacle."""
    known = {**_read(), name: asdict(speed)}
    path = _path()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(known, indent=1), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        _log.info("what was measured cannot be remembered: %s", error)
        with suppress(OSError):
            partial.unlink()


def _path() -> Path:
    return cache_dir() / "speeds.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.info("%s cannot be read: %s", _path(), error)
        return {}
    return found if isinstance(found, dict) else {}
