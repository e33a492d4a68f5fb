"""How fast networks have been on this machine, remembered between runs. Free of torch.

`vsr models` shows what is here beside each model, `vsr devices` beside each device; what has not
been measured on this machine is not guessed from another's.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from vsr.engine.experience import Experience

_log = logging.getLogger(__name__)

_EXPERIENCE: Final = Experience("speeds.json")
_ON: Final = " on "
"""Between model and device in the names of what is kept."""

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
    return dict(_usual())


def speeds_on(device: str) -> dict[str, Speed]:
    """The last measurement of each model on a device at the usual size, by its name.

    Args:
        device: Its product name, as `vsr.engine.devices.DeviceFacts` describes it.
    """
    return {name: speed for name, speed in _usual() if speed.device == device}


def remember_speed(name: str, speed: Speed) -> None:
    """Keeps a measurement, one for each model and device; it is then the model's last.

    A folder that cannot be written is no obstacle.
    """
    known = _EXPERIENCE.read()
    key = f"{name}{_ON}{speed.device}"
    known.pop(key, None)
    _EXPERIENCE.write({**known, key: asdict(speed)})


def _usual() -> Iterator[tuple[str, Speed]]:
    """Models and their speeds at the usual size, the last measurement last."""
    for key, facts in _EXPERIENCE.read().items():
        name = key.partition(_ON)[0]
        try:
            speed = Speed(**facts)
            usual = (speed.width, speed.height) == USUAL_SIZE and speed.fps > 0
        except TypeError:
            _log.info("%s is of another version of vsr: %s is left out", _EXPERIENCE.path, key)
            continue
        if usual:
            yield name, speed
