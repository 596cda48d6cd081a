"""The working directory of a test of the command line, and a small run in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.command_line import EVIL, MODULES
from support.small_run import completed, failed, make_run

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.journal.last_run import remember_run
from dfz_ray.specs.settings import read_settings

MAZES = "tasks: [{domain: maze}]\n"


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a working directory, and domains, of its own, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(REGISTRY, "defined", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mazes.yaml").write_text(MAZES)
    (tmp_path / "elsewhere.yaml").write_text("journal: {runs_folder: else/where}\n")
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)


@pytest.fixture
def run(tmp_path: Path, working_folder: None) -> Path:
    """A run of five tasks, of which two are open; `last` means it."""
    folder = tmp_path / "my run"
    outcomes = [completed(0, {"main_score": 0.25}), failed(1, "exception", f"{EVIL[:-1]}\nmore"), completed(4, EVIL)]
    ids = ["first", "second", f"task{EVIL[:-1]}", "fourth", "fifth"]
    make_run(folder, ids, *outcomes, kind=f"kind{EVIL[:-1]}", batches=["x", "x", "y", "y", "y"]).close()
    remember_run(folder, read_settings(None))
    return folder
