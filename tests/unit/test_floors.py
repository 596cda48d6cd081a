"""The floors: what each part may import, and what stays unloaded until it is needed."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.extras import NEEDS_TORCH

import dfz_ray
from dfz_ray.cli import COMMANDS
from dfz_ray.domains.registry import BUILT_IN

ROOT = Path(__file__).parents[2]
HEAVY = ("ray", "torch", "torchvision", "qiskit", "qiskit_aer", "numpy", "scipy", "sklearn", "pydantic", "yaml", "rich")
PURE = ("specs", "domains", "execution", "engine", "protocol", "journal", "simulation")
"""The floors below the one that knows Ray."""

WITHOUT_RAY = """
import importlib, sys

class NoRay:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ImportError("ray is not to be had here")

sys.meta_path.insert(0, NoRay())
try:
    import ray
except ImportError:
    pass
else:
    sys.exit("the blocker does not block")
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def run_python(program: str, *arguments: str) -> str:
    """What a program prints that runs in a fresh process, and must say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def loaded_by(statement: str) -> set[str]:
    """The packages that are loaded after a statement, by their first names."""
    program = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(run_python(program).splitlines()[-1].split())


def modules_of(package: str) -> list[str]:
    """All modules of a package, itself included."""
    name = f"dfz_ray.{package}"
    found = pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}.")
    return [name, *(module.name for module in found)]


@pytest.mark.parametrize(
    ("statement", "unloaded"),
    [
        ("import dfz_ray", HEAVY),
        ("import dfz_ray.errors", HEAVY),
        ("from dfz_ray import InvalidInput, TasksFailed, DfzError", HEAVY),
        ("import dfz_ray.cli", HEAVY),
        ("from dfz_ray import domain, run", ("ray", "torch", "qiskit", "scipy", "rich")),
        ("from dfz_ray import DFZExecutor", ("ray", "torch", "qiskit", "scipy", "rich")),
        ("import dfz_ray.engine.engine", ("ray", "sqlite3", "numpy", "pydantic")),
        (
            "import dfz_ray.cli.scale, dfz_ray.cli.run, dfz_ray.cli.results, dfz_ray.cli.domains",
            ("ray", "torch", "qiskit", "scipy"),
        ),
    ],
)
def test_what_is_not_loaded(statement: str, unloaded: tuple[str, ...]) -> None:
    """Importing a part of dfz_ray loads nothing heavy that is not needed yet."""
    assert not loaded_by(statement) & set(unloaded)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], []])
def test_help_is_quick(arguments: list[str]) -> None:
    """`dfz --help` answers at once: it loads neither Ray nor what checks a batch."""
    statement = (
        "import contextlib, io\nfrom dfz_ray.cli import call, group\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    call(group, {arguments!r})"
    )
    assert not loaded_by(statement) & set(HEAVY)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_needs_no_ray(name: str) -> None:
    """The help of a command is told without loading Ray or a domain's libraries."""
    statement = f"from dfz_ray.cli import call, group\nassert call(group, [{name!r}, '--help']) == 0"
    assert not loaded_by(statement) & {"ray", "torch", "qiskit", "scipy"}


@NEEDS_TORCH
def test_the_lower_floors_load_without_ray() -> None:
    """Every module of a pure floor loads where there is no Ray."""
    names = [name for package in PURE for name in modules_of(package)]
    assert len(names) > 40

    loaded = run_python(WITHOUT_RAY, *names).split()

    assert "dfz_ray" in loaded
    assert "ray" not in loaded


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=NEEDS_TORCH if name == "image_classification" else ()) for name in BUILT_IN],
)
def test_a_domain_is_checked_without_its_libraries(name: str) -> None:
    """Finding a built-in domain, and drawing and checking a task of it, loads none of the libraries that compute it."""
    statement = (
        "from dfz_ray.domains.registry import REGISTRY\nfrom dfz_ray.specs.batch_checks import read_batch\n"
        f"read_batch({{'generate': [{{'domain': {name!r}, 'count': 3}}]}}, REGISTRY)"
    )
    assert not loaded_by(statement) & {"ray", "torch", "torchvision", "qiskit", "qiskit_aer", "sklearn"}


def test_the_engine_knows_no_outside_world() -> None:
    """The engine decides without clock, randomness, files or domains: it loads none of our other parts but specs."""
    program = (
        "import sys\nimport dfz_ray.engine.engine\nprint(*(name for name in sys.modules if name.startswith('dfz_ray')))"
    )
    parts = {name.split(".")[1] for name in run_python(program).split() if "." in name}

    assert parts <= {"engine", "specs", "errors"}


def test_public_names() -> None:
    """Each public name is there, is shown by dir() and by tab, and is documented."""
    assert dfz_ray.__all__ == sorted(set(dfz_ray.__all__))
    assert set(dfz_ray.__all__) <= set(dir(dfz_ray))
    for name in dfz_ray.__all__:
        value = getattr(dfz_ray, name)
        assert value.__doc__
        assert getattr(dfz_ray, name) is value
        assert value.__name__ == name


def test_names_that_are_not_there() -> None:
    """A name that dfz_ray does not have is an AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="module 'dfz_ray' has no attribute 'no_such_name'"):
        dfz_ray.no_such_name  # noqa: B018
    with pytest.raises(ImportError, match="no_such_name"):
        exec("from dfz_ray import no_such_name")  # noqa: S102 - our own text


def test_names_are_loaded_when_they_are_used() -> None:
    """A public name is shown before it is loaded, and loads nothing but its own home."""
    program = (
        "import sys, dfz_ray\n"
        "assert set(dfz_ray.__all__) <= set(dir(dfz_ray))\n"
        "print([name for name in dfz_ray.__all__ if name in vars(dfz_ray)])\n"
        "dfz_ray.InvalidInput\n"
        "print([name for name in dfz_ray.__all__ if name in vars(dfz_ray)])\n"
        "print(sorted(name for name in sys.modules if name.startswith('dfz_ray')))"
    )
    assert run_python(program).splitlines() == ["[]", "['InvalidInput']", "['dfz_ray', 'dfz_ray.errors']"]


def test_the_floors_hold() -> None:
    """Each floor imports only those below it, and only the runtime imports Ray."""
    linter = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
