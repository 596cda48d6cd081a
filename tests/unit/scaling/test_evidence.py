"""A study's sentence names everything that weakens its evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.sample_points import advise, failed, point
from support.sample_study import both_modes, study, summarise


def test_failed_trials_of_every_point_and_of_the_baseline_are_told() -> None:
    """Trials that failed in the sequential program, or at a point that was not chosen, weaken the comparison too."""
    lost = ("out of memory",)
    advice = advise(
        point(1, 0.9, repeats=1, errors=5 * lost), point(2, 1.9), baseline=point(0, repeats=3, errors=3 * lost)
    )
    assert advice.workers == 2
    assert "3 of 6 trials of the sequential program, 5 of 6 trials with 1 worker failed" in advice.reason
    assert "trials" not in advise(point(2, 1.9), failed(4)).reason.replace("every trial failed", "")


def test_failed_trials_of_the_other_mode_are_told() -> None:
    """Where two modes were measured the failed trials of the one that was not chosen are told as well."""
    trials = [
        replace(one, error="lost", completed=0, digest=None) if one.mode == "processes" and one.repeat == 0 else one
        for one in both_modes()
    ]
    reason = summarise(trials, mode="processes and threads")["recommendation"]["reason"]
    failed_there = "1 of 5 trials with 1 worker, 1 of 5 trials with 2 workers, 1 of 5 trials with 4 workers failed"
    assert failed_there in reason.partition("with processes: ")[2]


def test_repeats_that_lost_tasks_and_count_nowhere_are_told() -> None:
    """A speedup of fewer repeats than were made says so, and why."""
    trials = [
        replace(one, completed=39, failed=1, digest=None) if one.workers == 2 and one.repeat in (1, 3) else one
        for one in study(workers=(0, 2), repeats=6)
    ]
    reason = summarise(trials)["recommendation"]["reason"]
    assert "2 of 6 repeats with 2 workers lost more tasks than others, and count in no comparison" in reason
    assert "count in no" not in summarise(study(workers=(0, 2)))["recommendation"]["reason"]


def test_one_core_is_offered_only_where_it_is_enough() -> None:
    """A speedup beyond what a core's time allows is out of reach of threads or asyncio on one core."""
    reason = advise(point(16, 12.0, oversubscribed=True), baseline=point(0, cpu_share=0.45)).reason
    assert "tasks wait for 55 % of their time, so threads or asyncio on one core could give at most 2.22x" in reason
    assert "--use-threads" not in reason
    enough = advise(point(16, 2.0, oversubscribed=True), baseline=point(0, cpu_share=0.45)).reason
    assert "so one core could also run them on threads or asyncio (--use-threads measures threads)" in enough


def test_waiting_explains_more_workers_than_cores_only_as_far_as_it_goes() -> None:
    """Tasks that wait a little more than half of their time leave sixteen workers without cores, on two of them."""
    told = "oversubscribed: 16 workers share 2 physical cores"
    assert told in advise(point(16, 4.0, oversubscribed=True), baseline=point(0, cpu_share=0.45)).reason
    assert (
        "oversubscribed" not in advise(point(16, 15.0, oversubscribed=True), baseline=point(0, cpu_share=0.02)).reason
    )


def test_a_mode_that_was_measured_is_not_advised_to_be_measured() -> None:
    """A study of processes and threads does not say how to measure threads."""
    other = {"threads": "processes", "processes": "threads"}
    trials = [replace(one, cpu_s=0.2, mode=one.mode and other[one.mode]) for one in both_modes()]
    reason = summarise(trials, mode="processes and threads")["recommendation"]["reason"]
    assert reason.startswith("with processes: use 4 workers")
    assert "one core could also run them on threads or asyncio" in reason
    assert "--use-threads" not in reason


def test_one_worker_that_is_faster_than_the_sequential_program_makes_a_study_undecided() -> None:
    """With one worker nothing but a slow sequential program explains an efficiency above 105 %."""
    advice = advise(point(1, 1.2), point(2, 1.9))
    assert advice.workers is None
    assert advice.reason.startswith("can't tell: 1 worker reaches 1.20x the sequential program, an efficiency of 120 %")
    assert "so a quiet host has to measure it again" in advice.reason


@pytest.mark.parametrize("repeats", [1, 3])
def test_an_efficiency_that_cannot_be_is_named_without_an_interval(repeats: int) -> None:
    """Too few repeats for an interval are enough to name an efficiency of 300 %."""
    trials = [replace(one, wall_s=one.wall_s / 3) if one.workers else one for one in study((0, 2), repeats)]
    found = summarise(trials)["recommendation"]
    assert found["workers"] is None
    assert (
        "an efficiency of 300 % can't be: something else, or chance, slowed the sequential program" in found["reason"]
    )


def test_shares_of_lost_tasks_are_written_out() -> None:
    """No share of tasks is in powers of ten, and the verb fits its number."""
    lossy = advise(point(2, 1.9), point(4, 9.0, success_rate=0.002, loses_more=True)).reason
    assert "99.8 % of the tasks did not complete, 0 % in the sequential program" in lossy
    one = {"success_rate": 0.998, "lost": 1, "tasks": 500}
    reason = advise(point(2, 1.9, **one), baseline=point(0, **one)).reason
    assert "at best 1 of 500 was lost" in reason
    dropped = advise(point(1), point(2, 1.9), baseline=point(0, success_rate=1 - 1e-6, loses_more=True)).reason
    assert "did not complete 0.0001 % of the tasks" in dropped
