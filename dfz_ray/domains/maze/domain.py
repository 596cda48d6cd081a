"""The domain maze: make a maze, or read a map, search a path through it, and prove the path before it is returned."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from dfz_ray.domains.domain import Domain, Pair, Parameters
from dfz_ray.domains.maze.generation import generate
from dfz_ray.domains.maze.grid import STRAIGHT, Cell, Grid, straight_distance
from dfz_ray.domains.maze.map_file import FREE, read_grid, read_map
from dfz_ray.domains.maze.path import PROMISES, check_path, path_length
from dfz_ray.domains.maze.picture import draw_map, draw_maze
from dfz_ray.domains.maze.search import ALGORITHMS, Search
from dfz_ray.specs.input_file import FileShelf, InputFile

SIZE = 20
COMPLEXITY = 0.9
SMALLEST, LARGEST = 2, 512
DRAWN_SIZES = (96, 240)
KIND_SIZES = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sides of squares; the work about doubles from one to the next."""


class MazeParameters(Parameters):
    """A maze of size_x by size_y cells, or a map of yours, and how to search a path through it."""

    # Parameters of a generated maze that are not given are None, not their defaults: beside a map they must stay None
    # when the parameters are written and read again.
    map_file: InputFile | None = Field(
        None, description="A grid map in the MovingAI format (.map), instead of a generated maze."
    )
    size_x: int | None = Field(
        None, ge=SMALLEST, le=LARGEST, description=f"Cells in a row of a generated maze; {SIZE} where not given."
    )
    size_y: int | None = Field(
        None, ge=SMALLEST, le=LARGEST, description=f"Cells in a column of a generated maze; {SIZE} where not given."
    )
    complexity: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the walls that are kept beyond what leaves every cell reachable: at 1 there is one way "
        f"between any two cells, at 0 there are no walls; {COMPLEXITY} where not given.",
    )
    moves: Literal[4, 8] | None = Field(
        None,
        description="4: up, left, right, down. 8: also diagonals, of cost sqrt(2), without cutting corners; only on a "
        "map, and there the default.",
    )
    start: Pair | None = Field(
        None,
        validate_default=True,
        description="Where the path begins, [x, y] (column and row, from 0 at the top left); needed with map_file, "
        "else the top left.",
    )
    goal: Pair | None = Field(
        None,
        validate_default=True,
        description="Where the path ends, [x, y]; needed with map_file, else the bottom right.",
    )
    algorithm: Literal["bfs", "dijkstra", "astar", "dfs"] = Field(
        "astar", description="bfs finds the fewest moves, dijkstra and astar the least cost, dfs any path."
    )
    visual_patterns: bool = Field(False, description="Whether the result has a picture of the maze with the path.")

    @field_validator("map_file")
    @classmethod
    def _is_a_map(cls, file: InputFile | None) -> InputFile | None:
        if file is not None:
            read_map(file)
        return file

    @field_validator("size_x", "size_y", "complexity")
    @classmethod
    def _excludes_map(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("map_file") is not None:
            raise ValueError("nothing, as map_file is given: a map has its own size and walls")
        return value

    @field_validator("moves")
    @classmethod
    def _diagonals_need_a_map(cls, moves: int | None, info: ValidationInfo) -> int | None:
        if moves == 8 and "map_file" in info.data and info.data["map_file"] is None:
            raise ValueError("4: in a generated maze the walls stand between the cells, which leaves no diagonals")
        return moves

    @field_validator("start", "goal")
    @classmethod
    def _is_free(cls, cell: Cell | None, info: ValidationInfo) -> Cell | None:
        if not {"map_file", "size_x", "size_y"} <= info.data.keys():
            return cell  # these are wrong themselves, so the cell can't be judged
        file: InputFile | None = info.data["map_file"]
        if file is None:
            width, height = info.data["size_x"] or SIZE, info.data["size_y"] or SIZE
        else:
            grid_map = read_map(file)
            width, height = grid_map.width, grid_map.height
            if cell is None:
                raise PydanticKnownError("missing")
        if cell is None:
            return None
        if not (0 <= cell[0] < width and 0 <= cell[1] < height):
            raise ValueError(f"a cell [x, y] with x from 0 to {width - 1} and y from 0 to {height - 1}")
        if file is not None and (terrain := grid_map.terrain_at(cell)) not in FREE:
            known = ", ".join(FREE)
            raise ValueError(f"a passable cell (one of {known}); {file.name} has {terrain!r} there")
        return cell

    @property
    def size(self) -> tuple[int, int]:
        """Cells in a row and in a column."""
        if self.map_file is None:
            return self.size_x or SIZE, self.size_y or SIZE
        grid_map = read_map(self.map_file)
        return grid_map.width, grid_map.height


RESULTS = {
    "main_score": "1 is the best that can be reached. All algorithms: length of a shortest path over that of the one"
    " found. dijkstra and astar always reach 1, and bfs does with 4 moves; bfs with 8 moves and dfs promise no shortest"
    " path. 1 too if it is proved that there is no path, which is then the right answer (see solved)",
    "solved": "true if a path was found, false if it is proved that there is none",
    "path": "moves as letters: U, L, R, D, and diagonals by the keys of a numeric keypad, 7, 9, 1, 3; null if there is"
    " none",
    "path_length": "cost of the moves; a diagonal one costs 1.414",
    "moves_count": "number of moves",
    "shortest_length": "cost of a shortest path, by scipy's dijkstra",
    "detour": "path_length over the straight distance",
    "completion_time_s": "seconds of the search alone",
    "explored_cells": "cells that the search has looked at",
    "explored_cells_ratio": "share of the free cells",
    "dead_ends": "cells with one way out",
    "cycles": "number of independent cycles",
    "start": "first cell, [x, y]",
    "goal": "last cell, [x, y]",
    "algorithm": "the search",
    "picture": "the maze and the path as text, where visual_patterns asks for it",
    "details": "map, width, height, moves (4 or 8), free_cells, regions, promise of the search, checked_with",
}
"""Key of a result to meaning."""


def compute(parameters: MazeParameters, seed: int, threads: int) -> dict[str, Any]:
    """Search a path, and measure the maze, the path and the search.

    Returns:
        The keys that RESULTS describes.

    Raises:
        WrongPath: the proof of the path failed.
    """
    size = parameters.size
    start = parameters.start or (0, 0)
    goal = parameters.goal or (size[0] - 1, size[1] - 1)
    grid = _make_grid(parameters, seed)
    began = time.perf_counter()
    search = ALGORITHMS[parameters.algorithm](grid, start, goal)
    completion_time_s = time.perf_counter() - began
    shortest = check_path(grid, start, goal, search.path, PROMISES[parameters.algorithm])
    result = {
        **_measure_path(grid, start, goal, search, shortest),
        "completion_time_s": completion_time_s,
        "explored_cells": search.explored,
        "explored_cells_ratio": search.explored / grid.free_cells,
        "dead_ends": grid.dead_ends,
        "cycles": grid.cycles,
        "path": search.path,
        "start": list(start),
        "goal": list(goal),
        "algorithm": parameters.algorithm,
        "details": {
            "map": parameters.map_file.name if parameters.map_file else None,
            "width": grid.width,
            "height": grid.height,
            "moves": grid.moves,
            "free_cells": grid.free_cells,
            "regions": grid.regions,
            "promise": PROMISES[parameters.algorithm],
            "checked_with": "scipy.sparse.csgraph.dijkstra",
        },
    }
    if parameters.visual_patterns:
        result["picture"] = (
            draw_map(read_map(parameters.map_file), start, goal, search.path)
            if parameters.map_file
            else draw_maze(grid, start, goal, search.path)
        )
    return result


def _make_grid(parameters: MazeParameters, seed: int) -> Grid:
    if parameters.map_file is not None:
        return read_grid(parameters.map_file, parameters.moves or 8)
    complexity = COMPLEXITY if parameters.complexity is None else parameters.complexity
    return generate(*parameters.size, complexity, seed)


def _measure_path(grid: Grid, start: Cell, goal: Cell, search: Search, shortest: float | None) -> dict[str, Any]:
    if search.path is None or shortest is None:
        nothing = dict.fromkeys(("path_length", "moves_count", "shortest_length", "detour"))
        return {"main_score": 1.0, "solved": False, **nothing}  # check_path has proved it
    length = path_length(search.path)
    straight = straight_distance(grid.moves, start, goal)
    return {
        "main_score": shortest / length if length else 1.0,
        "solved": True,
        "path_length": length,
        "moves_count": len(search.path),
        "shortest_length": shortest,
        "detour": length / straight if straight else 1.0,
    }


def kind(parameters: MazeParameters) -> str:
    """The algorithm and, roughly, the size, or the name of the map."""
    if parameters.map_file is not None:
        return f"map {parameters.map_file.name} {parameters.algorithm}"
    cells = parameters.size[0] * parameters.size[1]
    side = next(side for side in KIND_SIZES if cells <= side * side)
    return f"{parameters.algorithm} up to {side}x{side}"


def draw(rng: random.Random, given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a task of 5 to 60 ms that are valid beside the given ones.

    On a map, start and goal are drawn so that a path connects them; a relative `map_file` is looked for in the working
    directory.
    """
    drawn: dict[str, Any] = {"algorithm": rng.choice(list(ALGORITHMS))}
    if given.get("map_file") is None:
        drawn["size_x"] = _draw_size(rng, given, 0)
        drawn["size_y"] = _draw_size(rng, given, 1)
        drawn["complexity"] = round(rng.uniform(0.5, 1), 2)
    elif given.get("start") is None or given.get("goal") is None:
        drawn |= _draw_ends(rng, given)
    return drawn


def _draw_size(rng: random.Random, given: Mapping[str, Any], axis: int) -> int:
    """A size that holds the given cells."""
    smallest, largest = DRAWN_SIZES
    if "start" not in given and "goal" not in given:
        return rng.randint(smallest, largest)
    places = [place for name in ("start", "goal") if (place := _place(given.get(name)))]
    smallest = min(LARGEST, max([smallest, *(place[axis] + 1 for place in places)]))
    return rng.randint(smallest, max(smallest, largest))


def _draw_ends(rng: random.Random, given: Mapping[str, Any]) -> dict[str, Any]:
    """Start and goal in one region, without those that are given; nothing if the map can't be read here."""
    import numpy as np

    file = given["map_file"]
    try:
        file = file if isinstance(file, InputFile) else FileShelf().read(file)
        grid_map = read_map(file)
    except ValueError:
        return {}
    grid = read_grid(file, STRAIGHT)  # diagonals connect no more
    free = np.flatnonzero(grid_map.find_free())
    known = _place(given.get("start")) or _place(given.get("goal"))
    if not len(free) or (known is not None and not grid_map.contains(known)):
        return {}
    anchor = free[rng.randrange(len(free))] if known is None else grid.number(known)
    labels = grid.labels
    region = free[labels[free] == labels[anchor]]
    if not len(region):
        return {}
    ends = {name: int(region[rng.randrange(len(region))]) for name in ("start", "goal")}
    return {name: [cell % grid.width, cell // grid.width] for name, cell in ends.items() if given.get(name) is None}


def _place(value: Any) -> Cell | None:
    """A given value as a cell, or None where it is none."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(part) is int for part in value):
        return value[0], value[1]
    return None


DOMAIN = Domain(
    name="maze",
    version=2,
    parameters=MazeParameters,
    compute=compute,
    kind=kind,
    volatile=frozenset({"completion_time_s"}),
    results=RESULTS,
    draw=draw,
    libraries=("scipy", "scipy.sparse.csgraph"),  # the second takes time to import
    summary="A maze, made at random or read from a map, and a path through it that is proved to be right.",
    repeatable=True,
)
