"""The command of a study."""

from __future__ import annotations

from pathlib import Path

from dfz_ray.cli.scale import make_command
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
