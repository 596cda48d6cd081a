"""A path through a grid: its cells, its length, and the proof that it is right."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dfz_ray.domains.maze.grid import MOVES, SQRT2, STRAIGHT, Cell, Grid
from dfz_ray.errors import DfzError

PROMISES = {"bfs": "fewest moves", "dijkstra": "least cost", "astar": "least cost", "dfs": "any path"}
"""For each algorithm the way in which its path is the best. With diagonals, the fewest moves may cost more."""
TOLERANCE = 1e-10
"""Relative. Sums of the same costs in another order differ by less; different lengths differ by more."""

_BY_LETTER = {move.letter: (bit, move) for bit, move in enumerate(MOVES)}


class WrongPath(DfzError):
    """A search gave a wrong path, or one that is not as good as promised: a defect of dfz_ray."""


def walk(start: Cell, path: str) -> Iterator[Cell]:
    """The cells of a path in their order, start and goal among them."""
    x, y = start
    yield start
    for letter in path:
        move = _BY_LETTER[letter][1]
        x, y = x + move.dx, y + move.dy
        yield x, y


def path_length(path: str) -> float:
    """The cost of a path's moves."""
    diagonals = sum(path.count(move.letter) for move in MOVES if move.is_diagonal)
    return len(path) - diagonals + diagonals * SQRT2


def check_path(grid: Grid, start: Cell, goal: Cell, path: str | None, promise: str) -> float | None:
    """Prove a path: each move is open, it ends at the goal, and it is as good as promised.

    The best one is found by scipy.sparse.csgraph, which shares no code with the searches. A path that is None claims
    that the goal can't be reached.

    Returns:
        The least cost of any path; None if there is none.

    Raises:
        WrongPath: the proof failed.
    """
    if path is None:
        if math.isfinite(least := _reference(grid, start, goal, math.inf)):
            raise WrongPath(f"no path from {start} to {goal} was found; expected one of length {least:g}")
        return None
    _check_legal(grid, start, goal, path)
    if promise == "fewest moves" and grid.moves == STRAIGHT:
        promise = "least cost"  # the same where every move costs 1
    length = path_length(path)
    least = _reference(grid, start, goal, length)
    if math.isclose(least, length, rel_tol=TOLERANCE):
        least = length
    elif promise == "least cost" or least > length:
        raise WrongPath(f"a path from {start} to {goal} has length {length!r}; expected {least!r}")
    if promise == "fewest moves":
        fewest = _reference(grid, start, goal, len(path), count_moves=True)
        if fewest != len(path):
            raise WrongPath(f"a path from {start} to {goal} has {len(path)} moves; expected {fewest:g}")
    return least if least == length else round(least, 9)  # the order in which scipy adds must not change a digest


def _check_legal(grid: Grid, start: Cell, goal: Cell, path: str) -> None:
    exits = grid.exits
    leads = {letter: (1 << bit, move.dy * grid.width + move.dx) for letter, (bit, move) in _BY_LETTER.items()}
    cell = grid.number(start)
    for letter in path:
        bit, offset = leads[letter]
        if not exits[cell] & bit:
            at = cell % grid.width, cell // grid.width
            raise WrongPath(f"a path from {start} to {goal} moves {letter} at {at}; that is not open")
        cell += offset
    if cell != grid.number(goal):
        end = cell % grid.width, cell // grid.width
        raise WrongPath(f"a path from {start} ends at {end}; expected {goal}")


def _reference(grid: Grid, start: Cell, goal: Cell, at_most: float, count_moves: bool = False) -> float:
    """The least cost of a path, or the fewest moves; infinite if that is more than `at_most`."""
    from scipy.sparse.csgraph import dijkstra

    limit = at_most * (1 + 10 * TOLERANCE)
    distances = dijkstra(grid.graph, indices=[grid.number(start)], unweighted=count_moves, limit=limit)
    return float(distances[0, grid.number(goal)])
