"""RUN on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dfz_ray.journal.last_run import find_run, remember_run
from dfz_ray.specs.settings import read_settings

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize("name", [b"run", b"two words", b" a\n", b"\xff", "Läufe".encode()])
def test_last(name: bytes, tmp_path: Path) -> None:
    """`last` is the run that was begun last, whatever its folder is called and wherever one stands."""
    settings = read_settings({"journal": {"runs_folder": "own/runs"}})
    folder = Path(os.fsdecode(name))

    remember_run(Path("earlier"), settings)
    remember_run(folder, settings)

    assert find_run("last", settings) == tmp_path / folder
    assert find_run("other", settings) == Path("other")


def test_last_is_never_written_through_a_link(tmp_path: Path) -> None:
    """If someone left a link as the pointer to the last run, the pointer replaces it, and its target stays."""
    settings = read_settings({"journal": {"runs_folder": str(tmp_path)}})
    (tmp_path / "precious").write_text("words")
    (tmp_path / ".last").symlink_to(tmp_path / "precious")

    remember_run(tmp_path / "run", settings)

    assert (tmp_path / "precious").read_text() == "words"
    assert find_run("last", settings) == tmp_path / "run"
