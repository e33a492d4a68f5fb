"""A crew on Ray: an actor for every GPU of the cluster, or where there is none, for every node."""

import importlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from vsr.cluster.connecting import connect
from vsr.cluster.copies import Copy
from vsr.cluster.crew import Answer, Errand, Lost, Unseen
from vsr.cluster.hands import Actor, Hand
from vsr.cluster.shipping import Shipping
from vsr.cluster.telling import lost, reason_of, store_full, title
from vsr.cluster.worker import Facts, difference, own_versions
from vsr.errors import DeviceError, UsageError, VsrError

if TYPE_CHECKING:
    from vsr.engine.loading import Model

_log = logging.getLogger(__name__)

_EACH: Final = 2
"""Packs that a worker has in hand: one that it runs, one that waits."""
_LOOK: Final = 1.0
"""Seconds between two looks for nodes that have come or gone."""
_PATIENCE: Final = 120.0
"""Seconds without any worker after which nobody is waited for."""
_LOADS: Final = 2
"""Messages with bytes of sources that are on their way to a worker."""
_FAREWELL: Final = 3.0
"""Seconds for workers to remove their copies of sources."""
_DIGITS: Final = 16
"""Of the names of sessions and nodes."""
_DEATHS: Final = 3
"""Deaths after which a worker is not replaced."""


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
        self._hands: dict[tuple[str, int], Hand] = {}
        self._deaths: dict[tuple[str, int], int] = {}
        self._models: dict[str, Any] = {}
        self._shipping = Shipping()
        self._over: set[int] = set()
        self._session = secrets.token_hex(_DIGITS // 2)
        self._devices: set[str] = set()
        self._looked, self._last, self._closed = 0.0, time.monotonic(), False
        self._here = Facts(host="", versions=own_versions(), device="")
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

    def _ready(self) -> list[Hand]:
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

    def _start(self, node: Mapping[str, Any], cpus: int, *, gpu: bool) -> Hand:
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        place = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = (
            self._ray.remote(Actor)
            .options(num_cpus=cpus, num_gpus=int(gpu), scheduling_strategy=place, max_restarts=0)
            .remote("cuda" if gpu else "cpu", f"{self._session}-{node['NodeID'][:_DIGITS]}")
        )
        asked = actor.facts.options(name="vsr worker starts").remote()
        return Hand(actor=actor, host=node.get("NodeManagerHostname", "?"), asked=asked)

    def share(self, model: "Model") -> str:
        """Puts a network into the object store, once."""
        from vsr.engine.fingerprint import fingerprint  # noqa: PLC0415 - torch is slow

        name = fingerprint(model)
        if name not in self._models:
            try:
                self._models[name] = self._ray.put(model)
            except self._ray.exceptions.RayError as error:
                raise store_full(error) from error
        return name

    def free(self) -> int:
        """How many packs can be given now."""
        self._look()
        ready = self._ready()
        if ready:
            self._last = time.monotonic()
        elif time.monotonic() - self._last > self._patience:
            raise self._nobody()
        return sum(max(0, _EACH - hand.weight) for hand in ready)

    def give(self, errands: Sequence[Errand]) -> None:
        """Gives a pack to the worker with the least in hand."""
        key = min(
            (key for key, hand in self._hands.items() if hand.facts is not None),
            key=lambda key: self._hands[key].weight,
        )
        self._hands[key].held.append(errands)
        self._answers += self._advance(key)

    def _advance(self, key: tuple[str, int]) -> list[Answer]:
        """Lets a worker run the held packs whose sources it can read, and sends more of others."""
        hand, failed = self._hands[key], list[Answer]()
        held, hand.held = hand.held, []
        for pack in held:
            kept, there = [], True
            for errand in pack:
                try:
                    there = self._brought(key[0], hand, errand) and there
                    kept.append(errand)
                except VsrError as error:
                    failed.append(Answer(errand=errand, outcome=error))
            if kept and there:
                self._submit(key[0], hand, kept)
            elif kept:
                hand.held.append(kept)
        return failed

    def _brought(self, node: str, hand: Hand, errand: Errand) -> bool:
        """Whether a worker can read what an errand needs; else something more is sent."""
        if not self._shipping.blind(node, errand) or self._shipping.complete(node, errand):
            return True
        while len(hand.loads) < _LOADS and (load := self._shipping.load(node, errand)):
            call = hand.actor.receive.options(name=f"{errand.name} gets its source")
            hand.loads[self._called(call, load)] = errand.film, load
        return False

    def _submit(self, node: str, hand: Hand, errands: Sequence[Errand]) -> None:
        errands = [
            self._shipping.addressed(errand) if self._shipping.blind(node, errand) else errand
            for errand in errands
        ]
        models = {errand.model: self._models[errand.model] for errand in errands}
        call = hand.actor.run.options(name=title(errands))
        hand.packs[self._called(call, list(errands), models)] = errands

    def _called(self, call: Any, *values: object) -> Any:
        """Asks a worker for something; what it will give."""
        try:
            return call.remote(*values)
        except self._ray.exceptions.RayError as error:
            raise store_full(error) from error

    def answers(self, seconds: float) -> list[Answer]:
        """What has come back."""
        found, self._answers = self._answers, []
        return found or self._collect(seconds)

    def _collect(self, seconds: float) -> list[Answer]:
        refs = {hand.asked: key for key, hand in self._hands.items() if hand.facts is None}
        refs |= {ref: key for key, hand in self._hands.items() for ref in hand.packs}
        refs |= {ref: key for key, hand in self._hands.items() for ref in hand.loads}
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
        hand = self._hands[key]
        try:
            result = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._broken(key, ref, error)
        if ref == hand.asked and hand.facts is None:
            self._welcome(key, result)
            return []
        if ref in hand.loads:
            return self._loaded(key, ref, result)
        pack = hand.packs.pop(ref)
        answers = [Answer(errand=e, outcome=o) for e, o in zip(pack, result, strict=True)]
        unseen = [one for one in answers if isinstance(one.outcome, Unseen)]
        seen = [one for one in answers if not isinstance(one.outcome, Unseen)]
        return seen + self._bring(key, [one.errand for one in unseen])

    def _bring(self, key: tuple[str, int], errands: Sequence[Errand]) -> list[Answer]:
        """Brings the source to a machine that does not see it; its copy may be gone, too."""
        hand, gone = self._hands[key], list[Answer]()
        for errand in errands:
            if errand.film in self._over or errand.copy is not None:
                reason = "its copy of the source is gone"
                gone.append(Answer(errand=replace(errand, copy=None), outcome=Lost(reason=reason)))
            if errand.film in self._over:
                continue
            if errand.copy is not None or not self._shipping.blind(key[0], errand):
                text = "node %s does not see the source of %s: it gets what it needs from here"
                _log.warning(text, hand.host, errand.name)
                self._shipping.learn(key[0], errand)
            if errand.copy is None:
                hand.held.append([errand])
        return gone + self._advance(key)

    def _loaded(self, key: tuple[str, int], ref: Any, error: VsrError | None) -> list[Answer]:
        """Bytes of a source have arrived, or could not be kept."""
        film, load = self._hands[key].loads.pop(ref)
        failed = list[Answer]()
        if error is None:
            self._shipping.arrived(key[0], film, load)
        else:
            self._shipping.lost(key[0], film, load)
            failed = self._dropped(film, error, node=key[0])
        for other in [other for other in self._hands if other[0] == key[0]]:
            failed += self._advance(other)
        return failed

    def _dropped(self, film: int, error: VsrError | None, node: str | None = None) -> list[Answer]:
        """Takes a film's errands off those that wait, on one machine or on all."""
        dropped = list[Answer]()
        for key, hand in self._hands.items():
            if node in (None, key[0]):
                held = [errand for pack in hand.held for errand in pack if errand.film == film]
                packs = [[e for e in pack if e.film != film] for pack in hand.held]
                hand.held = [pack for pack in packs if pack]
                if error is not None:
                    dropped += [Answer(errand=errand, outcome=error) for errand in held]
        return dropped

    def _broken(self, key: tuple[str, int], ref: Any, error: Any) -> list[Answer]:
        """What becomes of something that was asked for and does not come."""
        hand, errors = self._hands[key], self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            cause = error.cause if isinstance(error.cause, BaseException) else error
            full = isinstance(cause, errors.RayError) and cause is not error
            if not full or ref not in hand.packs:
                raise cause from None
            outcome = store_full(cause)
            return [Answer(errand=errand, outcome=outcome) for errand in hand.packs.pop(ref)]
        if not isinstance(error, errors.ObjectLostError):  # the worker or its node is gone
            return self._bury(key, error)
        if ref in hand.loads:
            film, load = hand.loads.pop(ref)
            self._shipping.lost(key[0], film, load)
            return self._advance(key)
        return [lost(errand, error) for errand in hand.packs.pop(ref, ())]

    def _bury(self, key: tuple[str, int], error: Exception) -> list[Answer]:
        hand = self._hands.pop(key)
        self._deaths[key] = self._deaths.get(key, 0) + 1
        if hand.facts is None:
            _log.warning("the worker on %s did not start: %s", hand.host, reason_of(error))
        for film, load in hand.loads.values():
            self._shipping.lost(key[0], film, load)
        packs = [*hand.packs.values(), *hand.held]
        return [lost(errand, error) for pack in packs for errand in pack]

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
            return
        if not self._devices and wrong is not None:
            raise wrong
        _log.warning("%s; it is left out", wrong)
        self._deaths[key] = _DEATHS
        self._ray.kill(self._hands.pop(key).actor)

    def forget(self, film: int) -> None:
        """Removes the copies of a film's source."""
        self._over.add(film)
        self._dropped(film, None)
        for node in self._shipping.forget(film):
            hand = next((hand for key, hand in self._hands.items() if key[0] == node), None)
            if hand is not None:
                hand.actor.forget.remote(Copy(folder=str(film), suffixes=()))

    def close(self) -> None:
        """Lets all workers go; the connection stays for others in this process."""
        if self._closed:
            return
        self._closed = True
        leaving = (
            [hand.actor.close.remote() for hand in self._ready()] if self._shipping.used else []
        )
        if leaving:  # who is at work leaves its copies to the next run
            self._ray.wait(leaving, num_returns=len(leaving), timeout=_FAREWELL)
        for hand in self._hands.values():
            self._ray.kill(hand.actor)
        self._hands.clear()
        self._models.clear()
