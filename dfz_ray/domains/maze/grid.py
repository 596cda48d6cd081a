"""A grid of cells, and the moves that are open between them, as bits and as a graph."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

Cell = tuple[int, int]
"""Column x and row y; (0, 0) is at the top left."""
Step = tuple[int, int, float]
"""A move out of a cell: its code (position in MOVES plus 1), the number that it adds to the cell's, its cost."""


@dataclass(frozen=True)
class Move:
    """One step from a cell to a neighbour."""

    letter: str
    """Its letter in a path."""
    dx: int
    dy: int
    cost: float

    @property
    def is_diagonal(self) -> bool:
        """True if both coordinates change."""
        return self.dx != 0 and self.dy != 0


SQRT2 = math.sqrt(2)
MOVES = (
    Move("U", 0, -1, 1),
    Move("L", -1, 0, 1),
    Move("R", 1, 0, 1),
    Move("D", 0, 1, 1),
    Move("7", -1, -1, SQRT2),
    Move("9", 1, -1, SQRT2),
    Move("1", -1, 1, SQRT2),
    Move("3", 1, 1, SQRT2),
)
"""Up, left, right, down; then the diagonals by the keys of a numeric keypad, 7 9 and 1 3 at its corners."""
STRAIGHT = 4
"""The number of MOVES that are straight; they come first."""


@dataclass(frozen=True)
class Grid:
    """Cells and the moves that are open between them. Cell (x, y) has the number y * width + x."""

    width: int
    height: int
    moves: int
    """4 or 8: the number of MOVES that may be made."""
    exits: bytes
    """A byte for each cell; its bit k is set if MOVES[k] is open. What is open from a to b is open from b to a."""
    free_cells: int
    """The number of cells that are no obstacle."""
    is_connected: bool = False
    """True if moves are known to connect all free cells."""

    def number(self, cell: Cell) -> int:
        """The number of a cell."""
        return cell[1] * self.width + cell[0]

    @property
    def steps(self) -> tuple[tuple[Step, ...], ...]:
        """The moves out of a cell, by the value of its byte in `exits`."""
        return _steps(self.width, self.moves)

    @functools.cached_property
    def graph(self) -> Any:
        """The moves as a sparse matrix of costs (scipy.sparse.csr_array), for scipy.sparse.csgraph."""
        import numpy as np

        exits = np.frombuffer(self.exits, np.uint8)
        is_open = np.unpackbits(exits[:, None], axis=1, count=self.moves, bitorder="little")
        places = np.flatnonzero(is_open)
        cells, taken = places >> self.moves.bit_length() - 1, places & self.moves - 1  # the number of moves is 4 or 8
        offsets, costs = _moves(self.width)
        starts = np.zeros(len(exits) + 1, np.int32)
        np.cumsum(np.frombuffer(self.exits.translate(_EXITS), np.uint8), out=starts[1:])
        return sparse_matrix(costs[taken], (cells + offsets[taken]).astype(np.int32), starts)

    @property
    def labels(self) -> Any:
        """For each cell the number of its region: the cells that moves connect. An obstacle is a region by itself."""
        return self._components[1]

    @property
    def regions(self) -> int:
        """The number of regions of free cells."""
        obstacles = self.width * self.height - self.free_cells
        return 1 if self.is_connected else int(self._components[0]) - obstacles

    @property
    def dead_ends(self) -> int:
        """The number of cells with a single exit (a diagonal needs two straight exits, so it makes no difference)."""
        return self._straight_exits.count(1)

    @property
    def cycles(self) -> int:
        """The number of independent cycles of straight moves: passages - cells + regions (the circuit rank)."""
        exits = sum(number * self._straight_exits.count(number) for number in range(1, STRAIGHT + 1))
        return exits // 2 - self.free_cells + self.regions

    @functools.cached_property
    def _components(self) -> tuple[int, Any]:
        from scipy.sparse.csgraph import connected_components

        found: tuple[int, Any] = connected_components(self.graph, directed=False)
        return found

    @functools.cached_property
    def _straight_exits(self) -> bytes:
        """The number of straight moves that are open in each cell."""
        return self.exits.translate(_STRAIGHT_EXITS)


_EXITS = bytes(exits.bit_count() for exits in range(256))
_STRAIGHT_EXITS = bytes((exits & (1 << STRAIGHT) - 1).bit_count() for exits in range(256))


@functools.lru_cache(maxsize=64)
def _moves(width: int) -> tuple[Any, Any]:
    """For each move the number that it adds to a cell's, and its cost, as arrays."""
    import numpy as np

    return np.array([move.dy * width + move.dx for move in MOVES]), np.array([move.cost for move in MOVES], float)


@functools.lru_cache(maxsize=64)
def _steps(width: int, moves: int) -> tuple[tuple[Step, ...], ...]:
    every = [(code, move.dy * width + move.dx, move.cost) for code, move in enumerate(MOVES[:moves], start=1)]
    return tuple(tuple(step for bit, step in enumerate(every) if exits >> bit & 1) for exits in range(1 << moves))


def sparse_matrix(values: NDArray[Any], columns: NDArray[Any], row_starts: NDArray[Any]) -> Any:
    """A square scipy.sparse.csr_array of parts that fit together.

    Its constructor would check them, which takes longer than to make them where cells are few.
    """
    matrix = copy.copy(_empty_matrix(len(row_starts) - 1))
    matrix.data, matrix.indices, matrix.indptr = values, columns, row_starts
    return matrix


@functools.lru_cache(maxsize=4)
def _empty_matrix(size: int) -> Any:
    from scipy.sparse import csr_array

    return csr_array((size, size))


def straight_distance(moves: int, start: Cell, goal: Cell) -> float:
    """The cost of the way without obstacles: the Manhattan distance with 4 moves, the octile one with 8."""
    dx, dy = abs(start[0] - goal[0]), abs(start[1] - goal[1])
    if moves == STRAIGHT:
        return float(dx + dy)
    return max(dx, dy) - min(dx, dy) + min(dx, dy) * SQRT2
