"""Pure geometry: which part of a picture each tile reads, and which part of its result is kept.

A network whose output pixel depends on at most `overlap` input pixels to each side gives, inside a
tile and at least `overlap` away from its artificial edges, the same values as on the whole
picture. Tiles therefore read `tile` pixels, keep what lies `overlap` inside, and all have one
shape: the last one moves inward, so that a device sees a single size.
"""

from dataclasses import dataclass

from vsr.errors import UsageError


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in input pixels; both ranges are half open."""

    read: tuple[int, int]
    keep: tuple[int, int]


def spans(length: int, tile: int, overlap: int, multiple_of: int = 1) -> tuple[Span, ...]:
    """Cuts an axis into tiles of equal length whose kept parts cover it exactly once, in order.

    Args:
        length: Pixels of the axis; a multiple of `multiple_of`.
        tile: Pixels that a tile reads; a multiple of `multiple_of`. A tile at least as long as the
            axis is the whole axis.
        overlap: Pixels that an artificial edge spoils.
        multiple_of: Alignment that the network asks of the start of a tile.

    Returns:
        The tiles from first to last.

    Raises:
        UsageError: The tile is too small to keep anything, or not aligned.
    """
    if tile >= length:
        return (Span((0, length), (0, length)),)
    need = smallest_tile(overlap, multiple_of)
    if tile < need or tile % multiple_of or length % multiple_of:
        msg = (
            f"a tile of {tile} pixels is too small for this model: it needs at least {need} and "
            f"a multiple of {multiple_of}; use --tile {need} or more, or --tile 0 for no tiles"
        )
        raise UsageError(msg)
    cuts: list[Span] = []
    done = 0
    while done < length:
        start = min(max(0, done - overlap) // multiple_of * multiple_of, length - tile)
        end = start + tile
        until = length if end == length else (end - overlap)
        cuts.append(Span((start, end), (done, until)))
        done = until
    return tuple(cuts)


def smallest_tile(overlap: int, multiple_of: int = 1) -> int:
    """The shortest tile that `spans` accepts."""
    need = 2 * overlap + multiple_of
    return need + -need % multiple_of
