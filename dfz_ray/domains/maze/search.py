"""Four algorithms that search a path; each counts the cells that it explores."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dfz_ray.domains.maze.grid import MOVES, SQRT2, STRAIGHT, Cell, Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = 255
"""Marks the start in a record of moves."""


@dataclass(frozen=True)
class Search:
    """The outcome of a search."""

    path: str | None
    """The moves from start to goal, by their letters; None if the goal can't be reached."""
    explored: int
    """The number of cells that were explored, start and goal among them; each counts once."""


def bfs(grid: Grid, start: Cell, goal: Cell) -> Search:
    """Breadth first: a path of the fewest moves."""
    first, last = grid.number(start), grid.number(goal)
    exits, steps = grid.exits, grid.steps
    came_by = bytearray(len(exits))
    came_by[first] = ROOT
    queue = [first]
    explored = 0
    for cell in queue:
        explored += 1
        if cell == last:
            break
        for code, offset, _ in steps[exits[cell]]:
            neighbour = cell + offset
            if not came_by[neighbour]:
                came_by[neighbour] = code
                queue.append(neighbour)
    return Search(_trace(grid, came_by, last), explored)


def dfs(grid: Grid, start: Cell, goal: Cell) -> Search:
    """Depth first: the first path that is found, however long."""
    first, last = grid.number(start), grid.number(goal)
    exits, steps = grid.exits, grid.steps
    came_by = bytearray(len(exits))
    stack = [(first, ROOT)]
    explored = 0
    while stack:
        cell, by = stack.pop()
        if came_by[cell]:
            continue
        came_by[cell] = by
        explored += 1
        if cell == last:
            break
        for code, offset, _ in steps[exits[cell]]:
            if not came_by[cell + offset]:
                stack.append((cell + offset, code))
    return Search(_trace(grid, came_by, last), explored)


def dijkstra(grid: Grid, start: Cell, goal: Cell) -> Search:
    """Cheapest first: a path of the least cost."""
    return _best_first(grid, grid.number(start), grid.number(goal), [0] * len(grid.exits))


def astar(grid: Grid, start: Cell, goal: Cell) -> Search:
    """Most promising first: a path of the least cost.

    The estimate is the cost of the way without obstacles (Manhattan or octile distance): admissible and consistent, so
    that no cell is explored twice.
    """
    return _best_first(grid, grid.number(start), grid.number(goal), _estimates(grid, goal).tolist())


ALGORITHMS: dict[str, Callable[[Grid, Cell, Cell], Search]] = {
    "bfs": bfs,
    "dijkstra": dijkstra,
    "astar": astar,
    "dfs": dfs,
}


def _best_first(grid: Grid, first: int, last: int, estimates: Sequence[float]) -> Search:
    exits, steps = grid.exits, grid.steps
    came_by = bytearray(len(exits))
    is_explored = bytearray(len(exits))
    costs = [math.inf] * len(exits)
    costs[first] = 0
    came_by[first] = ROOT
    frontier = [(estimates[first], estimates[first], first)]  # of equal sums, the cell nearer to the goal goes first
    explored = 0
    while frontier:
        cell = heapq.heappop(frontier)[2]
        if is_explored[cell]:
            continue
        is_explored[cell] = 1
        explored += 1
        if cell == last:
            break
        so_far = costs[cell]
        for code, offset, step_cost in steps[exits[cell]]:
            neighbour = cell + offset
            cost = so_far + step_cost
            if cost < costs[neighbour]:
                costs[neighbour] = cost
                came_by[neighbour] = code
                estimate = estimates[neighbour]
                heapq.heappush(frontier, (cost + estimate, estimate, neighbour))
    return Search(_trace(grid, came_by, last), explored)


def _estimates(grid: Grid, goal: Cell) -> NDArray[Any]:
    import numpy as np

    dx = np.abs(np.arange(grid.width) - goal[0])
    dy = np.abs(np.arange(grid.height) - goal[1])[:, None]
    if grid.moves == STRAIGHT:
        return (dx + dy).ravel()
    shorter = np.minimum(dx, dy)
    return (np.maximum(dx, dy) - shorter + shorter * SQRT2).ravel()


def _trace(grid: Grid, came_by: bytearray, last: int) -> str | None:
    """The letters of the moves that led to a cell; None where none did."""
    if not came_by[last]:
        return None
    offsets = [move.dy * grid.width + move.dx for move in MOVES]
    letters = []
    cell = last
    while (code := came_by[cell]) != ROOT:
        letters.append(MOVES[code - 1].letter)
        cell -= offsets[code - 1]
    return "".join(reversed(letters))
