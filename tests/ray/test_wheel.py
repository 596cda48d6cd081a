"""The wheel: what `python -m build` makes works where the source tree is not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.long

COINS = """
from dfz_ray import domain

@domain("coin")
def coin(flips: int = 10, *, seed: int) -> dict:
    return {"heads": seed % (flips + 1)}
"""


def succeed(*command: object, cwd: Path, **variables: str) -> str:
    """Run a program without anything of the source tree in its environment; returns its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_", "DFZ_"))}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment | variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by way of the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel in it; its dependencies are the ones of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    succeed(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    purelib = succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # Appended to sys.path, without what .pth files there name: so the source tree of an editable install is left out.
    Path(purelib, "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    found = succeed(python, "-c", "import dfz_ray; print(dfz_ray.__file__)", cwd=folder).strip()
    assert found.startswith(purelib)
    return python


def test_the_wheel_holds_all_that_is_read(wheel: Path) -> None:
    """The wheel has the SQL, the page's template, the marker of types, every example and the license, and no tests."""
    names = set(zipfile.ZipFile(wheel).namelist())
    examples = {f"dfz_ray/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    assert {"dfz_ray/py.typed", "dfz_ray/journal/schema.sql", "dfz_ray/scaling/report.html.j2"} | examples <= names
    assert any(name.endswith("/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"dfz_ray"}
    sources = {str(path.relative_to(ROOT)) for path in ROOT.glob("dfz_ray/**/*.py")}
    assert {name for name in names if name.endswith(".py")} == sources


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    """Its metadata name the license, the Pythons and the extras."""
    (place,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA")]
    metadata = importlib.metadata.PathDistribution(zipfile.Path(wheel, f"{place.rsplit('/', 1)[0]}/")).metadata
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"quantum", "image", "all"} <= set(metadata.get_all("Provides-Extra") or [])
    versions = {text.rsplit(" ")[-1] for text in metadata.get_all("Classifier") or [] if "Python :: 3." in text}
    assert versions == {"3.11", "3.12", "3.13"}


def test_a_batch_runs_from_the_wheel(python: Path, tmp_path: Path) -> None:
    """Installed, `dfz` writes the examples and runs them, runs a domain of the user's, and draws a study."""
    dfz = python.parent / "dfz"
    (tmp_path / "coins.py").write_text(COINS)
    (tmp_path / "coins.yaml").write_text("generate: [{domain: coin, count: 200, parameters: {flips: 3}}]\n")

    succeed(dfz, "examples", cwd=tmp_path)
    sorting = json.loads(succeed(dfz, "run", "configs/sorting.yaml", "--address", "local", "--json", cwd=tmp_path))
    audit = succeed(dfz, "audit", "last", cwd=tmp_path)
    command = (dfz, "run", "coins.yaml", "--import", "coins.py", "--address", "local", "--json")
    coins: dict[str, Any] = json.loads(succeed(*command, cwd=tmp_path))
    study = ("--domain", "sorting", "--count", "4", "--workers", "1", "--repeats", "1", "--output", "study")
    succeed(dfz, "scale", *study, "--address", "local", cwd=tmp_path)

    assert sorting["counts"]["completed"] == sum(sorting["counts"].values()) == 103
    assert "103 completed" in audit
    assert coins["counts"]["completed"] == 200
    assert {path.name for path in (tmp_path / "study").iterdir()} >= {"summary.json", "report.html", "scaling.png"}


def test_type_checkers_see_the_types(python: Path, tmp_path: Path) -> None:
    """A type checker reads the types of the installed package: a wrong argument is an error."""
    (tmp_path / "user.py").write_text('from dfz_ray import run\n\nrun("batch.yaml", max_workers=["many"])\n')
    command = [sys.executable, "-m", "mypy", "--python-executable", str(python), "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'Argument "max_workers" to "run"' in done.stdout
