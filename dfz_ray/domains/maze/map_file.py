"""Grid maps in the MovingAI format (Sturtevant, "Benchmarks for Grid-Based Pathfinding", 2012)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfz_ray.domains.maze.grid import MOVES, Cell, Grid
from dfz_ray.specs.input_file import InputFile
from dfz_ray.specs.problems import show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FREE = ".GS"
"""Ground, and swamp, which costs the same."""
OBSTACLES = "@OTW"
"""Out of bounds, trees, and water, which nobody can enter from land."""
CELLS_LIMIT = 2**22


@dataclass(frozen=True)
class GridMap:
    """A map, read from its file."""

    width: int
    height: int
    terrain: str
    """One character for each cell, row by row."""

    def contains(self, cell: Cell) -> bool:
        """True if the cell is on the map."""
        return 0 <= cell[0] < self.width and 0 <= cell[1] < self.height

    def terrain_at(self, cell: Cell) -> str:
        """The character of a cell of the map."""
        return self.terrain[cell[1] * self.width + cell[0]]

    def find_free(self) -> NDArray[np.bool_]:
        """True for the cells that are no obstacle; a row of the array is one of the map."""
        import numpy as np

        characters = np.frombuffer(self.terrain.encode("ascii"), np.uint8)
        return np.isin(characters, [ord(character) for character in FREE]).reshape(self.height, self.width)


@functools.lru_cache(maxsize=16)
def read_map(file: InputFile) -> GridMap:
    """Read a map; once in a process, however many tasks name it.

    Raises:
        ValueError: it is no such map; the text has the line and the problem.
    """
    try:
        return _parse(file.text)
    except _Malformed as error:
        line, problem = error.args
        raise ValueError(f"a map in the MovingAI format; {file.name}, line {line}: {problem}") from None


@functools.lru_cache(maxsize=4)
def read_grid(file: InputFile, moves: int) -> Grid:
    """The grid of a map, with 4 or 8 moves; made once in a process.

    A diagonal move needs both cells beside it free: corners are not cut.
    """
    import numpy as np

    free = read_map(file).find_free()
    height, width = free.shape
    framed = np.pad(free, 1)
    exits = np.zeros((height, width), np.uint8)

    def neighbours(dx: int, dy: int) -> NDArray[np.bool_]:
        return framed[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    for bit, move in enumerate(MOVES[:moves]):
        is_open = free & neighbours(move.dx, move.dy)
        if move.is_diagonal:
            is_open &= neighbours(move.dx, 0) & neighbours(0, move.dy)
        exits |= is_open.astype(np.uint8) << bit
    return Grid(width, height, moves, exits.tobytes(), int(free.sum()))


class _Malformed(Exception):
    """A map file is wrong; the arguments are the number of a line and the problem there."""


def _parse(text: str) -> GridMap:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    header = _parse_header(lines)
    width, height = header["width"], header["height"]
    if width * height > CELLS_LIMIT:
        raise _Malformed(len(header) + 2, f"{width} x {height} cells; at most {CELLS_LIMIT} can be read")
    first = len(header) + 3  # the header, `type`, `map`, and lines are counted from 1
    rows = lines[first - 1 :]
    for line, row in enumerate(rows[:height], start=first):
        if len(row) != width:
            raise _Malformed(line, f"{len(row)} characters in a row of a map of width {width}")
        if unknown := set(row) - set(FREE + OBSTACLES):
            column = min(row.index(character) for character in unknown)
            known = " ".join(FREE + OBSTACLES)
            raise _Malformed(line, f"unknown terrain {show(row[column])} in column {column + 1}; known are {known}")
    if len(rows) < height:
        raise _Malformed(len(lines) + 1, f"the map ends after {len(rows)} of {height} rows")
    if len(rows) > height:
        raise _Malformed(first + height, f"a row too many in a map of height {height}")
    return GridMap(width, height, "".join(rows))


def _parse_header(lines: list[str]) -> dict[str, int]:
    """Width and height: `type octile`, `height H` and `width W`, in any order, and then `map`."""
    sizes: dict[str, int] = {}
    typed = False
    for line, text in enumerate(lines[:4], start=1):
        words = text.split()
        if words == ["map"] and typed and len(sizes) == 2:
            return sizes
        if words == ["type", "octile"] and not typed:
            typed = True
        elif len(words) == 2 and words[0] in {"height", "width"} - sizes.keys() and _is_size(words[1]):
            sizes[words[0]] = int(words[1])
        else:
            missing = [f"`{word} N`" for word in ("height", "width") if word not in sizes]
            expected = [*([] if typed else ["`type octile`"]), *missing] or ["`map`"]
            raise _Malformed(line, f"found {show(text)}; expected {' or '.join(expected)}")
    raise _Malformed(len(lines) + 1, "the file ends before the map")


def _is_size(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 9 and int(word) > 0
