"""How fast networks have been on this machine, remembered between runs. Free of torch.

`vsr models` shows what is here beside each model; what has not been measured on this machine is not
guessed from another's.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Final

from vsr.engine.experience import Experience

_log = logging.getLogger(__name__)

_EXPERIENCE: Final = Experience("speeds.json")

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
    for name, facts in _EXPERIENCE.read().items():
        try:
            speed = Speed(**facts)
            usual = (speed.width, speed.height) == USUAL_SIZE and speed.fps > 0
        except TypeError:
            _log.info("%s is of another version of vsr: %s is left out", _EXPERIENCE.path, name)
            continue
        if usual:
            found[name] = speed
    return found


def remember_speed(name: str, speed: Speed) -> None:
    """Keeps a measurement for `vsr models`; a folder that cannot be written is no obstacle."""
    _EXPERIENCE.write({**_EXPERIENCE.read(), name: asdict(speed)})
