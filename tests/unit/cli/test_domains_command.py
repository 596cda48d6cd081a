"""`dfz domains`, and `--import`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.command_line import dfz, run_program
from support.extras import NEEDS_TORCH

from dfz_ray.cli import EXIT_BAD_INPUT
from dfz_ray.domains.registry import BUILT_IN

pytestmark = pytest.mark.usefixtures("working_folder")


HOSTILE = '''
from typing import Any, Callable
from dfz_ray import domain

@domain("coin[/bold]")
def coin(flips: int = 10, sides: list = ["[red]"], toss: Callable = None, rest: Any = object, share=float("nan")):
    """Toss [bold] a [/nothing] coin."""
'''


def test_domains_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`dfz domains` lists the domains; with a name it lists the domain's parameters and result keys with meanings."""
    assert dfz("domains") == dfz("domains", "maze") == 0

    told = capsys.readouterr().out
    for word in ("image_classification", "maze", "quantum", "size_x", "integer 2 to 512", "astar", "completion_time_s"):
        assert word in told


@NEEDS_TORCH
def test_domains_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints the domains, or the JSON schema of one's parameters, for a program to read."""
    assert dfz("domains", "--json") == dfz("domains", "maze", "--json") == 0

    domains, schema = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["domain"] for one in domains] == sorted(BUILT_IN)
    assert all(one["summary"] and one["missing"] == "" for one in domains)
    assert schema["properties"]["algorithm"]["enum"] == ["bfs", "dijkstra", "astar", "dfs"]


def test_a_domain_that_can_hardly_be_shown(tmp_path: Path) -> None:
    """Whatever a user's domain is called and takes as defaults, it can be shown, as a table and as JSON."""
    (tmp_path / "hostile.py").write_text(HOSTILE)

    code, out, err, _ = run_program("domains", "coin[/bold]", "--import", "hostile.py")
    json_code, json_out, json_err, _ = run_program("domains", "coin[/bold]", "--import", "hostile.py", "--json")

    assert (code, err, json_code, json_err) == (0, "", 0, "")
    assert "coin[/bold]: Toss [bold] a [/nothing] coin." in out
    assert "['[red]']" in out
    properties = json.loads(json_out)["properties"]
    assert properties["flips"]["default"] == 10
    assert properties["share"]["default"] == "nan"
    assert properties.keys() == {"flips", "sides", "toss", "rest", "share"}


def test_a_module_from_the_working_directory() -> None:
    """`--import` takes a module that lies here, as a name or as a file, and knows a file that it has imported."""
    code, out, err, _ = run_program("domains", "coin", "--import", "coins", "--import", "coins.py")

    assert (code, err) == (0, "")
    assert "Toss a coin." in out
    assert "flips" in out


def test_a_module_that_fails_is_forgotten() -> None:
    """A module that can't be imported is not half there afterwards."""
    assert dfz("domains", "--import", "raising.py") == EXIT_BAD_INPUT
    assert "raising" not in sys.modules
