"""The registry knows built-in domains, those that packages offer, and the user's own."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dfz_ray import InvalidInput, domain
from dfz_ray.domains.registry import BUILT_IN, ENTRY_POINTS, REGISTRY


@pytest.fixture(autouse=True)
def _own_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test defines is forgotten when it ends."""
    monkeypatch.setattr(REGISTRY, "defined", {})


def toss(flips: int) -> int:
    return flips


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_names_are_taken(name: str) -> None:
    """No domain of the user's can take the place of a built-in one."""
    with pytest.raises(InvalidInput, match=f"found '{name}'; expected a name that no built-in domain has"):
        domain(name)(toss)


def test_a_domain_may_be_defined_again() -> None:
    """Running a notebook's cell again replaces the domain that it defines."""
    domain("own")(toss)
    again = domain("own")(lambda flips: flips)

    assert REGISTRY.get("own") is again.domain
    assert REGISTRY.names().count("own") == 1


def test_a_built_in_domain_travels_by_name() -> None:
    """A built-in domain is sent as its name: workers have it themselves."""
    found = REGISTRY.get("maze")

    assert pickle.loads(pickle.dumps(found.compute)) is found.compute  # noqa: S301 - we wrote it


PACKAGE = """
from dfz_ray import domain
from dfz_ray.domains.domain import Domain

@domain("coin")
def coin(flips: int = 10):
    "Toss a coin."
    return {"heads": flips}

COIN = coin.domain
NOTHING = 3
"""
BROKEN = "import a_module_that_nobody_has"
OFFERED = {
    "coin": "coins:coin",
    "other": "coins:COIN",
    "nothing": "coins:NOTHING",
    "missing": "coins:WHAT",
    "broken": "broken_coins:COIN",
    "maze": "coins:COIN",
}
ASK = """
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import DfzError
from dfz_ray.specs.batch_checks import read_batch

print(",".join(REGISTRY.names()))
print(read_batch([{"domain": "coin"}], REGISTRY).tasks[0].kind)
print(REGISTRY.get("maze").compute.__module__)
for name in ("other", "nothing", "missing", "broken"):
    try:
        REGISTRY.get(name)
    except DfzError as error:
        print(error)
import sys
from dfz_ray.cli import main
main(["domains"])
"""


def test_installed_domains(tmp_path: Path) -> None:
    """A package offers domains by an entry point; one that can't be loaded is told by name and hinders no other."""
    (tmp_path / "coins.py").write_text(PACKAGE)
    (tmp_path / "broken_coins.py").write_text(BROKEN)
    info = tmp_path / "coins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coins\nVersion: 1.0\n")
    offers = "\n".join(f"{name} = {target}" for name, target in OFFERED.items())
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{offers}\n")

    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(tmp_path), "COLUMNS": "400"},
    )

    names, kind, maze, *told = asked.stdout.splitlines()
    assert names.split(",") == sorted({*BUILT_IN, *OFFERED})
    assert kind == "coin"
    assert maze == "dfz_ray.domains.maze.domain", "no package can take the place of a built-in domain"
    assert told[:4] == [
        "the entry point 'other' in group dfz_ray.domains is the Domain 'coin': coins:COIN",
        "the entry point 'nothing' in group dfz_ray.domains is no Domain: coins:NOTHING",
        "domain 'missing' can't be loaded from coins:WHAT: AttributeError: module 'coins' has no attribute 'WHAT'",
        "domain 'broken' can't be loaded from broken_coins:COIN: ModuleNotFoundError: No module named"
        " 'a_module_that_nobody_has'",
    ]
    table = textwrap.dedent("\n".join(told[4:]))
    assert "Toss a coin." in table
    assert "no attribute 'WHAT'" in table
    assert asked.stderr == ""
