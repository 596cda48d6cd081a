"""A manager that sees other files than its driver is found out before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfz_ray.errors import ClusterUnusable
from dfz_ray.journal.folder import RunFolder
from dfz_ray.journal.landmark import Landmark, set_landmark


def test_the_same_files_are_accepted(tmp_path: Path) -> None:
    """Also where the folder is yet to be made; the file that decides is gone before anything else is written."""
    for folder in (tmp_path / "runs" / "new", tmp_path):
        with set_landmark(folder) as landmark:
            assert [*tmp_path.iterdir()] == [Path(landmark.file)]
            landmark.take()
            assert not [*tmp_path.iterdir()]


def test_a_landmark_that_a_killed_driver_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """A run can still be begun in that folder."""
    with set_landmark(tmp_path) as landmark:
        RunFolder(tmp_path).make()
        assert Path(landmark.file).exists()


def test_a_folder_that_nobody_can_write_to_is_known_by_its_number() -> None:
    """Nothing can be made in /proc: the folder's device and number decide."""
    with set_landmark(Path("/proc/new")) as landmark:
        assert (landmark.folder, landmark.file) == ("/proc", "")
        landmark.take()
        with pytest.raises(ClusterUnusable, match="does not see /proc as this process does"):
            landmark._replace(status=(0, 0)).take()


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A new file is not there, although a folder of another machine may have the same device and number, by chance."""
    of_another = tmp_path / "elsewhere"
    of_another.mkdir()
    with set_landmark(tmp_path / "new") as landmark:
        other = landmark._replace(file=str(of_another / Path(landmark.file).name))
        with pytest.raises(ClusterUnusable, match=f"the run's manager does not see {tmp_path} as this process does"):
            other.take()
    assert [*tmp_path.iterdir()] == [of_another]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Of a driver in another container, whose folder can't be written to."""
    with pytest.raises(ClusterUnusable, match="does not see"):
        Landmark(str(tmp_path / "of another container")).take()
