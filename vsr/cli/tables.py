"""Aligned columns for people."""

from collections.abc import Iterable, Sequence


def table(
    rows: Iterable[Sequence[str]], *, head: Sequence[str] | None = None, indent: int = 0
) -> list[str]:
    """Lays rows out in columns as wide as their longest cell; the last column is left open.

    >>> table([("a", "1"), ("long", "2")], head=("name", "n"))
    ['name  n', 'a     1', 'long  2']
    """
    cells = [tuple(head)] if head else []
    cells += [tuple(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        (
            " " * indent
            + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def size(count: int) -> str:
    """Writes a number of bytes with three digits.

    >>> size(16_697_987), size(900), size(140 << 30)
    ('15.9 MiB', '900 B', '140 GiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000 or unit == "GiB":
            break
        value /= 1024
    digits = 0 if unit == "B" or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"
