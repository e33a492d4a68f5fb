"""What runs on the other machines: does errands, and keeps networks ready between them."""

import hashlib
import os
import platform
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vsr.cluster.crew import Errand, Outcome, Way
from vsr.errors import DeviceError, ModelError, SourceNotFoundError, VsrError
from vsr.parts import PartMaker, Upscalers

if TYPE_CHECKING:
    from vsr.engine.loading import Model

_KEPT: Final = 4
"""Films whose networks stay on the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a machine.

    Attributes:
        host: Its name.
        versions: Of what decides about bytes, by name.
        device: On what it computes, for people.
        cores: Of its processor; some encoders choose their threads by them.
    """

    host: str
    versions: Mapping[str, str]
    device: str
    cores: int


@cache
def own_versions() -> Mapping[str, str]:
    """Versions of the libraries here; that of `vsr` with a digest of its files."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.read_bytes())
    found = {name: metadata.version(name) for name in ("torch", "av", "numpy")}
    found["vsr"] = f"{metadata.version('vsr')} ({digest.hexdigest()[:8]})"
    found["Python"] = ".".join(platform.python_version_tuple()[:2])
    return found


def difference(here: Facts, there: Facts) -> str | None:
    """Why a machine cannot take part, in one line; None if it can."""
    for name, version in here.versions.items():
        other = there.versions.get(name, "none")
        if other != version:
            return (
                f"node {there.host} has {name} {other}, this machine has {version}: install the "
                "same on all"
            )
    return None


class Worker:
    """Runs errands, one after another.

    Args:
        device: Where networks run: `cpu` or `cuda`.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._makers: OrderedDict[str, PartMaker] = OrderedDict()
        self._upscalers: Upscalers = {}

    def facts(self) -> Facts | VsrError:
        """What is known of this machine; the error if its device cannot be used."""
        from vsr.engine.devices import devices, resolve_device  # noqa: PLC0415 - torch is slow

        try:
            name = str(resolve_device(self._device))
        except DeviceError as error:
            return DeviceError(f"node {socket.gethostname()}: {error}")
        name = "cuda:0" if name == "cuda" else name
        told = {fact.name: fact.description for fact in devices()}
        return Facts(
            host=socket.gethostname(),
            versions=own_versions(),
            device=f"{name} ({told.get(name, name)})",
            cores=os.cpu_count() or 1,
        )

    def run(self, errands: Sequence[Errand], fetch: Callable[[str], "Model"]) -> list[Outcome]:
        """Runs errands in their order.

        Args:
            errands: What to do.
            fetch: Gets a network by the name under which it was shared.

        Returns:
            What became of each; a `VsrError` is a value here, for it belongs to one film.
        """
        return [self._one(errand, fetch) for errand in errands]

    def _one(self, errand: Errand, fetch: Callable[[str], "Model"]) -> Outcome:
        try:
            maker = self._maker(errand, fetch)
            if errand.part is None:
                maker.ready(errand.way)
                return Way(way=maker.way)
            return maker.make(errand.part, errand.way)
        except SourceNotFoundError as error:
            msg = (
                f"node {socket.gethostname()} does not see the source ({error}): put it on a path "
                "that all nodes share"
            )
            return SourceNotFoundError(msg)
        except VsrError as error:
            return error.with_traceback(None)

    def _maker(self, errand: Errand, fetch: Callable[[str], "Model"]) -> PartMaker:
        key = _key(errand)
        if key not in self._makers:
            while len(self._makers) >= _KEPT:
                self._makers.popitem(last=False)[1].close()
            model = self._model(errand.model, fetch)
            while len(self._upscalers) >= _KEPT:
                self._upscalers.pop(next(iter(self._upscalers)))
            self._makers[key] = PartMaker(
                errand.recipe, model, device=self._device, upscalers=self._upscalers
            )
        self._makers.move_to_end(key)
        return self._makers[key]

    def _model(self, name: str, fetch: Callable[[str], "Model"]) -> "Model":
        from vsr.engine.fingerprint import fingerprint  # noqa: PLC0415 - torch is slow

        if name not in self._models:
            model = fetch(name)
            if (found := fingerprint(model)) != name:
                msg = (
                    f"node {socket.gethostname()} got the model {found} in place of {name}: "
                    "install the same vsr on all nodes"
                )
                raise ModelError(msg)
            while len(self._models) >= _KEPT:
                self._models.popitem(last=False)
            self._models[name] = model
        return self._models[name]


def _key(errand: Errand) -> str:
    """Equal for errands of one film."""
    told: Any = (errand.recipe, errand.model)
    return repr(told)
