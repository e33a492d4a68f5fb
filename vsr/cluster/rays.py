"""A crew on Ray: an actor for every GPU of the cluster, or where there is none, for every node."""

import importlib
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from vsr.cluster.crew import Answer, Errand, Lost, Outcome
from vsr.cluster.worker import Facts, Worker, difference, own_versions
from vsr.errors import DeviceError, SinkError, ToolError, UsageError, VsrError

if TYPE_CHECKING:
    from vsr.engine.loading import Model

_log = logging.getLogger(__name__)

_EACH: Final = 2
"""Packs that a worker has in hand: one that it runs, one that waits."""
_LOOK: Final = 1.0
"""Seconds between two looks for nodes that have come or gone."""
_PATIENCE: Final = 120.0
"""Seconds without any worker after which nobody is waited for."""
_KNOCK: Final = 5.0
"""Seconds for an address to answer."""
_DEATHS: Final = 3
"""Deaths after which a worker is not replaced."""


def load_ray() -> Any:
    """Imports Ray.

    Raises:
        ToolError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        msg = "Ray is not installed: pip install 'vsr[ray]', here and on all nodes"
        raise ToolError(msg) from error


def connect(address: str) -> Any:
    """Connects to a cluster, unless this process is connected already.

    Args:
        address: `ray://HOST:PORT` of a Ray client server, `HOST:PORT` of a head, or `auto`: the
            cluster that runs on this machine or is named by `RAY_ADDRESS`; else one is started.

    Returns:
        The module `ray`.

    Raises:
        UsageError: Not such an address.
        ToolError: Ray is not installed.
        DeviceError: Nobody answers there.
    """
    ray = load_ray()
    if ray.is_initialized():
        return ray
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": "vsr"}
    if address == "auto":
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), **quiet)
        except ConnectionError:
            ray.init(address="local", include_dashboard=False, **quiet)
        return ray
    _knock(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"the Ray cluster at {address} refuses: {reason}"
        raise DeviceError(msg) from error
    return ray


def _knock(address: str) -> None:
    parts = urlsplit(address if "://" in address else f"gcs://{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("ray", "gcs") or not parts.hostname or port is None:
        msg = f"--cluster takes auto, ray://HOST:PORT or HOST:PORT, got {address!r}"
        raise UsageError(msg)
    try:
        socket.create_connection((parts.hostname, port), _KNOCK).close()
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"no Ray cluster answers at {address} ({reason}): see `ray status` on its head"
        raise DeviceError(msg) from error


@dataclass(slots=True, eq=False)
class _Hand:
    """One worker."""

    actor: Any
    host: str
    asked: Any
    facts: Facts | None = None
    packs: dict[Any, Sequence[Errand]] = field(default_factory=dict)


class _Actor:
    """What Ray runs: a `Worker` whose networks come through the object store."""

    def __init__(self, device: str) -> None:
        self._worker = Worker(device)

    def facts(self) -> Facts | VsrError:
        return self._worker.facts()

    def run(self, errands: Sequence[Errand], models: Mapping[str, Any]) -> list[Outcome]:
        return self._worker.run(errands, lambda name: load_ray().get(models[name]))


class RayCrew:
    """Workers on a Ray cluster; nodes may come and go.

    Args:
        address: See `connect`.
        device: `auto`: GPUs, if any node has one; or `cpu`, or `cuda`.
        patience: Seconds without any worker after which nobody is waited for.

    Raises:
        UsageError: Not an address, or a device that means something on one machine only.
        ToolError: Ray is not installed.
        DeviceError: Nobody answers, there is no such device, or a node has other versions.
    """

    def __init__(
        self, address: str = "auto", *, device: str = "auto", patience: float = _PATIENCE
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            msg = f"--device {device} names a device of one machine: use auto, cpu or cuda"
            raise UsageError(msg)
        self._ray = connect(address)
        self._wanted, self._patience = device, patience
        self._hands: dict[tuple[str, int], _Hand] = {}
        self._deaths: dict[tuple[str, int], int] = {}
        self._models: dict[str, Any] = {}
        self._devices: set[str] = set()
        self._looked, self._last, self._closed = 0.0, time.monotonic(), False
        self._here = Facts(host="", versions=own_versions(), device="", cores=os.cpu_count() or 1)
        self._answers: list[Answer] = []
        try:
            self._assemble()
        except BaseException:
            self.close()
            raise

    def _assemble(self) -> None:
        """Waits for the workers of the nodes that are there now."""
        self._look()
        while not self._ready() or any(hand.facts is None for hand in self._hands.values()):
            if time.monotonic() - self._last > self._patience:
                break
            self._answers += self._collect(0.5)
            self._look()
        self._devices = {hand.facts.device for hand in self._ready() if hand.facts}
        if not self._devices:
            raise self._nobody()
        if len(self._devices) > 1:
            kinds = self.device
            _log.warning("the workers differ (%s): bytes may differ from one machine's", kinds)

    @property
    def device(self) -> str:
        """On what all compute."""
        return " and ".join(sorted(self._devices))

    @property
    def workers(self) -> int:
        """How many are ready."""
        return len(self._ready())

    def _ready(self) -> list[_Hand]:
        return [hand for hand in self._hands.values() if hand.facts is not None]

    def _nobody(self) -> DeviceError:
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        if self._wanted == "cuda" and not any(node["Resources"].get("GPU") for node in nodes):
            return DeviceError("no node of the cluster has a GPU: use --device cpu")
        return DeviceError(
            f"no worker could be started on {len(nodes)} nodes within {self._patience:g} s: see "
            "`ray status` for what is free"
        )

    def _look(self) -> None:
        """Starts workers where there are none."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        gpus = self._wanted != "cpu" and any(node["Resources"].get("GPU") for node in nodes)
        if self._wanted == "cuda" and not gpus and not self._hands:
            raise self._nobody()
        for node in nodes:
            resources = node["Resources"]
            places = int(resources.get("GPU", 0)) if gpus else min(1, int(resources.get("CPU", 0)))
            for place in range(places):
                key = (node["NodeID"], place)
                if key not in self._hands and self._deaths.get(key, 0) < _DEATHS:
                    cpus = max(1, int(resources.get("CPU", 1)) // places)
                    self._hands[key] = self._start(node, cpus, gpu=gpus)

    def _start(self, node: Mapping[str, Any], cpus: int, *, gpu: bool) -> _Hand:
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        place = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = (
            self._ray.remote(_Actor)
            .options(num_cpus=cpus, num_gpus=int(gpu), scheduling_strategy=place, max_restarts=0)
            .remote("cuda" if gpu else "cpu")
        )
        asked = actor.facts.options(name="vsr worker starts").remote()
        return _Hand(actor=actor, host=node.get("NodeManagerHostname", "?"), asked=asked)

    def share(self, model: "Model") -> str:
        """Puts a network into the object store, once."""
        from vsr.engine.fingerprint import fingerprint  # noqa: PLC0415 - torch is slow

        name = fingerprint(model)
        if name not in self._models:
            try:
                self._models[name] = self._ray.put(model)
            except self._ray.exceptions.RayError as error:
                raise _store_full(error) from error
        return name

    def free(self) -> int:
        """How many packs can be given now."""
        self._look()
        ready = self._ready()
        if ready:
            self._last = time.monotonic()
        elif time.monotonic() - self._last > self._patience:
            raise self._nobody()
        return sum(max(0, _EACH - len(hand.packs)) for hand in ready)

    def give(self, errands: Sequence[Errand]) -> None:
        """Gives a pack to the worker with the least in hand."""
        hand = min(self._ready(), key=lambda hand: len(hand.packs))
        models = {errand.model: self._models[errand.model] for errand in errands}
        made = hand.actor.run.options(name=_title(errands)).remote(list(errands), models)
        hand.packs[made] = errands

    def answers(self, seconds: float) -> list[Answer]:
        """What has come back."""
        found, self._answers = self._answers, []
        return found or self._collect(seconds)

    def _collect(self, seconds: float) -> list[Answer]:
        refs = {hand.asked: key for key, hand in self._hands.items() if hand.facts is None}
        refs |= {ref: key for key, hand in self._hands.items() for ref in hand.packs}
        if not refs:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(refs), num_returns=1, timeout=seconds)
        found: list[Answer] = []
        for ref in ready:
            found += self._came(refs[ref], ref)
        return found

    def _came(self, key: tuple[str, int], ref: Any) -> list[Answer]:
        """Takes one result off the object store."""
        hand, errors = self._hands[key], self._ray.exceptions
        try:
            result = self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BaseException) else error
            if isinstance(cause, errors.RayError) and cause is not error:
                raise _store_full(cause) from error
            raise cause from None
        except errors.ObjectLostError as error:
            pack = hand.packs.pop(ref, ())
            return [_lost(errand, error) for errand in pack]
        except errors.RayError as error:  # the worker or its node is gone
            return self._bury(key, error)
        if ref == hand.asked and hand.facts is None:
            self._welcome(key, result)
            return []
        pack = hand.packs.pop(ref)
        return [Answer(errand=e, outcome=o) for e, o in zip(pack, result, strict=True)]

    def _bury(self, key: tuple[str, int], error: Exception) -> list[Answer]:
        hand = self._hands.pop(key)
        self._deaths[key] = self._deaths.get(key, 0) + 1
        if hand.facts is None:
            _log.warning("the worker on %s did not start: %s", hand.host, _reason(error))
        return [_lost(errand, error) for pack in hand.packs.values() for errand in pack]

    def _welcome(self, key: tuple[str, int], told: Facts | VsrError) -> None:
        """Lets a worker take part if it is like the others; at the beginning, all must be."""
        hand = self._hands[key]
        wrong = told if isinstance(told, VsrError) else None
        if isinstance(told, Facts):
            if (text := difference(self._here, told)) is not None:
                wrong = DeviceError(text)
            elif self._devices and told.device not in self._devices:
                wrong = DeviceError(
                    f"node {told.host} computes on {told.device}, not as the others"
                )
        if wrong is None and isinstance(told, Facts):
            hand.facts = told
            if told.cores != self._here.cores:
                text = (
                    "node %s has %d cores, this machine %d: encoders choose their threads by them"
                )
                _log.warning(text, told.host, told.cores, self._here.cores)
            return
        if not self._devices and wrong is not None:
            raise wrong
        _log.warning("%s; it is left out", wrong)
        self._deaths[key] = _DEATHS
        self._ray.kill(self._hands.pop(key).actor)

    def close(self) -> None:
        """Lets all workers go; the connection stays for others in this process."""
        if self._closed:
            return
        self._closed = True
        for hand in self._hands.values():
            self._ray.kill(hand.actor)
        self._hands.clear()
        self._models.clear()


def _lost(errand: Errand, error: Exception) -> Answer:
    return Answer(errand=errand, outcome=Lost(reason=_reason(error)))


def _reason(error: Exception) -> str:
    """The kind of a Ray error in a few words; its text is many lines long."""
    known = {
        "OutOfMemoryError": "its node is out of memory",
        "ActorUnschedulableError": "its node has no room",
        "ObjectLostError": "its node is gone",
        "NodeDiedError": "its node is gone",
    }
    name = type(error).__name__
    return known.get(name, "its process ended" if "Died" in name or "Actor" in name else name)


def _store_full(error: BaseException) -> VsrError:
    name = type(error).__name__
    msg = (
        f"Ray's object store cannot take a segment ({name}): start the nodes with a larger "
        "--object-store-memory, or use a smaller --segment"
    )
    return SinkError(msg)


def _title(errands: Sequence[Errand]) -> str:
    """What Ray's dashboard calls a pack."""
    first = errands[0]
    what = "begins" if first.part is None else f"segment {first.part.number}"
    more = f" and {len(errands) - 1} more" if len(errands) > 1 else ""
    return f"{first.name} {what}{more}"
