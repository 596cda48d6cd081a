"""A manager that sees other files than its driver is found out before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dfz_ray.driver.shared_files import refuse_unseen
from dfz_ray.errors import ClusterUnusable


def numbers(path: str) -> tuple[int, int] | None:
    """How a process that sees the same files answers."""
    return (os.stat(path).st_dev, os.stat(path).st_ino) if os.path.exists(path) else None


def test_the_same_files_are_accepted(tmp_path: Path) -> None:
    """Also where the folder is yet to be made, and where one folder has two numbers, as a second mount may have."""
    refuse_unseen(tmp_path / "runs" / "new", numbers)
    refuse_unseen(tmp_path / "runs" / "new", lambda path: numbers(path) and (0, 0))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("answer", [None, (0, 0)])
def test_other_files_are_refused(tmp_path: Path, answer: tuple[int, int] | None) -> None:
    """A folder that the manager does not see, or another one at its place; the file that decides is gone afterwards."""
    with pytest.raises(ClusterUnusable, match=f"the run's manager does not see {tmp_path} as this process does"):
        refuse_unseen(tmp_path / "new", lambda path: answer if path == str(tmp_path) else None)
    assert not [*tmp_path.iterdir()]


def test_machines_of_one_image_are_told_apart(tmp_path: Path) -> None:
    """A folder of another machine may have the same device and number, by chance: a new file is not there."""
    with pytest.raises(ClusterUnusable, match="does not see"):
        refuse_unseen(tmp_path / "new", lambda path: numbers(path) if path == str(tmp_path) else None)
