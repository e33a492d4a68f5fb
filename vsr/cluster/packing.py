"""Small errands travel together, so that short films cost no more than their frames."""

from collections.abc import Iterator, Sequence

from vsr.cluster.crew import Errand


def frames_of(errand: Errand, segment: int) -> int:
    """Frames of an errand, a whole segment where that is not known."""
    times = None if errand.part is None else errand.part.times
    return segment if times is None else len(times)


def packs(errands: Sequence[tuple[Errand, int]]) -> Iterator[list[Errand]]:
    """Puts errands together until they make a segment.

    Args:
        errands: In order, each with the frames of its film's segments.

    Yields:
        Packs, none empty; an errand of a full segment travels alone.
    """
    pack: list[Errand] = []
    weight = 0.0
    for errand, segment in errands:
        own = frames_of(errand, segment) / segment
        if pack and weight + own > 1:
            yield pack
            pack, weight = [], 0.0
        pack.append(errand)
        weight += own
    if pack:
        yield pack
