"""The maze domain: what is generated, what is read, and what is found and proved."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from support.amount import amount

from dfz_ray.domains.maze.domain import DOMAIN, MazeParameters
from dfz_ray.domains.maze.generation import generate
from dfz_ray.domains.maze.grid import MOVES
from dfz_ray.domains.maze.map_file import read_grid
from dfz_ray.domains.maze.path import WrongPath, check_path, path_length
from dfz_ray.specs.encoding import decode, digest, encode
from dfz_ray.specs.input_file import FileShelf
from dfz_ray.specs.problems import find_problems

MAPS = Path(__file__).parents[5] / "shared/data/maps"
ALGORITHMS = ("bfs", "dijkstra", "astar", "dfs")
SHORTEST = ("bfs", "dijkstra", "astar")
"""What finds the shortest path in a generated maze."""
ASIDE = {"U": (0, -1), "D": (0, 1), "L": (-1, 0), "R": (1, 0), "7": (-1, -1), "9": (1, -1), "1": (-1, 1), "3": (1, 1)}


def movingai(*rows: str) -> str:
    """The text of a map file."""
    return f"type octile\nheight {len(rows)}\nwidth {len(rows[0])}\nmap\n" + "\n".join(rows) + "\n"


def shelf_with(folder: Path, text: str) -> FileShelf:
    """A shelf over a folder that holds the map `my.map`."""
    (folder / "my.map").write_bytes(text.encode())
    return FileShelf(folder)


def solve(parameters: dict[str, Any], seed: int = 0, shelf: FileShelf | None = None) -> dict[str, Any]:
    """What the domain finds for a task's parameters as a batch file would give them."""
    checked = MazeParameters.model_validate(parameters, context=shelf)
    result: dict[str, Any] = DOMAIN.compute(checked, seed, 1)
    return result


def refusals(parameters: dict[str, Any], shelf: FileShelf | None = None) -> list[str]:
    """All that is said against parameters, in the words that their writer reads."""
    with pytest.raises(ValidationError) as caught:
        MazeParameters.model_validate(parameters, context=shelf)
    return [str(problem) for problem in find_problems(caught.value, MazeParameters, "parameters")]


def neighbours(rows: list[str], x: int, y: int, moves: int, cut_corners: bool = False) -> Iterator[tuple[int, int]]:
    """The cells that can be entered from a free one, by the rules as a person would write them down."""

    def free(x: int, y: int) -> bool:  # the cell moved from is free, so that a straight move asks nothing more
        return 0 <= y < len(rows) and 0 <= x < len(rows[0]) and rows[y][x] == "."

    for dx, dy in list(ASIDE.values())[:moves]:
        if free(x + dx, y + dy) and (cut_corners or (free(x + dx, y) and free(x, y + dy))):
            yield x + dx, y + dy


def distances(rows: list[str], start: list[int], moves: int, cut_corners: bool = False) -> Any:
    """The least cost from a cell to every other, as an array [y, x]."""
    width, height = len(rows[0]), len(rows)
    costs = np.zeros((width * height, width * height))
    for y in range(height):
        for x in range(width):
            for to_x, to_y in neighbours(rows, x, y, moves, cut_corners) if rows[y][x] == "." else ():
                costs[y * width + x, to_y * width + to_x] = math.hypot(to_x - x, to_y - y)
    return dijkstra(csr_array(costs), indices=[start[1] * width + start[0]]).reshape(height, width)


def cells_of(result: dict[str, Any]) -> list[tuple[int, int]]:
    """The cells that a result's path goes through."""
    cells = [tuple(result["start"])]
    for letter in result["path"]:
        cells.append((cells[-1][0] + ASIDE[letter][0], cells[-1][1] + ASIDE[letter][1]))
    return cells


def seeded(seed: int) -> random.Random:
    """A source of numbers that repeats."""
    return random.Random(seed)  # noqa: S311 - no secret is drawn


def scenarios(name: str) -> list[tuple[dict[str, Any], float]]:
    """The tasks of a .scen file, each with its published length."""
    if not (MAPS / name).exists():
        pytest.skip(f"{MAPS / name} is not here")
    rows = [line.split() for line in (MAPS / name).read_text().splitlines()[1:]]
    return [
        (
            {"map_file": row[1], "start": [int(row[4]), int(row[5])], "goal": [int(row[6]), int(row[7])]},
            float(row[8]),
        )
        for row in rows
    ]


@st.composite
def maps(draw: st.DrawFn) -> list[str]:
    """The rows of a map of up to 8 by 8 cells, of which at least one is free."""
    width, height = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    density, source = draw(st.sampled_from([0.0, 0.2, 0.4])), seeded(draw(st.integers(0, 2**32)))
    rows = ["".join("@" if source.random() < density else "." for _ in range(width)) for _ in range(height)]
    return rows if "." in "".join(rows) else ["." * width, *rows[1:]]


class TestPublishedMaps:
    @pytest.mark.parametrize(
        ("name", "algorithm"),
        [
            pytest.param("maze-128-128-1-random-1.scen", "astar", marks=pytest.mark.long),
            pytest.param("maze-128-128-1-random-1.scen", "dijkstra", marks=pytest.mark.long),
            ("maze-32-32-2-random-1.scen", "astar"),
            ("maze-32-32-2-random-1.scen", "dijkstra"),
        ],
    )
    def test_every_row_has_its_published_length(self, name: str, algorithm: str) -> None:
        """The shortest paths of the MovingAI benchmark's rows have the published lengths."""
        shelf = FileShelf(MAPS)
        for parameters, published in scenarios(name):
            result = solve({**parameters, "algorithm": algorithm}, shelf=shelf)
            assert result["path_length"] == pytest.approx(published, abs=1e-6)
            assert result["main_score"] == 1

    def test_corners_are_not_cut(self) -> None:
        """With corners cut, some rows would have lengths other than the published ones."""
        some = scenarios("maze-32-32-2-random-1.scen")[:20]
        rows = (MAPS / "maze-32-32-2.map").read_text().splitlines()[4:]
        differing = 0
        for parameters, published in some:
            x, y = parameters["goal"]
            assert distances(rows, parameters["start"], 8)[y, x] == pytest.approx(published, abs=1e-6)
            differing += distances(rows, parameters["start"], 8, cut_corners=True)[y, x] < published - 1e-6
        assert differing > 0

    @pytest.mark.parametrize("algorithm", ["bfs", "dfs"])
    def test_the_others_say_how_far_they_are_from_the_best(self, algorithm: str) -> None:
        """bfs and dfs, which don't promise the least cost, report it beside their own path's."""
        shelf = FileShelf(MAPS)
        for parameters, published in scenarios("maze-32-32-2-random-1.scen"):
            result = solve({**parameters, "algorithm": algorithm}, shelf=shelf)
            assert result["shortest_length"] == pytest.approx(published, abs=1e-6)
            assert result["main_score"] == pytest.approx(published / result["path_length"])

    def test_moves_are_four_where_asked(self) -> None:
        """On a map with 4 moves, paths are straight and no shorter than with 8."""
        shelf = FileShelf(MAPS)
        for parameters, published in scenarios("maze-32-32-2-random-1.scen")[:20]:
            result = solve({**parameters, "moves": 4}, shelf=shelf)
            assert set(result["path"]) <= set("UDLR")
            assert result["path_length"] == result["moves_count"] >= published - 1e-6


class TestGeneratedMazes:
    @given(
        st.integers(2, 30), st.integers(2, 30), st.integers(0, 2**63 - 1), st.data()
    )  # fmt: skip
    @settings(max_examples=40, deadline=None)
    def test_a_perfect_maze_has_one_path(self, size_x: int, size_y: int, seed: int, data: st.DataObject) -> None:
        """At complexity 1 there is one path between two cells, so that all algorithms find the same."""
        ends = {
            name: [data.draw(st.integers(0, size_x - 1)), data.draw(st.integers(0, size_y - 1))]
            for name in ("start", "goal")
        }
        maze = {"size_x": size_x, "size_y": size_y, "complexity": 1, **ends}
        results = [solve({**maze, "algorithm": name}, seed) for name in ALGORITHMS]
        assert len({result["path"] for result in results}) == 1
        assert {result["main_score"] for result in results} == {1}
        assert {(result["cycles"], result["details"]["regions"]) for result in results} == {(0, 1)}

    @pytest.mark.parametrize("algorithm", SHORTEST)
    def test_without_walls_the_way_is_straight(self, algorithm: str) -> None:
        """At complexity 0 no wall is left: the path has the Manhattan distance, and each square is a cycle."""
        result = solve({"size_x": 12, "size_y": 7, "complexity": 0.0, "algorithm": algorithm})
        assert result["path_length"] == result["moves_count"] == 11 + 6
        assert result["detour"] == 1
        assert result["cycles"] == 11 * 6
        assert result["dead_ends"] == 0

    def test_complexity_is_a_share_of_walls(self) -> None:
        """Complexity is the share that is kept of the walls which a perfect maze could do without."""
        for complexity in (0.1, 0.5, 0.9):
            result = solve({"size_x": 20, "size_y": 20, "complexity": complexity})
            assert result["cycles"] == pytest.approx((1 - complexity) * 19 * 19, abs=1)

    @pytest.mark.parametrize("moves", [4, 8])
    def test_measures_are_those_of_counting(self, moves: int, tmp_path: Path) -> None:
        """Regions, dead ends and cycles of mazes and maps are what counting cell by cell gives."""
        rng = np.random.default_rng(moves)
        grids = [generate(9, 6, complexity, seed) for complexity in (0.0, 0.6, 1.0) for seed in range(5)]
        for number in range(10):
            rows = ["".join(row) for row in rng.choice(list("..@"), (7, 11))]
            (tmp_path / f"{number}.map").write_text(movingai(*rows))
            grids.append(read_grid(FileShelf(tmp_path).read(f"{number}.map"), moves))
        for grid in grids:
            opened = [[exits >> bit & 1 for bit in range(grid.moves)] for exits in grid.exits]
            regions, passages, dead_ends = grid.free_cells, 0, 0
            region = list(range(len(opened)))
            for cell, is_open in enumerate(opened):
                passages += sum(is_open[:4])
                dead_ends += sum(is_open[:4]) == 1
                for move, there in zip(MOVES, is_open, strict=False):
                    beyond = cell + move.dy * grid.width + move.dx
                    if there and region[cell] != region[beyond]:
                        merged, gone = region[cell], region[beyond]
                        region = [merged if one == gone else one for one in region]
                        regions -= 1
            found = (grid.regions, grid.dead_ends, grid.cycles)
            assert found == (regions, dead_ends, passages // 2 - grid.free_cells + regions)

    def test_a_seed_is_a_maze(self) -> None:
        """The same seed gives the same result; another seed gives another maze."""
        maze = {"complexity": 0.95, "visual_patterns": True}
        first, again, other = solve(maze, 1), solve(maze, 1), solve(maze, 2)
        assert digest(first, DOMAIN.volatile) == digest(again, DOMAIN.volatile)
        assert first["picture"] != other["picture"]

    def test_other_cells_than_the_corners(self) -> None:
        """In a generated maze start and goal are opposite corners where they are not given."""
        result = solve({"size_x": 9, "size_y": 5})
        assert (result["start"], result["goal"]) == ([0, 0], [8, 4])
        result = solve({"size_x": 9, "size_y": 5, "goal": [3, 2]})
        assert (result["start"], result["goal"]) == ([0, 0], [3, 2])
        assert cells_of(result)[-1] == (3, 2)

    def test_start_is_goal(self) -> None:
        """A path to where one stands has no moves, explores one cell, and is the best."""
        for algorithm in ALGORITHMS:
            result = solve({"start": [3, 3], "goal": [3, 3], "algorithm": algorithm})
            assert (result["path"], result["path_length"], result["explored_cells"]) == ("", 0, 1)
            assert (result["main_score"], result["detour"], result["solved"]) == (1, 1, True)

    def test_old_keys_are_there(self) -> None:
        """The keys of the old system are in the result, that of the time with its unit; and it is plain data."""
        result = solve({"size_x": 10, "size_y": 10, "complexity": 0.3, "visual_patterns": True})
        old = {"main_score", "path_length", "completion_time_s", "explored_cells_ratio", "details"}
        assert old <= result.keys()
        assert result["completion_time_s"] > 0
        assert result.keys() == DOMAIN.results.keys()
        assert decode(encode(result)) == result


class TestSearches:
    @given(maps(), st.sampled_from([4, 8]), st.data())
    @settings(max_examples=amount(150), deadline=None)
    def test_paths_on_any_map(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[str], moves: int, data: st.DataObject
    ) -> None:
        """On any map every path is legal, as good as its algorithm promises, and missing only where there is none."""
        free = [[x, y] for y, row in enumerate(rows) for x, terrain in enumerate(row) if terrain == "."]
        start, goal = data.draw(st.sampled_from(free)), data.draw(st.sampled_from(free))
        shelf = shelf_with(tmp_path_factory.getbasetemp(), movingai(*rows))
        least = distances(rows, start, moves)[goal[1], goal[0]]
        found = {}
        for algorithm in ALGORITHMS:
            task = {"map_file": "my.map", "start": start, "goal": goal, "moves": moves, "algorithm": algorithm}
            result = found[algorithm] = solve(task, shelf=shelf)
            assert result["solved"] == math.isfinite(least)
            assert result["explored_cells"] <= len(free)
            if result["solved"]:
                cells = cells_of(result)
                assert cells[-1] == tuple(goal)
                for (x, y), following in pairwise(cells):
                    assert following in neighbours(rows, x, y, moves)
                assert len(set(cells)) == len(cells) <= result["explored_cells"]
                assert result["path_length"] == pytest.approx(sum(map(math.dist, cells, cells[1:])))
                assert result["shortest_length"] == pytest.approx(least)
                assert result["detour"] >= 1
        if math.isfinite(least):
            assert found["astar"]["path_length"] == found["dijkstra"]["path_length"] == pytest.approx(least)
            assert found["astar"]["explored_cells"] <= found["dijkstra"]["explored_cells"]
            assert found["bfs"]["moves_count"] == min(result["moves_count"] for result in found.values())

    @pytest.mark.parametrize("moves", [4, 8])
    def test_the_estimate_never_costs_the_best_path(self, tmp_path: Path, moves: int) -> None:
        """In wide maps with scattered obstacles, where a bad estimate leads astray, A* still finds the least cost."""
        for seed in range(40):
            rng = seeded(seed)
            rows = ["".join("@" if rng.random() < 0.25 else "." for _ in range(24)) for _ in range(24)]
            start, goal = rng.sample([[x, y] for y in range(24) for x in range(24) if rows[y][x] == "."], 2)
            task = {"map_file": "my.map", "start": start, "goal": goal, "moves": moves}
            result = solve(task, shelf=shelf_with(tmp_path, movingai(*rows)))
            least = distances(rows, start, moves)[goal[1], goal[0]]
            assert (result["path_length"] or math.inf) == pytest.approx(least)

    def test_bfs_with_diagonals_may_be_longer(self, tmp_path: Path) -> None:
        """With diagonals bfs finds the fewest moves, which may cost more than the best path: its score says so."""
        shelf = shelf_with(tmp_path, movingai("@......", "..@....", ".......", ".......", "@..@..@"))
        task = {"map_file": "my.map", "start": [1, 1], "goal": [6, 3]}
        bfs, astar = (solve({**task, "algorithm": name}, shelf=shelf) for name in ("bfs", "astar"))
        assert bfs["moves_count"] == astar["moves_count"] == 6
        assert bfs["path_length"] == pytest.approx(3 + 3 * math.sqrt(2))
        assert bfs["shortest_length"] == pytest.approx(astar["path_length"]) == 5 + math.sqrt(2)
        assert bfs["main_score"] == pytest.approx((5 + math.sqrt(2)) / (3 + 3 * math.sqrt(2)))
        assert bfs["details"]["promise"] == "fewest moves"

    def test_an_unreachable_goal_is_a_result(self, tmp_path: Path) -> None:
        """A goal that can't be reached is the right answer: unsolved, the best score, and no lengths."""
        shelf = shelf_with(tmp_path, movingai("..@.", "..@.", "@@@."))
        for algorithm in ALGORITHMS:
            task = {"map_file": "my.map", "start": [0, 0], "goal": [3, 1], "algorithm": algorithm}
            result = solve({**task, "visual_patterns": True}, shelf=shelf)
            assert (result["solved"], result["main_score"]) == (False, 1)
            missing = ("path", "path_length", "moves_count", "shortest_length", "detour")
            assert [result[key] for key in missing] == [None] * len(missing)
            assert result["explored_cells"] == 4
            assert result["explored_cells_ratio"] == 4 / 7
            assert result["details"]["regions"] == 2
            assert result["picture"] == "S # \n  #G\n### "

    def test_a_better_estimate_explores_less(self) -> None:
        """A* explores fewer cells than Dijkstra's algorithm in an open maze."""
        maze = {"size_x": 40, "size_y": 40, "complexity": 0.5}
        astar, dijkstra = (solve({**maze, "algorithm": name}, 3) for name in ("astar", "dijkstra"))
        assert astar["path_length"] == dijkstra["path_length"]
        assert astar["explored_cells"] < dijkstra["explored_cells"] / 2

    @pytest.mark.parametrize(
        ("path", "promise", "message"),
        [
            ("RRDDL", "least cost", "ends at"),
            ("U", "any path", "moves U at (0, 0); that is not open"),
            ("RLRRDD", "least cost", "has length 6.0; expected 4.0"),
            ("RLRRDD", "fewest moves", "has length 6.0; expected 4.0"),
            (None, "any path", "no path from (0, 0) to (2, 2) was found; expected one of length 4"),
        ],
    )
    def test_a_wrong_path_is_found_out(self, path: str | None, promise: str, message: str) -> None:
        """A path that is none, or worse than promised, never becomes a result."""
        grid = generate(3, 3, 0, 0)
        with pytest.raises(WrongPath) as caught:
            check_path(grid, (0, 0), (2, 2), path, promise)
        assert message in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - made here
        assert check_path(grid, (0, 0), (2, 2), "RLRRDD", "any path") == path_length("RRDD")

    def test_too_many_moves_are_found_out(self, tmp_path: Path) -> None:
        """With diagonals, a path of more than the fewest moves is no result of bfs."""
        grid = read_grid(shelf_with(tmp_path, movingai("...", "...")).read("my.map"), 8)
        with pytest.raises(WrongPath, match="has 3 moves; expected 2"):
            check_path(grid, (0, 0), (2, 1), "RDR", "fewest moves")

    def test_a_path_through_a_wall_is_found_out(self) -> None:
        """A path whose end is right but which goes through a wall never becomes a result."""
        grid = generate(2, 2, 1, 0)
        walled = [path for path in ("RD", "DR") if not is_open(grid, path)]
        assert len(walled) == 1  # a perfect maze of four cells has one wall
        with pytest.raises(WrongPath, match="that is not open"):
            check_path(grid, (0, 0), (1, 1), walled[0], "any path")


def is_open(grid: Any, path: str) -> bool:
    """Whether a path from the first cell to the last one is proved."""
    try:
        return check_path(grid, (0, 0), (grid.width - 1, grid.height - 1), path, "any path") is not None
    except WrongPath:
        return False


class TestPictures:
    @given(st.integers(2, 12), st.integers(2, 12), st.sampled_from(ALGORITHMS), st.integers(0, 2**32))
    @settings(max_examples=25, deadline=None)
    def test_the_path_is_in_the_picture(self, size_x: int, size_y: int, algorithm: str, seed: int) -> None:
        """The picture of a maze shows the path's cells and the passages between them, and nothing else, as path."""
        maze = {"size_x": size_x, "size_y": size_y, "complexity": 0.8, "algorithm": algorithm}
        result = solve({**maze, "visual_patterns": True}, seed)
        lines = result["picture"].split("\n")
        assert [len(line) for line in lines] == [2 * size_x + 1] * (2 * size_y + 1)
        spots = [(1, 1)]
        for letter in result["path"]:
            for _ in range(2):
                spots.append((spots[-1][0] + ASIDE[letter][0], spots[-1][1] + ASIDE[letter][1]))
        assert "".join(lines[y][x] for x, y in spots) == "S" + "." * (2 * result["moves_count"] - 1) + "G"
        assert result["picture"].count(".") == 2 * result["moves_count"] - 1
        assert set(lines[0] + lines[-1] + "".join(line[0] + line[-1] for line in lines)) == {"#"}

    def test_a_map_is_drawn_cell_by_cell(self, tmp_path: Path) -> None:
        """The picture of a map has a character for each cell."""
        shelf = shelf_with(tmp_path, movingai("...", ".@.", "T@."))
        result = solve({"map_file": "my.map", "start": [0, 1], "goal": [2, 2], "visual_patterns": True}, shelf=shelf)
        assert result["picture"] == "...\nS#.\n##G"
        assert result["path"] == "URRDD"
        assert "picture" not in solve({})


class TestInput:
    @pytest.mark.parametrize(
        ("parameters", "said"),
        [
            ({"size_x": 1}, "parameters.size_x: found 1; expected 2 to 512"),
            ({"size_y": 513}, "parameters.size_y: found 513; expected 2 to 512"),
            ({"size_x": 20.0}, "parameters.size_x: found 20.0; expected a valid integer"),
            ({"size_x": True}, "parameters.size_x: found True; expected a valid integer"),
            ({"complexity": 1.5}, "parameters.complexity: found 1.5; expected 0 to 1"),
            ({"complexity": math.nan}, "parameters.complexity: found nan"),
            ({"algorithm": "dijkstras"}, "did you mean 'dijkstra'?"),
            ({"algoritm": "bfs"}, "parameters.algoritm: found an unknown key"),
            ({"visual_patterns": "yes"}, "parameters.visual_patterns: found 'yes'"),
            ({"moves": 8}, "parameters.moves: found 8; expected 4: in a generated maze"),
            ({"moves": 6}, "parameters.moves: found 6; expected 4 or 8"),
            ({"start": [20, 0]}, "parameters.start: found [20, 0]; expected a cell [x, y] with x from 0 to 19"),
            ({"goal": [0, -1]}, "parameters.goal: found [0, -1]; expected a cell [x, y]"),
            ({"size_x": 5, "goal": [5, 5]}, "with x from 0 to 4 and y from 0 to 19"),
            ({"start": [1.0, 2]}, "parameters.start[0]: found 1.0; expected a valid integer"),
            ({"start": ["1", 2]}, "parameters.start[0]: found '1'; expected a valid integer"),
            ({"start": [1, True]}, "parameters.start[1]: found True; expected a valid integer"),
            ({"start": "1,2"}, "parameters.start: found '1,2'"),
            ({"start": [1, 2, 3]}, "parameters.start"),
            ({"map_file": "nowhere.map"}, "parameters.map_file: found 'nowhere.map'; expected a file that can be read"),
            ({"map_file": 7}, "parameters.map_file: found 7; expected the path of a file"),
        ],
    )
    def test_refused(self, tmp_path: Path, parameters: dict[str, Any], said: str) -> None:
        """What can't be is refused when it is checked, with the field, what was found and what was expected."""
        found = refusals(parameters, FileShelf(tmp_path))
        assert len(found) == 1
        assert said in found[0]

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"start": [2, 0]}, "parameters.start: found [2, 0]; expected a passable cell"),
            ({"goal": [3, 0]}, "my.map has 'W' there"),
            ({"goal": [0, 2]}, "expected a cell [x, y] with x from 0 to 3 and y from 0 to 1"),
            ({"size_x": 20}, "parameters.size_x: found 20; expected nothing, as map_file is given"),
            ({"complexity": 0.5}, "parameters.complexity: found 0.5; expected nothing, as map_file is given"),
            ({"start": None}, "parameters.start: found nothing; expected Where the path begins"),
        ],
    )
    def test_refused_with_a_map(self, tmp_path: Path, more: dict[str, Any], said: str) -> None:
        """A start in a wall, a goal outside, or the size of a maze beside a map is refused when it is checked."""
        shelf = shelf_with(tmp_path, movingai("..@W", "G.S."))
        found = refusals({"map_file": "my.map", "start": [0, 0], "goal": [3, 1], **more}, shelf)
        assert len(found) == 1
        assert said in found[0]

    def test_a_map_needs_both_ends(self, tmp_path: Path) -> None:
        """With a map and no start or goal, both are asked for."""
        found = refusals({"map_file": "my.map"}, shelf_with(tmp_path, movingai("..")))
        assert [line.partition(":")[0] for line in found] == ["parameters.start", "parameters.goal"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "line 1: the file ends before the map"),
            ("version 1\n", "line 1: found 'version 1'; expected `type octile` or `height N` or `width N`"),
            ("type tile\n", "line 1: found 'type tile'; expected `type octile`"),
            ("type octile\nheight two\n", "line 2: found 'height two'; expected `height N` or `width N`"),
            ("type octile\nheight 2\nheight 2\n", "line 3: found 'height 2'; expected `width N`"),
            ("type octile\nheight 2\nwidth 0\nmap\n", "line 3: found 'width 0'; expected `width N`"),
            ("type octile\nheight 2\nwidth 2\n..\n..\n", "line 4: found '..'; expected `map`"),
            ("type octile\nheight 2\nwidth 2\nmap\n..\n.\n", "line 6: 1 characters in a row of a map of width 2"),
            ("type octile\nheight 2\nwidth 2\nmap\n..\n.x\n", "line 6: unknown terrain 'x' in column 2"),
            ("type octile\nheight 2\nwidth 2\nmap\n..\n", "line 6: the map ends after 1 of 2 rows"),
            ("type octile\nheight 1\nwidth 2\nmap\n..\n..\n", "line 6: a row too many in a map of height 1"),
            ("type octile\nheight 9999\nwidth 9999\nmap\n..\n", "line 4: 9999 x 9999 cells; at most 4194304"),
        ],
    )
    def test_malformed_maps(self, tmp_path: Path, text: str, said: str) -> None:
        """A malformed map is refused when it is checked, with its name and the line."""
        found = refusals({"map_file": "my.map", "start": [0, 0], "goal": [1, 1]}, shelf_with(tmp_path, text))
        assert len(found) == 1
        assert found[0].startswith(
            "parameters.map_file: found 'my.map'; expected a map in the MovingAI format; my.map, "
        )
        assert said in found[0]

    def test_a_map_that_is_no_text(self, tmp_path: Path) -> None:
        """A file that is no text is refused as a map."""
        (tmp_path / "my.map").write_bytes(b"\xff\xfe\x00")
        found = refusals({"map_file": "my.map"}, FileShelf(tmp_path))
        assert len(found) == 1
        assert found[0].endswith("found 'my.map'; expected a text in UTF-8; byte 0 of my.map is 0xff")

    def test_maps_as_people_have_them(self, tmp_path: Path) -> None:
        """Line ends of Windows, a missing last one, empty last lines and another order of the header are accepted."""
        task = {"map_file": "my.map", "start": [0, 0], "goal": [1, 1]}
        for text in (
            "type octile\r\nheight 2\r\nwidth 2\r\nmap\r\n.S\r\n.G\r\n",
            "type octile\nheight 2\nwidth 2\nmap\n.S\n.G",
            "width 2\nheight 2\ntype octile\nmap\n.S\n.G\n\n\n",
        ):
            assert solve(task, shelf=shelf_with(tmp_path, text))["path"] == "3"

    def test_written_and_read_again(self, tmp_path: Path) -> None:
        """Checked parameters, written and read again on a worker, mean the same."""
        shelf = shelf_with(tmp_path, movingai("...", "..."))
        for parameters in ({}, {"map_file": "my.map", "start": [0, 0], "goal": [2, 1]}, {"goal": [3, 4]}):
            checked = MazeParameters.model_validate(parameters, context=shelf)
            assert MazeParameters.model_validate(decode(encode(checked.model_dump())), context=shelf) == checked

    def test_a_changed_map_is_another_map(self, tmp_path: Path) -> None:
        """Maps are known by their content: a file that changed under the same name is read anew."""
        task = {"map_file": "my.map", "start": [0, 0], "goal": [2, 0]}
        assert solve(task, shelf=shelf_with(tmp_path, movingai("...", "...")))["solved"]
        assert not solve(task, shelf=shelf_with(tmp_path, movingai(".@.", ".@.")))["solved"]


class TestDomain:
    def test_light_to_import(self) -> None:
        """Importing the domain loads neither NumPy nor SciPy."""
        code = "import sys, dfz_ray.domains.maze.domain; sys.exit(bool({'numpy', 'scipy'} & sys.modules.keys()))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_every_field_is_described(self) -> None:
        """Every parameter has a description for `dfz domains maze`."""
        assert all(field.description for field in MazeParameters.model_fields.values())

    @given(
        st.integers(0, 2**32),
        st.fixed_dictionaries(
            {},
            optional={
                "size_x": st.integers(5, 20),
                "size_y": st.integers(2, 512),
                "complexity": st.sampled_from([0, 0.1, 0.9, 1]),
                "algorithm": st.sampled_from(ALGORITHMS),
                "visual_patterns": st.booleans(),
                "moves": st.just(4),
            },
        ),
    )
    @settings(deadline=None)
    def test_drawn_parameters_are_valid(self, seed: int, fixed: dict[str, Any]) -> None:
        """Parameters that are drawn are valid together with those that are given."""
        assert DOMAIN.draw is not None
        drawn = DOMAIN.draw(seeded(seed), fixed)
        checked = MazeParameters.model_validate({**drawn, **fixed})
        assert all(getattr(checked, name) == value for name, value in fixed.items())
        assert DOMAIN.kind(checked)

    @given(st.integers(0, 2**32), st.tuples(st.integers(0, 511), st.integers(0, 511)))
    @settings(max_examples=30, deadline=None)
    def test_drawn_sizes_hold_the_given_cells(self, seed: int, place: tuple[int, int]) -> None:
        """A drawn maze is large enough for a given start or goal."""
        assert DOMAIN.draw is not None
        fixed = {"goal": list(place)}
        MazeParameters.model_validate({**DOMAIN.draw(seeded(seed), fixed), **fixed})

    @pytest.mark.parametrize("ends", [{}, {"start": [3, 0]}, {"goal": [0, 1]}, {"start": [0, 0], "goal": [3, 0]}])
    def test_drawn_ends_are_connected(self, tmp_path: Path, ends: dict[str, Any]) -> None:
        """On a given map a drawn start and goal are free cells that a path connects."""
        assert DOMAIN.draw is not None
        shelf = shelf_with(tmp_path, movingai("..@.", "..@.", "@@@."))
        fixed = {"map_file": str(tmp_path / "my.map"), **ends}
        for seed in range(20):
            parameters = {**DOMAIN.draw(seeded(seed), fixed), **fixed}
            assert solve(parameters, shelf=shelf)["solved"] == (len(ends) < 2)

    def test_a_map_that_can_not_be_read_here(self) -> None:
        """Where a given map can't be read, nothing is drawn in its place: checking says what is wrong."""
        assert DOMAIN.draw is not None
        assert DOMAIN.draw(seeded(0), {"map_file": "nowhere.map"}).keys() == {"algorithm"}

    def test_drawing_repeats(self) -> None:
        """The same seed draws the same parameters."""
        assert DOMAIN.draw is not None
        assert DOMAIN.draw(seeded(4), {}) == DOMAIN.draw(seeded(4), {})

    def test_kinds_are_few_and_readable(self, tmp_path: Path) -> None:
        """A kind names the algorithm and a rough size, or the map."""
        shelf = shelf_with(tmp_path, movingai(".."))
        on_map = {"map_file": "my.map", "start": [0, 0], "goal": [1, 0], "algorithm": "bfs"}
        assert DOMAIN.kind(MazeParameters.model_validate(on_map, context=shelf)) == "map my.map bfs"
        assert DOMAIN.kind(MazeParameters()) == "astar up to 24x24"
        sizes = [(x, y) for x in range(2, 513, 15) for y in range(2, 513, 15)] + [(512, 512)]
        assert len({DOMAIN.kind(MazeParameters(size_x=x, size_y=y)) for x, y in sizes}) <= 16
