"""What is said of Ray's errors, and of packs in its dashboard."""

from collections.abc import Sequence

from vsr.cluster.crew import Answer, Errand, Lost
from vsr.errors import SinkError, VsrError


def lost(errand: Errand, error: Exception) -> Answer:
    """The answer to an errand whose worker is gone."""
    return Answer(errand=errand, outcome=Lost(reason=reason_of(error)))


def reason_of(error: Exception) -> str:
    """The kind of a Ray error in a few words; its text is many lines long."""
    known = {
        "OutOfMemoryError": "its node is out of memory",
        "ActorUnschedulableError": "its node has no room",
        "ObjectLostError": "its node is gone",
        "NodeDiedError": "its node is gone",
    }
    name = type(error).__name__
    return known.get(name, "its process ended" if "Died" in name or "Actor" in name else name)


def store_full(error: BaseException) -> VsrError:
    """The error of an object store without room."""
    name = type(error).__name__
    msg = (
        f"Ray's object store and the disk behind it have no room for a segment ({name}): give a "
        "--work-dir, start the nodes with a larger --object-store-memory, or lower --segment"
    )
    return SinkError(msg)


def title(errands: Sequence[Errand]) -> str:
    """What Ray's dashboard calls a pack."""
    first = errands[0]
    what = "begins" if first.part is None else f"segment {first.part.number}"
    more = f" and {len(errands) - 1} more" if len(errands) > 1 else ""
    return f"{first.name} {what}{more}"
