"""`dfz predict`: its table, its JSON, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import dfz
from support.virtual_trials import make_baseline, make_trial

from dfz_ray.cli import EXIT_BAD_INPUT
from dfz_ray.scaling.measurement import append_measurement
from dfz_ray.scaling.study_folder import TRIALS

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A study of forty tasks that wait for 0.1 s, on two cores."""
    groups = [[40, 0.1, 0.001]]
    for one in (make_baseline(4.0, 40), make_trial(1, 4.2, groups=groups), make_trial(2, 2.2, groups=groups)):
        append_measurement(tmp_path / TRIALS, one)
    return str(tmp_path)


def test_the_table_tells_time_error_and_what_it_rests_on(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each number of workers; below it the error of the held-out point, the cheapest, and assumptions."""
    assert dfz("predict", folder, "--workers", "2,4", "--price", "2", "--deadline", "1.5") == 0

    told = capsys.readouterr().out
    rows = [line.split() for line in told.splitlines()]
    assert [row[0] for row in rows[1:3]] == ["2", "4"]
    assert "Range (largest error so far)" in told
    assert "the largest error on the 1 point held out so far" in told
    assert "no confidence intervals" in told
    assert "2 workers: predicted" in told
    assert "from trials with fewer workers" in told
    assert "predicted to meet 1.5 s at the least cost: 4 workers" in told
    assert " ".join(rows[1]).endswith("measured 2.2 s, too late"), "the measured time stands beside the predicted one"
    assert "measured" not in rows[2]
    assert "rests on: " in told


def test_cores_may_cost_nothing(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A price of 0 is one, as for a plan and a study."""
    assert dfz("predict", folder, "--workers", "4", "--price", "0", "--json") == 0

    (one,) = json.loads(capsys.readouterr().out)["predictions"]
    assert one["price"] == 0


def test_a_deadline_within_the_range_may_be_missed(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A deadline that a prediction meets, but not its whole range, may be missed, and the table says so."""
    assert dfz("predict", folder, "--workers", "2,4", "--deadline", "1.1") == 0

    late, unsure, *rest = capsys.readouterr().out.splitlines()[1:]
    assert late.rstrip().endswith("too late")
    assert "may be" not in late
    assert unsure.rstrip().endswith("may be too late")
    assert "none of these numbers is predicted to meet 1.1 s" in rest


def test_json_holds_the_same(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts get every number as JSON."""
    assert dfz("predict", folder, "--workers", "4", "--json", "--cores", "each") == 0

    told = json.loads(capsys.readouterr().out)
    (one,) = told["predictions"]
    assert (one["workers"], one["manager_is_full"], told["cores"], told["tasks"]) == (4, False, None, 40)
    assert told["held_out"][0]["workers"] == 2
    assert one["range_s"][0] < one["makespan_s"] < one["range_s"][1]
    assert told["largest_error"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "2,2"), "--workers: found"),
        (("--workers", "20000"), "--workers: found '20000'; expected whole numbers from 1 to 10000 with commas"),
        (("--workers", "auto"), "from 1 to 10000 with commas, such as 1,2,4,8\n"),
        (("--cores", "some"), "--cores: found 'some'; expected a whole number from 1 on, or `each`"),
    ],
)
def test_bad_options_are_refused(
    folder: str, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that can't be right gives one clear error."""
    assert dfz("predict", folder, *words) == EXIT_BAD_INPUT

    assert message in capsys.readouterr().err


@pytest.mark.parametrize("edited", [{"physical_cores": "two"}, {"physical_cores": 2, "cpus_per_task": None}])
def test_a_summary_that_was_edited_is_refused(
    edited: dict[str, object], folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cores and CPUs that are no numbers are named; nothing is predicted with them."""
    (Path(folder) / "summary.json").write_text(json.dumps(edited))
    assert dfz("predict", folder) == EXIT_BAD_INPUT
    assert f"{edited['physical_cores']!r} physical cores" in capsys.readouterr().err
