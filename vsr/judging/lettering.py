"""Short labels drawn into pictures with a 5×7 bitmap alphabet of capitals."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROWS: Final = 7
_COLUMNS: Final = 5
_SHAPES: Final = """
A .###. #...# #...# ##### #...# #...# #...#
B ####. #...# #...# ####. #...# #...# ####.
C .#### #.... #.... #.... #.... #.... .####
D ####. #...# #...# #...# #...# #...# ####.
E ##### #.... #.... ####. #.... #.... #####
F ##### #.... #.... ####. #.... #.... #....
G .#### #.... #.... #..## #...# #...# .####
H #...# #...# #...# ##### #...# #...# #...#
I .###. ..#.. ..#.. ..#.. ..#.. ..#.. .###.
J ....# ....# ....# ....# #...# #...# .###.
K #...# #..#. #.#.. ##... #.#.. #..#. #...#
L #.... #.... #.... #.... #.... #.... #####
M #...# ##.## #.#.# #.#.# #...# #...# #...#
N #...# ##..# ##..# #.#.# #..## #..## #...#
O .###. #...# #...# #...# #...# #...# .###.
P ####. #...# #...# ####. #.... #.... #....
Q .###. #...# #...# #...# #.#.# #..#. .##.#
R ####. #...# #...# ####. #.#.. #..#. #...#
S .#### #.... #.... .###. ....# ....# ####.
T ##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..
U #...# #...# #...# #...# #...# #...# .###.
V #...# #...# #...# #...# .#.#. .#.#. ..#..
W #...# #...# #...# #.#.# #.#.# ##.## #...#
X #...# #...# .#.#. ..#.. .#.#. #...# #...#
Y #...# #...# .#.#. ..#.. ..#.. ..#.. ..#..
Z ##### ....# ...#. ..#.. .#... #.... #####
0 .###. #...# #..## #.#.# ##..# #...# .###.
1 ..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.
2 .###. #...# ....# ..##. .#... #.... #####
3 ####. ....# ....# .###. ....# ....# ####.
4 ...#. ..##. .#.#. #..#. ##### ...#. ...#.
5 ##### #.... ####. ....# ....# #...# .###.
6 ..##. .#... #.... ####. #...# #...# .###.
7 ##### ....# ...#. ..#.. .#... .#... .#...
8 .###. #...# #...# .###. #...# #...# .###.
9 .###. #...# #...# .#### ....# ...#. .##..
. ..... ..... ..... ..... ..... .##.. .##..
, ..... ..... ..... ..... .##.. ..#.. .#...
: ..... .##.. .##.. ..... .##.. .##.. .....
- ..... ..... ..... .###. ..... ..... .....
_ ..... ..... ..... ..... ..... ..... #####
/ ....# ....# ...#. ..#.. .#... #.... #....
( ...#. ..#.. .#... .#... .#... ..#.. ...#.
) .#... ..#.. ...#. ...#. ...#. ..#.. .#...
+ ..... ..#.. ..#.. ##### ..#.. ..#.. .....
= ..... ..... ##### ..... ##### ..... .....
? .###. #...# ....# ...#. ..#.. ..... ..#..
"""
_UNKNOWN: Final = "?"


def _glyphs() -> dict[str, NDArray[np.bool_]]:
    made = {" ": np.zeros((_ROWS, _COLUMNS), np.bool_)}
    for line in _SHAPES.strip().splitlines():
        letter, *rows = line.split(" ")
        made[letter] = np.array([[dot == "#" for dot in row] for row in rows])
    return made


_GLYPHS: Final = _glyphs()


def lettered(text: str, size: int = 2) -> NDArray[np.bool_]:
    """Draws one line of text.

    Args:
        text: Letters without capitals become capitals, unknown ones a question mark.
        size: Pixels per dot.

    Returns:
        Shape (7 · size, 6 · size · letters): where the ink is.
    """
    letters = [_GLYPHS.get(letter.upper(), _GLYPHS[_UNKNOWN]) for letter in text]
    if not letters:
        return np.zeros((_ROWS * size, 0), np.bool_)
    line = np.concatenate([np.pad(letter, ((0, 0), (0, 1))) for letter in letters], axis=1)
    return line.repeat(size, 0).repeat(size, 1)


def shortened(text: str, width: int, size: int = 2) -> str:
    """The end of a text that fits into a width in pixels: of paths, the end tells them apart."""
    most = max(0, width // (6 * size))
    return text if len(text) <= most else ".." + text[len(text) - max(0, most - 2) :]
