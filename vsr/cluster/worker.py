"""What runs on the other machines: does errands, and keeps networks ready between them."""

import hashlib
import platform
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vsr.cluster.copies import Copies, Copy, Load, paths_of
from vsr.cluster.crew import Errand, Outcome, Unseen, Way
from vsr.cluster.likeness import files_of, likeness
from vsr.cluster.workdir import Place, WorkDir
from vsr.errors import DeviceError, ModelError, SourceNotFoundError, VsrError
from vsr.io.folder import Stills
from vsr.parts import Done, PartMaker, Recipe, Unfit, Upscalers
from vsr.recording import from_plain, plain

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
    """

    host: str
    versions: Mapping[str, str]
    device: str


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
        session: Names the driver's run and this machine.
    """

    def __init__(self, device: str, session: str = "") -> None:
        self._device = device
        self._copies = Copies(session or secrets.token_hex(8))
        self._copied: dict[str, str] = {}
        self._seen: set[tuple[int, str]] = set()
        self._places: dict[Place, WorkDir] = {}
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
        source = from_plain(errand.recipe.job["source"])
        local = source if errand.copy is None else self._copies.local(source, errand.copy)
        named = _Named(local, source)
        try:
            if errand.part is None:
                maker = self._maker(errand, errand.recipe, fetch)
                maker.ready(errand.way)
                return Way(way=maker.way)
            if not self._sees(errand, local):
                return Unseen(host=socket.gethostname())
            job = {**errand.recipe.job, "source": plain(local)}
            maker = self._maker(errand, replace(errand.recipe, job=job), fetch)
            made = named.told(maker.make(errand.part, errand.way))
            return self._posted(made, errand.place) if isinstance(made, Done) else made
        except SourceNotFoundError:  # it was there a moment ago
            return Unseen(host=socket.gethostname())
        except VsrError as error:
            return named.error(error).with_traceback(None)

    def receive(self, load: Load) -> VsrError | None:
        """Takes a piece of a source that this machine does not see; the error if it cannot."""
        try:
            self._copies.receive(load)
        except VsrError as error:
            return type(error)(f"node {socket.gethostname()}: {error}")
        return None

    def forget(self, copy: Copy) -> None:
        """Removes the copy of a source that is not needed any more."""
        maker = self._makers.pop(self._copied.pop(copy.folder, ""), None)
        if maker is not None:
            maker.close()
        self._copies.forget(copy)

    def close(self) -> None:
        """Lets go of all films, and of the copies of their sources."""
        while self._makers:
            self._makers.popitem()[1].close()
        self._copies.close()

    def _sees(self, errand: Errand, local: Path | Stills) -> bool:
        """Whether the files of a part are here, and are those that the driver has."""
        if errand.part is None:
            return True
        paths = [path for _, path in files_of(local, errand.part)]
        if errand.copy is not None:
            return all(path.is_file() for path in paths)
        key = errand.film, errand.likeness
        if key not in self._seen:
            try:
                if likeness(paths) != errand.likeness:
                    return False
            except OSError:
                return False
            self._seen.add(key)
        return True

    def _posted(self, done: Done, place: Place | None) -> Done:
        """Leaves a part's bytes in the shared place, if there is one."""
        if place is None or done.segment is None:
            return done
        if place not in self._places:
            self._places.clear()
            self._places[place] = WorkDir(place)
        stem = f"{done.number:06d}-"
        parcel = self._places[place].put(done.data, stem=stem, suffix=".packets")
        return replace(done, data=b"", parcel=parcel.name)

    def _maker(self, errand: Errand, recipe: Recipe, fetch: Callable[[str], "Model"]) -> PartMaker:
        key = repr((recipe, errand.model))
        if errand.copy is not None and errand.part is not None:
            self._copied[errand.copy.folder] = key
        if key not in self._makers:
            while len(self._makers) >= _KEPT:
                self._makers.popitem(last=False)[1].close()
            model = self._model(errand.model, fetch)
            while len(self._upscalers) >= _KEPT:
                self._upscalers.pop(next(iter(self._upscalers)))
            self._makers[key] = PartMaker(
                recipe, model, device=self._device, upscalers=self._upscalers
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


class _Named:
    """Calls a source in what is said of it as the user does, wherever its copy lies.

    Args:
        local: As it lies here.
        source: As the user named it.
    """

    def __init__(self, local: Path | Stills, source: Path | Stills) -> None:
        pairs = zip(paths_of(local), paths_of(source), strict=True)
        self._names = {} if local == source else {str(copy): str(path) for copy, path in pairs}

    def text(self, text: str) -> str:
        """A text without the names of copies."""
        for copy, path in self._names.items():
            text = text.replace(copy, path)
        return text

    def told(self, made: Done | Unfit) -> Done | Unfit:
        """What became of a part, likewise."""
        if isinstance(made, Unfit):
            return replace(made, reason=self.text(made.reason))
        return replace(made, warnings=tuple(self.text(text) for text in made.warnings))

    def error(self, error: VsrError) -> VsrError:
        """An error, likewise."""
        return type(error)(self.text(str(error))) if self._names else error
