"""A study that was interrupted goes on, and only where it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.sample_study import study, trial

from dfz_ray.errors import InvalidInput
from dfz_ray.scaling.measurement import append_measurement
from dfz_ray.scaling.study_folder import TRIALS, check_plan, hold_study, make_study_folder, read_plan, read_trials

FACTS = {"hostname": "here", "versions": {"ray": "2.40"}, "seed": 0, "plan": "ab"}
OPTIONS: dict[str, Any] = {
    "batch": "batch.yaml",
    "modules": ("mine.py", "package.module"),
    "config": None,
    "repeats": 3,
}


def begin(folder: Path) -> Path:
    made = make_study_folder(str(folder), OPTIONS, "ab", (1, 2))
    for one in study(workers=(0, 1), repeats=2, study=FACTS):
        append_measurement(made / TRIALS, one)
    return made


def test_a_study_that_goes_on_has_its_options_and_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options come back, with paths that do not depend on the folder that one is in; and so do the trials."""
    monkeypatch.chdir(tmp_path)
    folder = begin(tmp_path / "study")
    options = read_plan(folder)
    assert options["batch"] == str(tmp_path / "batch.yaml")
    assert options["modules"] == (str(tmp_path / "mine.py"), "package.module")
    assert (options["config"], options["repeats"], options["worker_counts"]) == (None, 3, (1, 2))
    assert read_trials(folder, FACTS) == study(workers=(0, 1), repeats=2, study=FACTS)


def test_a_trial_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """A line that was not written to its end is removed, and the next trial has a line of its own."""
    folder = begin(tmp_path / "study")
    content = (folder / TRIALS).read_bytes()
    (folder / TRIALS).write_bytes(content[:-7])
    trials = read_trials(folder, FACTS)
    assert len(trials) == 3
    append_measurement(folder / TRIALS, trial(1, 2, 3, study=FACTS))
    assert len(read_trials(folder, FACTS)) == 4
    (folder / TRIALS).write_bytes(b'{"kind": "poi')
    assert read_trials(folder, FACTS) == []


@pytest.mark.parametrize(
    "changed", [{"hostname": "there"}, {"versions": {"ray": "3"}}, {"plan": "cd"}, {"commit": "x"}]
)
def test_trials_of_another_host_version_or_batch_are_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    """The error names the fact that differs."""
    with pytest.raises(InvalidInput, match=next(iter(changed))):
        read_trials(begin(tmp_path / "study"), FACTS | changed)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    """A line that is no trial is refused with its number."""
    folder = begin(tmp_path / "study")
    lines = (folder / TRIALS).read_text().splitlines()
    lines[1] = lines[1].replace('"kind": "', '"kind": "no ')
    (folder / TRIALS).write_text("\n".join(lines) + "\n")
    with pytest.raises(InvalidInput, match="line 2"):
        read_trials(folder, FACTS)


def test_a_folder_holds_one_study(tmp_path: Path) -> None:
    """A new study is refused in the folder of another one, and no study goes on in a folder without one."""
    begin(tmp_path / "study")
    with pytest.raises(InvalidInput, match="--output"):
        begin(tmp_path / "study")
    with pytest.raises(InvalidInput, match="--resume"):
        read_plan(tmp_path)


def test_another_plan_is_refused_before_any_trial_has_ended(tmp_path: Path) -> None:
    """A study that was interrupted before its first trial ended goes on with its own tasks and code alone."""
    folder = make_study_folder(str(tmp_path / "study"), OPTIONS, "ab", (1, 2))
    check_plan(folder, "ab")
    with pytest.raises(InvalidInput, match="other tasks, other code"):
        check_plan(folder, "cd")


def test_a_study_is_measured_by_one_process_at_a_time(tmp_path: Path) -> None:
    """Who goes on with a study that is being measured is refused, and may go on once that has ended."""
    folder = begin(tmp_path / "study")
    with hold_study(folder), pytest.raises(InvalidInput, match="another process"), hold_study(folder):
        pass
    with hold_study(folder):
        pass


def test_a_trial_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """A repeat that counted twice would make intervals narrower than they are."""
    folder = begin(tmp_path / "study")
    lines = (folder / TRIALS).read_bytes().splitlines(keepends=True)
    (folder / TRIALS).write_bytes(b"".join([*lines, lines[0]]))
    with pytest.raises(InvalidInput, match="line 5"):
        read_trials(folder, FACTS)
