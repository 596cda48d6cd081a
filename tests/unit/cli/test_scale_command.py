"""The command of a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfz_ray.cli.scale import make_command, make_stopping
from dfz_ray.scaling.stopping import Stopping
from dfz_ray.scaling.study_folder import make_study_folder, read_plan


def test_the_command_of_a_study_makes_it_again_elsewhere(tmp_path: Path) -> None:
    """A study keeps the command that began it, without its folder, so that its page has it also after a resume."""
    begun = make_command(
        ["/bin/dfz", "scale", "--batch", "my batch.yaml", "--output", "studies/mine", "--repeats", "5"]
    )
    assert begun == "dfz scale --batch 'my batch.yaml' --repeats 5"
    assert make_command(["benchmarks/scale.py", "--weak", "--output=studies/mine"]) == "dfz scale --weak"
    folder = make_study_folder(str(tmp_path / "study"), {"modules": (), "command": begun}, "ab")
    assert read_plan(folder)["command"] == begun


def test_a_target_that_was_given_outweighs_configured_repeats() -> None:
    """A number of repeats on the command line wins over all, a target there over the configuration file."""
    assert make_stopping(None, None, configured=7, compared=3) == Stopping(7, 7)
    assert make_stopping(None, 2.0, configured=7, compared=3) == Stopping(4, target=0.02)
    assert make_stopping(5, None, configured=7, compared=3) == Stopping(5, 5)
    assert make_stopping(None, None, configured=None, compared=4) == Stopping(5)


def test_too_few_repeats_are_told_in_singular_and_plural(capsys: pytest.CaptureFixture[str]) -> None:
    """One repeat of one point is called that."""
    make_stopping(1, None, configured=None, compared=1)
    make_stopping(None, None, configured=2, compared=3)
    assert capsys.readouterr().err.splitlines() == [
        "1 repeat can't tell whether the only point is faster by chance; 4 can",
        "2 repeats can't tell whether any of 3 points is faster by chance; 4 can",
    ]
