"""`dfz examples`: the example batches of an installation."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import dfz
from support.extras import NEEDS_TORCH

from dfz_ray.domains.registry import REGISTRY
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import read_settings

pytestmark = pytest.mark.usefixtures("working_folder")
CONFIGS = Path(__file__).parents[3] / "configs"


@NEEDS_TORCH
def test_the_examples_are_those_of_the_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The examples are written as they stand in the repository; each is a batch, or the settings."""
    assert dfz("examples") == 0

    told = capsys.readouterr().out
    written = sorted((tmp_path / "configs").iterdir())
    assert [path.name for path in written] == sorted(path.name for path in CONFIGS.iterdir())
    for path in written:
        assert path.name in told
        assert path.read_text() == (CONFIGS / path.name).read_text()
        if path.name == "default.yaml":
            read_settings(str(path))
        else:
            assert read_batch(str(path), REGISTRY, Resources(), Policy()).name == path.stem


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of the user's is never overwritten, and the command says that it was kept."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/demo.yaml").write_text("name: mine\n")

    assert dfz("examples", "mine") == 0

    assert (tmp_path / "mine/demo.yaml").read_text() == "name: mine\n"
    assert (tmp_path / "mine/sorting.yaml").exists()
    assert "(1 were there already, and are as they were)" in capsys.readouterr().out


def test_a_folder_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that can't be made is refused by name."""
    assert dfz("examples", "mazes.yaml/configs") == 2
    assert "FOLDER: found 'mazes.yaml/configs'; expected a folder that can be written" in capsys.readouterr().err
