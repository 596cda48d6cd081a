"""Mazes made at random: a spanning tree of passages, and a share of the walls that are left."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfz_ray.domains.maze.grid import STRAIGHT, Grid, sparse_matrix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RIGHT, DOWN = 0, 1


@dataclass(frozen=True)
class Walls:
    """All walls between the cells of a rectangle, in the order of a sparse matrix's rows."""

    above_left: NDArray[np.int32]
    """Number of the cell to the left of the wall, or above it."""
    beyond: NDArray[np.int32]
    """Number of the cell on its other side."""
    side: NDArray[np.int8]
    """RIGHT or DOWN."""
    row_starts: NDArray[np.int32]
    """Position of each cell's first wall."""


@functools.lru_cache(maxsize=4)
def find_walls(width: int, height: int) -> Walls:
    """All walls between the cells of a rectangle."""
    import numpy as np

    there = np.ones((height, width, 2), bool)
    there[:, -1, RIGHT] = False
    there[-1, :, DOWN] = False
    flat = there.reshape(-1, 2)
    cells, side = np.nonzero(flat)
    beyond = cells + np.where(side == RIGHT, 1, width)
    row_starts = np.zeros(width * height + 1, np.int32)
    np.cumsum(flat.sum(axis=1), out=row_starts[1:])
    return Walls(cells.astype(np.int32), beyond.astype(np.int32), side.astype(np.int8), row_starts)


def generate(width: int, height: int, complexity: float, seed: int) -> Grid:
    """A maze in which every cell can be reached.

    The passages are a minimum spanning tree under random weights (Kruskal's maze), and further ones in place of walls
    that are removed. `complexity` is the share of the walls outside the tree that are kept; at 1 there is one way
    between any two cells.
    """
    import numpy as np
    from scipy.sparse.csgraph import minimum_spanning_tree

    walls = find_walls(width, height)
    size = width * height
    rng = np.random.default_rng(seed)
    weights = 1.0 - rng.random(len(walls.beyond))  # never 0, which would mean no edge
    tree = minimum_spanning_tree(sparse_matrix(weights, walls.beyond, walls.row_starts))

    passages = np.zeros((2, size), bool)
    cells = np.repeat(np.arange(size), np.diff(tree.indptr))
    passages[np.where(tree.indices - cells == 1, RIGHT, DOWN), cells] = True
    others = np.flatnonzero(~passages[walls.side, walls.above_left])
    opened = rng.permutation(others)[: len(others) - round(complexity * len(others))]
    passages[walls.side[opened], walls.above_left[opened]] = True
    is_connected = len(tree.indices) == size - 1  # a forest that has so many edges is one tree
    return Grid(width, height, STRAIGHT, _exits(passages, width), size, is_connected)


def _exits(passages: NDArray[np.bool_], width: int) -> bytes:
    import numpy as np

    right, down = passages.astype(np.uint8)
    exits: NDArray[np.uint8] = right << 2 | down << 3
    exits[1:] |= right[:-1] << 1
    exits[width:] |= down[:-width]
    return exits.tobytes()
