"""What a driver asks of its workers, wherever they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vsr.cluster.copies import Copy
from vsr.cluster.workdir import Place
from vsr.errors import VsrError
from vsr.parts import Done, Part, Recipe, Unfit

if TYPE_CHECKING:
    from vsr.engine.loading import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One thing to do.

    Attributes:
        film: Number of the job.
        name: Of the job, for people.
        recipe: Of the job.
        model: The network's fingerprint, under which it was shared.
        part: Which part to make; None to say how it would be computed.
        way: How to compute; free if empty.
        era: Which answers count: a film's number of changes of mind.
        likeness: Of the files that the part needs, from `vsr.cluster.likeness`.
        place: Through which bytes travel; None for the crew's own way.
        copy: Where the source lies on a machine that does not see it.
    """

    film: int
    name: str
    recipe: Recipe
    model: str
    part: Part | None
    way: Mapping[str, Any]
    era: int
    likeness: str = ""
    place: Place | None = None
    copy: Copy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a worker would compute."""

    way: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """The worker's machine does not see the source, or sees another file under its name.

    Attributes:
        host: Its name.
    """

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """An errand whose worker is gone.

    Attributes:
        reason: What is known of that.
    """

    reason: str


type Outcome = Done | Unfit | Way | Unseen | Lost | VsrError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of an errand.

    A crew brings sources to where they are not seen by itself: it never answers `Unseen`.
    """

    errand: Errand
    outcome: Outcome


class Crew(Protocol):
    """Workers that run errands, two packs of them at a time each."""

    @property
    def device(self) -> str:
        """On what all compute, for people; more than one kind is joined by "and"."""
        ...

    @property
    def workers(self) -> int:
        """How many there are now."""
        ...

    def share(self, model: "Model") -> str:
        """Lets all workers have a network; gives the name by which errands ask for it."""
        ...

    def free(self) -> int:
        """How many packs can be given now.

        Raises:
            DeviceError: No worker is left, and none comes.
        """
        ...

    def give(self, errands: Sequence[Errand]) -> None:
        """Hands out a pack of errands, in the order in which they are to be run."""
        ...

    def answers(self, seconds: float) -> list[Answer]:
        """What has come back, after waiting for so long at most."""
        ...

    def forget(self, film: int) -> None:
        """Frees what was kept for a job of which no errand follows."""
        ...

    def close(self) -> None:
        """Lets all workers go; safe to call twice."""
        ...
