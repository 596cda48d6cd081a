"""The pilot: tasks of every kind are tried, and tell how long a batch and its study take."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from dfz_ray import domain
from dfz_ray.domains.registry import REGISTRY
from dfz_ray.errors import DfzError
from dfz_ray.scaling.pilot import KindTimes, Pilot, predict_repeat_s, run_pilot
from dfz_ray.scaling.sequential import SequentialProgram, make_job
from dfz_ray.scaling.study_plan import StudyPlan, auto_worker_counts, find_bend
from dfz_ray.specs.batch_checks import read_batch
from dfz_ray.specs.resources import Resources


def kind(count: int, wall_s: float, cpu_s: float) -> KindTimes:
    return KindTimes("maze", "maze", Resources(), count, 1, wall_s, wall_s, cpu_s, 0)


def test_a_task_of_every_kind_is_tried() -> None:
    """However short the time, the pilot has tried each kind; what it has seen stands for all tasks of the kind."""
    small, large = {"size_x": 12, "size_y": 12}, {"size_x": 80, "size_y": 80}
    blocks = [{"domain": "maze", "count": 30, "parameters": size} for size in (small, large)]
    batch = read_batch({"name": "mazes", "generate": blocks}, REGISTRY)
    with SequentialProgram(make_job(batch, 0)) as program:
        short = run_pilot(batch, program, budget_s=1e-9)
        whole = run_pilot(batch, program, budget_s=60.0)
    kinds = {task.kind for task in batch.tasks}
    assert {one.kind for one in short.kinds} == {one.kind for one in whole.kinds} == kinds
    assert all(one.tried == 1 for one in short.kinds)
    assert [(one.tried, one.failed) for one in whole.kinds] == [(one.count, 0) for one in whole.kinds]
    assert whole.tried == sum(one.count for one in short.kinds) == 60
    assert whole.work_s == pytest.approx(sum(one.count * one.wall_s for one in whole.kinds))


def test_no_plan_promises_less_than_the_work_needs() -> None:
    """Shares, the longest task and the cores each set a least time; waiting tasks need few cores."""
    busy, waiting = Pilot((kind(100, 1.0, 1.0),)), Pilot((kind(100, 1.0, 0.01),))
    assert busy.least_s(4, cores=8) == 25
    assert busy.least_s(4, cores=2) == 50
    assert waiting.least_s(50, cores=2) == 2
    assert waiting.least_s(1000, cores=2) == 1
    assert busy.most_s(4, cores=8) == pytest.approx(25.75)
    assert waiting.most_s(50, cores=2) == pytest.approx((100 + 24 * 1) / 50 + 0.98 * 1.24)
    assert busy.least_s(4, cores=4, growth=4) == 100


def test_the_forecast_of_a_study_has_every_trial_of_a_repeat() -> None:
    """A repeat takes the sequential program's time and that of each number of workers."""
    plan = StudyPlan(read_batch([{"domain": "maze"}], REGISTRY), (1, 2, 4), 0)
    assert predict_repeat_s(plan, Pilot((kind(8, 1.0, 1.0),)), cores=4) == 8 + 8 + 4 + 2


@pytest.mark.parametrize(
    ("cores", "tasks", "cpu_share", "counts"),
    [
        (2, 320, 1.0, [1, 2]),
        (6, 320, 1.0, [1, 2, 4, 6]),
        (1, 320, 1.0, [1]),
        (2, 320, 0.01, [1, 2, 4, 8, 16, 32]),
        (2, 320, 0.2, [1, 2, 4, 8]),
        (2, 20, 0.01, [1, 2, 4]),
        (6, 20, 0.1, [1, 2, 4, 6]),
        (6, 320, 0.2, [1, 2, 4, 6, 8, 16]),
    ],
)
def test_auto_counts_go_beyond_the_cores_for_tasks_that_wait(
    cores: int, tasks: int, cpu_share: float, counts: list[int]
) -> None:
    """1, 2, 4 ... to the cores; beyond them as far as the cores have time for the tasks, and there are tasks."""
    assert auto_worker_counts(cores, tasks, cpu_share) == counts


def test_auto_counts_are_those_that_the_cores_hold() -> None:
    """Tasks of two CPUs fill eight cores with four workers; those that declare less share cores as before."""
    assert auto_worker_counts(8, 320, 1.0, cpus_per_task=2.0) == [1, 2, 4]
    assert auto_worker_counts(8, 320, 0.1, cpus_per_task=2.0) == [1, 2, 4, 8, 16, 32]
    assert auto_worker_counts(2, 320, 1.0, cpus_per_task=3.0) == [1]
    assert auto_worker_counts(8, 320, 1.0, cpus_per_task=0.0) == [1, 2, 4, 8]


def test_counts_join_where_the_curve_bends() -> None:
    """Numbers are added before and after the one from which throughput no longer follows the workers; else none."""
    assert find_bend((1, 2, 4, 8, 16), {1: 1.0, 2: 2.0, 4: 3.9, 8: 7.5, 16: 9.0}) == (6, 12)
    assert find_bend((1, 2, 4), {1: 1.0, 2: 2.0, 4: 4.0}) == ()
    assert find_bend((1, 2), {1: 1.0, 2: 1.1}) == ()
    assert find_bend((1, 2, 4), {1: 1.0, 4: 2.0}) == ()  # the middle is measured already


def test_counts_that_join_are_measured_at_the_end_of_the_first_repeat() -> None:
    """The trials that ran before keep their places, and later repeats have all counts in one order."""
    plan = StudyPlan(read_batch([{"domain": "maze"}], REGISTRY), (1, 2, 4, 8), 0, finds_bend=True)
    begun = [(trial.workers, trial.repeat) for trial in plan.repeat(0)]
    grown = StudyPlan(plan.batch, plan.worker_counts, 0, finds_bend=True, added=(3, 6))
    first = grown.repeat(0)
    assert [(trial.workers, trial.repeat) for trial in first][: len(begun)] == begun
    assert {trial.workers for trial in first[len(begun) :]} == {3, 6}
    assert [trial.order for repeat in range(3) for trial in grown.repeat(repeat)] == list(range(21))
    assert sorted(trial.workers for trial in grown.repeat(2)) == [0, 1, 2, 3, 4, 6, 8]
    assert grown.digest == plan.digest


def test_a_pilot_tells_why_tasks_failed() -> None:
    """The tasks that were tried and failed are told with the reason of the first, before anybody waits for a study."""
    whole = kind(3, 1.0, 1.0)
    assert Pilot((whole,)).describe_failed() == ""
    failing = replace(whole, tried=2, failed=1, failure="ValueError: no such file\n" + 4000 * "x")
    told = Pilot((whole, failing)).describe_failed()
    assert told == "1 of the 3 tasks that were tried failed: ValueError: no such file"


def test_a_task_that_ends_the_process_is_to_be_found_by_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot that dies says how to find the task that ended it."""
    monkeypatch.setattr(REGISTRY, "defined", {})

    @domain("leaver")
    def leave(code: int = 3) -> None:
        os._exit(code)

    batch = read_batch([leave.task()], REGISTRY)
    with (
        pytest.raises(DfzError, match=r"died \(exit code 3\): it printed nothing \(if a task .* `dfz run` names it\)"),
        SequentialProgram(make_job(batch, 0)) as program,
    ):
        run_pilot(batch, program, budget_s=1.0)
