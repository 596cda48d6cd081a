"""A grid of cells, and the moves that are open between them, as bits and as a graph."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bits = NDArray[np.bool_]

Cell = tuple[int, int]
"""Column x and row y; (0, 0) is at the top left."""
Step = tuple[int, int, float]
"""A move out of a cell: its code (position in MOVES plus 1), what it adds to the cell's number, its cost."""


@dataclass(frozen=True)
class Move:
    """One step from a cell to a neighbour."""

    letter: str
    """How a path spells it."""
    dx: int
    dy: int
    cost: float

    @property
    def is_diagonal(self) -> bool:
        """Whether both coordinates change."""
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
"""How many of MOVES are straight; they come first."""


@dataclass(frozen=True)
class Grid:
    """Cells and the moves that are open between them. Cell (x, y) has the number y * width + x."""

    width: int
    height: int
    moves: int
    """4 or 8: how many of MOVES there are."""
    exits: bytes
    """For each cell a byte, whose bit k says that MOVES[k] is open. What is open from a to b is open from b to a."""
    free_cells: int
    """How many cells are no obstacle."""

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
        from scipy.sparse import csr_array

        moves = MOVES[: self.moves]
        size = self.width * self.height
        cells, taken = np.nonzero(self._bits)
        offsets = np.array([move.dy * self.width + move.dx for move in moves])
        starts = np.zeros(size + 1, np.int32)
        np.cumsum(self._bits.sum(axis=1), out=starts[1:])
        costs = np.array([move.cost for move in moves], float)[taken]
        return csr_array((costs, (cells + offsets[taken]).astype(np.int32), starts), shape=(size, size))

    @functools.cached_property
    def regions(self) -> tuple[int, Any]:
        """How many regions there are that no move connects, and for each cell the number of its region."""
        from scipy.sparse.csgraph import connected_components

        count, labels = connected_components(self.graph, directed=False)
        obstacles = self.width * self.height - self.free_cells  # to scipy each is a region of its own
        return int(count) - obstacles, labels

    @functools.cached_property
    def dead_ends(self) -> int:
        """How many cells have a single exit (a diagonal needs two straight ones, so it makes no difference)."""
        return int((self._bits[:, :STRAIGHT].sum(axis=1) == 1).sum())

    @functools.cached_property
    def cycles(self) -> int:
        """How many cycles of straight moves are independent: passages - cells + regions (the circuit rank)."""
        passages = int(self._bits[:, :STRAIGHT].sum()) // 2
        return passages - self.free_cells + self.regions[0]

    @functools.cached_property
    def _bits(self) -> Bits:
        import numpy as np

        exits = np.frombuffer(self.exits, np.uint8)
        return np.unpackbits(exits[:, None], axis=1, count=self.moves, bitorder="little").view(bool)


@functools.lru_cache(maxsize=64)
def _steps(width: int, moves: int) -> tuple[tuple[Step, ...], ...]:
    every = [(code, move.dy * width + move.dx, move.cost) for code, move in enumerate(MOVES[:moves], start=1)]
    return tuple(tuple(step for bit, step in enumerate(every) if exits >> bit & 1) for exits in range(1 << moves))


def straight_distance(moves: int, start: Cell, goal: Cell) -> float:
    """What the way would cost if nothing stood in it: the Manhattan distance with 4 moves, the octile one with 8."""
    dx, dy = abs(start[0] - goal[0]), abs(start[1] - goal[1])
    if moves == STRAIGHT:
        return float(dx + dy)
    return max(dx, dy) - min(dx, dy) + min(dx, dy) * SQRT2
