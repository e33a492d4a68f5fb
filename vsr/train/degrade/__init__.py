"""Degradations: from clean pictures to what networks learn from. One file a source.

    bicubic      MATLAB's reduction, as in the papers' data sets
    realesrgan   second-order blur, resizes, noise and JPEG, with sinc ringing
    dasr         one Gaussian blur of any direction, reduction, noise
    bsrgan       shuffled blur, resizes, noise, JPEG and camera noise
    video        real H.264, H.265, MPEG-2 and VP9 encodes of clips made from stills
    learned      a generator network that was trained to degrade

    degradations()                         their names
    open_degradation("bsrgan", {…}, 4)     one of them with its settings, strictly read

`kernels`, `noise`, `jpeg`, `sharpen` and `resizes` are what they are made of.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from vsr.errors import UsageError
from vsr.train.strict import structure

if TYPE_CHECKING:
    from vsr.train.degrade._base import Degradation

_SOURCES: Final = {
    "bicubic": ("Bicubic", "BicubicSettings"),
    "bsrgan": ("Bsrgan", "BsrganSettings"),
    "dasr": ("Dasr", "DasrSettings"),
    "learned": ("Learned", "LearnedSettings"),
    "realesrgan": ("RealEsrgan", "RealEsrganSettings"),
    "video": ("Video", "VideoSettings"),
}

__all__ = ["degradations", "open_degradation", "settings_of"]


def degradations() -> tuple[str, ...]:
    """Lists the names of all degradations, sorted."""
    return tuple(sorted(_SOURCES))


def settings_of(name: str, values: Mapping[str, Any] | None = None) -> Any:
    """Builds the settings of a degradation.

    Args:
        name: One of `degradations()`.
        values: By field name; what is missing is as in the paper.

    Raises:
        UsageError: An unknown name, an unknown key, or a value that cannot be.
    """
    kind = getattr(_module(name), _SOURCES[name][1])
    return structure(kind, values or {}, f"degradation {name}")


def open_degradation(
    name: str, values: Mapping[str, Any] | None = None, scale: int = 4
) -> "Degradation":
    """Makes a degradation.

    Args:
        name: One of `degradations()`.
        values: Its settings by field name; what is missing is as in the paper.
        scale: Clean pixels per degraded pixel along each axis.

    Raises:
        UsageError: An unknown name, an unknown key, or a value that cannot be.
    """
    settings = settings_of(name, values)
    made: Degradation = getattr(_module(name), _SOURCES[name][0])(settings, scale)
    return made


def _module(name: str) -> Any:
    if name not in _SOURCES:
        msg = f"no degradation is called {name!r}: known are {', '.join(degradations())}"
        raise UsageError(msg)
    return import_module(f"{__name__}.{name}")
