"""Pictures of a grid and a path through it, made of characters."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from dfz_ray.domains.maze.grid import Cell, Grid
from dfz_ray.domains.maze.map_file import GridMap
from dfz_ray.domains.maze.path import walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Canvas = NDArray[np.uint8]

WALL, FREE, ON_PATH, START, GOAL = b"# .SG"


def draw_maze(grid: Grid, start: Cell, goal: Cell, path: str | None) -> str:
    """A generated maze: a character for each cell and one for each wall or passage, 2 * width + 1 in a line."""
    import numpy as np

    exits = np.frombuffer(grid.exits, np.uint8).reshape(grid.height, grid.width)
    canvas = np.full((2 * grid.height + 1, 2 * grid.width + 1), WALL, np.uint8)
    canvas[1::2, 1::2] = FREE
    canvas[1::2, 2::2][(exits >> 2 & 1).astype(bool)] = FREE
    canvas[2::2, 1::2][(exits >> 3 & 1).astype(bool)] = FREE
    spots = [(2 * x + 1, 2 * y + 1) for x, y in walk(start, path or "")]
    for (x, y), (next_x, next_y) in pairwise(spots):
        canvas[y, x] = canvas[(y + next_y) // 2, (x + next_x) // 2] = ON_PATH
    return _finish(canvas, spots[0], (2 * goal[0] + 1, 2 * goal[1] + 1))


def draw_map(grid_map: GridMap, start: Cell, goal: Cell, path: str | None) -> str:
    """A map: a character for each cell."""
    import numpy as np

    canvas = np.where(grid_map.find_free(), np.uint8(FREE), np.uint8(WALL))
    for x, y in walk(start, path or ""):
        canvas[y, x] = ON_PATH
    return _finish(canvas, start, goal)


def _finish(canvas: Canvas, start: Cell, goal: Cell) -> str:
    canvas[start[1], start[0]] = START
    canvas[goal[1], goal[0]] = GOAL
    return "\n".join(row.tobytes().decode("ascii") for row in canvas)
