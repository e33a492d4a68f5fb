"""One worker of a crew on Ray: what runs there, and what the driver knows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vsr.cluster.connecting import load_ray
from vsr.cluster.copies import Copy, Load
from vsr.cluster.crew import Errand, Outcome
from vsr.cluster.worker import Facts, Worker
from vsr.errors import VsrError


@dataclass(slots=True, eq=False)
class Hand:
    """One worker.

    Attributes:
        actor: Ray's.
        host: The name of its machine.
        asked: Whose answer are its facts.
        facts: None until it is ready.
        packs: That it runs, by what they will give.
        held: Packs that wait until its machine has their source.
        loads: Bytes of sources that are on their way to it, each with the film's number.
    """

    actor: Any
    host: str
    asked: Any
    facts: Facts | None = None
    packs: dict[Any, Sequence[Errand]] = field(default_factory=dict)
    held: list[Sequence[Errand]] = field(default_factory=list)
    loads: dict[Any, tuple[int, Load]] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """Packs that it has, those that wait for their source included."""
        return len(self.packs) + len(self.held)


class Actor:
    """What Ray runs: a `Worker` whose networks come through the object store."""

    def __init__(self, device: str, session: str) -> None:
        self._worker = Worker(device, session)

    def facts(self) -> Facts | VsrError:
        """What is known of its machine."""
        return self._worker.facts()

    def run(self, errands: Sequence[Errand], models: Mapping[str, Any]) -> list[Outcome]:
        """Runs a pack."""
        return self._worker.run(errands, lambda name: load_ray().get(models[name]))

    def receive(self, load: Load) -> VsrError | None:
        """Takes a piece of a source."""
        return self._worker.receive(load)

    def forget(self, copy: Copy) -> None:
        """Removes the copy of a source."""
        self._worker.forget(copy)

    def close(self) -> None:
        """Lets go of everything."""
        self._worker.close()
