"""The command of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfz_ray.cli.kept_options import check_kept_options
from dfz_ray.cli.scale import NOT_KEPT, make_command, make_stopping, scale
from dfz_ray.errors import InvalidInput
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


FLAGS = ("scaling_test", "weak", "use_processes", "use_threads")
KEPT: dict[str, Any] = {
    **{str(option.name): () if option.multiple else None for option in scale.params if option.name not in NOT_KEPT},
    **dict.fromkeys(FLAGS, False),
}
"""The options of a study that was begun without any."""


@pytest.mark.parametrize(
    "edited",
    [
        {},
        *({"repeats": "3"}, {"repeats": 0}, {"max_workers": 5}, {"modules": "mine.py"}, {"weak": "yes"}, {"batch": 7}),
        *({"price": "x"}, {"domain": ("a",)}, {"command": 5}, {"worker_counts": ()}),
    ],
)
def test_a_plan_that_was_edited_is_refused_by_name(edited: dict[str, Any], tmp_path: Path) -> None:
    """Options that the command does not take are named before anything is imported, tried or measured."""
    kept = {**KEPT, "command": "dfz scale", "worker_counts": (1, 2), "repeats": 3, "price": 2, **edited}
    if not edited:
        check_kept_options(scale, kept, NOT_KEPT, tmp_path)
        return
    with pytest.raises(InvalidInput) as refused:
        check_kept_options(scale, kept, NOT_KEPT, tmp_path)
    assert next(iter(edited)) in str(refused.value)


def test_a_plan_without_an_option_is_refused(tmp_path: Path) -> None:
    """An option that is missing is named."""
    kept = {name: value for name, value in KEPT.items() if name != "modules"}
    with pytest.raises(InvalidInput, match=r"options\.modules"):
        check_kept_options(scale, {**kept, "command": "", "worker_counts": (1,)}, NOT_KEPT, tmp_path)
