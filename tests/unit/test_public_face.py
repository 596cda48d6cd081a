"""What a user sees of the package before anything runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import dfz_ray
from dfz_ray import domain

ROOT = Path(__file__).parents[2]


@domain("typed coin")
def coin(flips: int = 10, *, bias: float = 0.5, seed: int = 0) -> int:
    """Flip a coin."""
    return flips


def test_the_names_of_the_package() -> None:
    """`dir` shows the public names, the version and nothing else, and each of them is there."""
    assert dir(dfz_ray) == sorted([*dfz_ray.__all__, "__version__"])
    assert {"CallFailed", "CallTimedOut", "ClusterUnusable", "RemoteTraceback"} <= set(dfz_ray.__all__)
    assert {"InfrastructureLost", "RunFolderRefused"} <= set(dfz_ray.__all__)
    assert all(getattr(dfz_ray, name) is not None for name in dir(dfz_ray))


def test_there_is_one_version() -> None:
    """The version of the distribution is that of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "dfz_ray.__version__"}
    assert dfz_ray.__version__[0].isdigit()


def test_a_task_of_a_function() -> None:
    """`task` takes what the function takes, also by position."""
    expected = {"domain": "typed coin", "parameters": {"flips": 3, "bias": 0.1}}
    assert coin.task(3, bias=0.1) == expected
    assert coin.task(flips=3, bias=0.1) == expected
    with pytest.raises(TypeError, match="two values for flips"):
        coin.task(3, flips=3)  # type: ignore[misc]
    with pytest.raises(TypeError, match="at most 1"):
        coin.task(3, 4)  # type: ignore[call-arg]
    assert repr(coin).startswith("<domain 'typed coin': coin(flips")
