"""Predictions from trials: what they find, what their error is, what they rest on, and what they refuse."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from support.journal_rows import completion
from support.small_run import completed, handed_out, make_run
from support.virtual_trials import EXCHANGE_S, make_baseline, make_trial

from dfz_ray.errors import InvalidInput
from dfz_ray.journal.writer import Group, JournalWriter
from dfz_ray.scaling.cost_model import fit_costs
from dfz_ray.scaling.measured_batch import read_measured
from dfz_ray.scaling.measurement import Measurement, append_measurement
from dfz_ray.scaling.prediction import Forecast, forecast
from dfz_ray.scaling.study_folder import TRIALS
from dfz_ray.scaling.trial_profile import profile_trial

COMPUTE, WAIT = [[40, 0.1, 0.1]], [[40, 0.1, 0.001]]
"""Forty tasks of 0.1 s that compute, and that wait."""


def study(groups: list[list[float]], walls: dict[int, float]) -> list[Measurement]:
    """A trial for each number of workers, and a sequential one."""
    return [make_baseline(4.0, 40)] + [make_trial(workers, wall_s, groups=groups) for workers, wall_s in walls.items()]


def told(trials: list[Measurement], *workers: int, **options: Any) -> Forecast:
    """A forecast for trials on two cores."""
    return forecast(trials, workers, trial_cores=2, **options)


@pytest.mark.parametrize(("cores", "slots_of_work"), [(None, 2), (8.0, 8), (math.inf, 8)])
def test_work_that_computes_is_bound_by_cores(cores: float | None, slots_of_work: int) -> None:
    """Eight workers on the two cores of the trials take as long as two; with a core each, an eighth of the work."""
    trials = study(COMPUTE, {1: 4.2, 2: 2.2})

    (found,) = told(trials, 8, cores=cores).predictions

    assert found.makespan_s == pytest.approx(4.0 / slots_of_work, rel=0.25)
    assert found.makespan_s > 4.0 / slots_of_work
    assert found.efficiency == pytest.approx(found.speedup / 8)


def test_work_that_waits_is_not_bound_by_cores() -> None:
    """Eight workers whose tasks wait take an eighth of the work, although they share two cores."""
    (found,) = told(study(WAIT, {1: 4.2, 2: 2.2}), 8).predictions

    assert 0.5 < found.makespan_s < 0.7


def test_the_error_is_that_of_measured_points() -> None:
    """Each measured number of workers but the smallest is held out, and predicted from the trials with fewer."""
    trials = study(WAIT, {1: 4.25, 2: 2.2, 4: 2.4})

    found = told(trials, 4)

    assert [one.workers for one in found.held_out] == [2, 4]
    assert [one.measured_s for one in found.held_out] == [2.2, 2.4]
    assert abs(found.held_out[0].error) < 0.1
    assert found.held_out[1].error == pytest.approx(-0.5, abs=0.1)
    assert found.error is not None
    assert found.error.value == pytest.approx(sum(abs(one.error) for one in found.held_out) / 2)
    low, high = found.predictions[0].range_s or (0.0, 0.0)
    assert low < 2.4 < high * 1.001


def test_the_range_is_the_largest_error_so_far_and_claims_no_level() -> None:
    """Two points that were held out, one off by a factor of two, make a range of that factor, without a level."""
    found = told(study(WAIT, {1: 4.25, 2: 2.2, 4: 2.4}), 8)

    worst = max(max(one.predicted_s / one.measured_s, one.measured_s / one.predicted_s) for one in found.held_out)
    assert found.largest_error == pytest.approx(worst - 1)
    (one,) = found.predictions
    assert one.range_s == pytest.approx((one.makespan_s / worst, one.makespan_s * worst))
    assert not hasattr(found, "confidence")


def test_one_number_of_workers_says_on_what_it_rests() -> None:
    """From one number of workers predictions are made, without an error or a range; the assumptions are listed."""
    found = told(study(WAIT, {1: 4.25}), 2)

    assert found.error is None
    assert found.predictions[0].range_s is None
    assert found.largest_error is None
    assert any("only one number of workers (1)" in text for text in found.assumptions)


def test_the_managers_service_time_is_found() -> None:
    """The CPU time of the manager in two studies of different sizes is what its exchanges cost."""
    trials = [make_trial(1, 4.2, groups=WAIT), make_trial(2, 210.0, groups=[[4000, 0.1, 0.001]])]

    assert fit_costs(trials, 2).times.exchange_s == pytest.approx(EXCHANGE_S, rel=0.05)


def test_a_study_of_weak_scaling_is_refused() -> None:
    """Trials whose batch grows with the workers don't say how one batch does; the error says which they need."""
    trials = [make_trial(1, 4.2, groups=WAIT), make_trial(2, 4.3, groups=[[80, 0.1, 0.001]])]

    with pytest.raises(InvalidInput, match="a study without --weak"):
        fit_costs(trials, 2)


def test_one_number_of_workers_of_weak_scaling_is_compared_with_a_batch_that_has_grown() -> None:
    """Where two workers had the batch twice, the sequential program would take twice its time for it."""
    trials = [make_baseline(4.0, 40), make_trial(2, 4.1, groups=[[80, 0.1, 0.1]])]

    (found,) = told(trials, 2).predictions

    assert found.speedup == pytest.approx(8.0 / 4.1, rel=0.1)


@pytest.mark.long
def test_a_full_manager_is_marked() -> None:
    """A manager whose exchanges take 1 ms is full at 2,000 workers with tasks of a second, and not at 100."""
    trials = study([[40, 1.0, 0.001]], {1: 40.2})
    few, many = told(trials, 100, 2000, cores=math.inf, tasks=6_000).predictions

    assert not few.is_manager_full
    assert many.is_manager_full


def test_the_cheapest_that_meets_the_deadline_is_named() -> None:
    """Of the numbers of workers that end in time, the one with the fewest core-hours is named, with its price."""
    trials = study(WAIT, {1: 4.2, 2: 2.2})

    found = told(trials, 1, 2, 4, 8, 16, price=3600.0, deadline_s=1.5)
    late = told(trials, 1, 2, deadline_s=0.5)

    assert [one.meets_deadline for one in found.predictions] == [False, False, True, True, True]
    assert found.cheapest == 16  # all of them take the two cores of this machine, and 16 the least time
    assert found.predictions[2].price == pytest.approx(2 * found.predictions[2].makespan_s)
    assert late.cheapest is None


def test_workers_that_declare_no_cpu_hold_one_core_together() -> None:
    """Tasks with `cpus: 0` are not free: their workers cost one core, as in a study."""
    for cores in (2.0, math.inf):
        found = told(study(WAIT, {1: 4.2, 2: 2.2}), 1, 8, cores=cores, cpus_per_task=0.0, price=3600.0)
        assert [one.price for one in found.predictions] == pytest.approx([one.makespan_s for one in found.predictions])


def test_a_deadline_is_met_by_the_whole_range() -> None:
    """A prediction of 1.2 s that may be off by a factor of two is not predicted to meet 1.5 s."""
    trials = study(WAIT, {1: 4.25, 2: 2.2, 4: 2.4})

    (late,), (early,) = (told(trials, 4, deadline_s=deadline_s).predictions for deadline_s in (1.5, 3.0))

    assert late.makespan_s < 1.5 < (late.range_s or (0.0, 0.0))[1] < 3.0
    assert (late.meets_deadline, early.meets_deadline) == (False, True)
    assert told(trials, 4, deadline_s=1.5).cheapest is None


def test_trials_that_lose_tasks_count_nowhere() -> None:
    """A trial that ends early because its tasks fail is no measured time, and no time of the sequential program."""
    trials = study(WAIT, {1: 4.25, 2: 2.2})
    failed = [
        *(make_trial(2, 0.1, groups=WAIT, repeat=repeat, completed=0, failed=40) for repeat in (1, 2, 3)),
        *(dataclasses.replace(make_baseline(0.1, 40, repeat), completed=0, failed=40) for repeat in (1, 2, 3)),
    ]

    found = told([*trials, *failed], 4)

    assert found == told(trials, 4)
    assert found.held_out[0].measured_s == 2.2
    assert fit_costs([*trials[1:], *failed], 2).sequential_s == pytest.approx(4.0)


def test_equal_seeds_give_equal_forecasts() -> None:
    """A forecast is a function of its arguments."""
    trials = study([[20, 0.1, 0.05], [20, 0.3, 0.1]], {1: 8.2, 2: 4.2})

    assert told(trials, 4, seed=3) == told(trials, 4, seed=3)


def test_tasks_that_compute_more_slowly_beside_others_stay_so() -> None:
    """What the trials show of slower work counts between them, and beyond them as at the largest."""
    trials = [make_trial(1, 4.2, groups=COMPUTE), make_trial(2, 3.2, groups=[[40, 0.15, 0.15]])]

    model = fit_costs(trials, 2)

    assert model.find_slowness(1) == pytest.approx(1.0)
    assert model.find_slowness(2) == model.find_slowness(64) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([make_baseline(4.0, 40)], "no trial with the times of its tasks"),
        ([make_trial(1, 4.0, groups=WAIT, mode="threads")], "no trial with the times of its tasks"),
        ([make_trial(1, 4.0, groups=WAIT, profile=None)], "no trial with the times of its tasks"),
        ([make_trial(2, 4.0, groups=WAIT, workers_lost=1)], "no trial with the times of its tasks"),
        ([make_trial(2, 4.0, groups=WAIT, completed=39)] * 3, r"3 of 3 trials lost tasks \(1 of 40 in one\)"),
        ([make_trial(4, 4.0, groups=COMPUTE)], "no trial with fewer than 4 workers, which share 2 cores"),
    ],
)
def test_what_is_not_identified_is_refused(trials: list[Measurement], words: str) -> None:
    """Trials that do not tell the times of tasks, or not on a core of their own, give one clear error."""
    with pytest.raises(InvalidInput, match=words) as refused:
        told(trials, 8)

    assert len(refused.value.problems) == 1
    assert "dfz scale --workers" in str(refused.value)


# --- reading ----------------------------------------------------------------------------------------------------------


def timed_chunk(chunk: int, dispatched_at: float, began_at: float, *numbers: int) -> Group:
    """A chunk whose tasks take 1 s each, 0.25 s of them computing."""
    rows = [completion(chunk, {number: 1}, (began_at + place, began_at + place + 1, 0.25))
            for place, number in enumerate(numbers)]  # fmt: skip
    given = list(handed_out(chunk, *numbers))
    given[3] = dispatched_at
    return Group(chunks=[tuple(given)], completions=rows[:1])


def test_a_profile_has_what_the_journal_has(tmp_path: Path) -> None:
    """Gaps count as asked for or ahead by the time at which the second chunk was handed out; groups add up."""
    chunks = timed_chunk(0, 3.0, 4.0, 0), timed_chunk(1, 4.5, 5.25, 1), timed_chunk(2, 6.5, 7.0, 2)
    make_run(tmp_path, ["a", "b", "c"], *chunks).close()

    profile = profile_trial(tmp_path, 0.5, None, 1, None)

    assert profile is not None
    assert profile["ahead_gap_s"] == [0.25]
    assert profile["asked_gap_s"] == [0.75]
    assert profile["start_s"] == [3.0]
    assert profile["open_s"] == 0.5
    assert (profile["chunks"], profile["leases"], profile["manager"]) == (3, 1, None)
    (kind,) = profile["kinds"]
    assert (kind["name"], sum(group[0] for group in kind["groups"])) == ("coin of 3", 3)
    assert {tuple(group[1:]) for group in kind["groups"]} == {(1.0, 0.25)}


def test_runs_that_did_not_go_well_are_refused(tmp_path: Path) -> None:
    """A run with an open task has no profile, and naming its folder gives one clear error."""
    make_run(tmp_path, ["a", "b"], completed(0, 1)).close()

    assert profile_trial(tmp_path, None, None, 1, None) is None
    with pytest.raises(InvalidInput, match="tasks failed, were tried again, or are open"):
        read_measured([tmp_path])


def test_a_run_that_was_resumed_is_refused_as_such(tmp_path: Path) -> None:
    """A run whose tasks all completed, and that was opened again since, is not said to have failed alone."""
    make_run(tmp_path, ["a"], completed(0, 1)).close()
    JournalWriter(tmp_path).close()

    with pytest.raises(InvalidInput, match="or which was resumed"):
        read_measured([tmp_path])


def test_a_folder_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    """A folder without a study or a run is named in the error; so are two studies at once."""
    with pytest.raises(InvalidInput, match="expected the folder of a study, or of a run"):
        read_measured([tmp_path])
    append_measurement(tmp_path / TRIALS, make_trial(1, 4.0, groups=WAIT))
    with pytest.raises(InvalidInput, match="one study alone, or runs alone"):
        read_measured([tmp_path, tmp_path])


def test_a_trial_that_was_cut_off_is_not_read(tmp_path: Path) -> None:
    """A study that was killed as it wrote a line is read without the line, and its file stays as it is."""
    for repeat in range(2):
        append_measurement(tmp_path / TRIALS, make_trial(1, 4.0, groups=WAIT, repeat=repeat))
    cut = (tmp_path / TRIALS).read_bytes()[:-7]
    (tmp_path / TRIALS).write_bytes(cut)

    assert len(read_measured([tmp_path]).trials) == 1
    assert (tmp_path / TRIALS).read_bytes() == cut


def test_a_study_is_read_with_its_cores(tmp_path: Path) -> None:
    """The cores are those that the trials noted, also where the study was interrupted and has no summary."""
    trial = make_trial(1, 4.0, groups=WAIT)
    append_measurement(tmp_path / TRIALS, trial)

    found = read_measured([tmp_path])

    assert (found.cores, found.cpus_per_task) == (2, 1.0)
    assert list(found.trials) == [dataclasses.replace(trial)]
    (tmp_path / "summary.json").write_text('{"physical_cores": 4, "cpus_per_task": 0.0}')
    assert (read_measured([tmp_path]).cores, read_measured([tmp_path]).cpus_per_task) == (4, 0.0)
