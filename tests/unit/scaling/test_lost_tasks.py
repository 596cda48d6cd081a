"""Studies whose trials lose tasks, by chance or for good."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from support.sample_study import study, summarise
from support.sample_timelines import study_with_timelines

from dfz_ray.scaling.estimate import Estimate
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.point import estimate_points
from dfz_ray.scaling.recommendation import verdict_ratio
from dfz_ray.scaling.report import render_report


def losing(lost: Mapping[int, tuple[int, int]], workers: tuple[int, ...] = (0, 1, 2, 4), repeats: int = 10) -> Any:
    """The summary of such a study."""
    return summarise(lose(lost, workers, repeats), physical_cores=4, remarks=())


def lose(lost: Mapping[int, tuple[int, int]], workers: tuple[int, ...], repeats: int) -> list[Measurement]:
    """A study of 200 tasks. By number of workers: how many of its repeats lose tasks, and how many tasks each of these.

    They take as much less time as they do less.
    """

    def lose_some(one: Measurement) -> Measurement:
        often, tasks = lost.get(one.workers, (0, 0))
        if one.repeat >= often:
            return one
        kept = 200 - tasks
        return replace(
            one, completed=kept, failed=tasks, digest=f"{one.repeat:064}", wall_s=one.wall_s * max(kept, 1) / 200
        )

    return [lose_some(one) for one in study(workers, repeats, tasks=200, completed=200)]


@pytest.mark.parametrize("workers", [0, 4])
def test_one_lost_task_does_not_decide_a_study(workers: int) -> None:
    """One task of 2,000 that is lost, in the sequential program or with workers, removes neither point nor speedup."""
    summary = losing({workers: (1, 1)})
    found = summary["recommendation"]
    assert found["workers"] == 4
    name = "4 workers" if workers else "the sequential program"
    assert f"1 of 2,000 tasks with {name} did not complete, which may be chance" in found["reason"]
    assert "left out" not in found["reason"]
    assert [point["speedup"] for point in summary["points"]] == pytest.approx([1, 2, 4], rel=0.01)


def test_a_lost_task_of_the_only_point_is_told() -> None:
    """One point that loses one of 120 tasks is recommended, and the sentence tells of the task."""
    found = losing({2: (1, 1)}, workers=(0, 2), repeats=4)["recommendation"]
    assert found["workers"] is None  # three whole repeats are too few
    assert "3 repeats can't rule out chance, 4 can" in found["reason"]
    assert losing({2: (1, 1)}, workers=(0, 2), repeats=6)["recommendation"]["workers"] == 2


def test_less_work_is_no_speedup() -> None:
    """Workers that complete half of the tasks have no speedup; where a few repeats do, it is that of the others."""
    summary = losing({4: (10, 100), 2: (3, 100)})
    by_workers = {point["workers"]: point for point in summary["points"]}
    assert by_workers[4]["speedup"] is by_workers[4]["efficiency"] is None
    assert by_workers[2]["speedup"] == pytest.approx(2, rel=0.03)
    assert summary["recommendation"]["workers"] == 2
    assert (
        "left out: 4 workers (50 % of the tasks did not complete, 0 % in the sequential program)"
        in (summary["recommendation"]["reason"])
    )


def test_a_loss_in_every_repeat_leaves_a_point_out() -> None:
    """A point that loses tasks in nearly every repeat surely loses more, and takes no part."""
    found = losing({4: (9, 1)})["recommendation"]
    assert found["workers"] == 2
    assert "left out: 4 workers (0.45 % of the tasks did not complete" in found["reason"]


def test_a_single_repeat_that_loses_a_task_is_no_verdict() -> None:
    """If the only repeat loses a task, the study can't tell; if each of six does, it advises against workers."""
    found = losing({2: (1, 1)}, workers=(0, 2), repeats=1)["recommendation"]
    assert found["workers"] is None
    reason = "can't tell: with workers, tasks fail that the sequential program completes, and 1 repeat can't rule out"
    assert reason in found["reason"]
    assert losing({2: (6, 1)}, workers=(0, 2), repeats=6)["recommendation"]["workers"] == 0


def test_quick_trials_that_complete_nothing_win_nothing() -> None:
    """A number of workers whose trials mostly fail at once is neither fast nor cheap."""
    found = losing({4: (4, 200)}, workers=(0, 2, 4), repeats=5)["recommendation"]
    assert found["workers"] == 2
    assert "left out: 4 workers" in found["reason"]
    assert {choice["workers"] for choice in found["choices"]} <= {0, 2}


def test_a_repeat_that_completes_nothing_is_no_number() -> None:
    """A repeat without any completed task warns nobody, and is in no comparison."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = losing(dict.fromkeys((0, 1, 2, 4), (1, 200)))
    assert summary["recommendation"]["workers"] == 4


def test_a_lost_task_is_no_other_answer() -> None:
    """The digests of repeats that lost tasks are compared with none; where all repeats lose the same, all are."""
    for lost in ({4: (1, 1)}, {2: (10, 1)}, {0: (10, 1), 1: (10, 1)}):
        summary = losing(lost)
        assert "WARNING" not in summary["recommendation"]["reason"]
        assert summary["digests_equal"] is True
    assert losing({1: (4, 1), 2: (3, 1)}, workers=(1, 2), repeats=4)["digests_equal"] is None
    alike = study((0, 2), 4, completed=30, failed=10)
    assert summarise(alike)["digests_equal"] is True
    changed = summarise([*alike, *study((4,), 4, digest="cd" * 32)])
    assert changed["digests_equal"] is True
    assert [point["digest"] for point in changed["points"]] == [None, "cd" * 32]


def test_a_task_that_always_fails_takes_nothing_from_the_page() -> None:
    """Losses, timelines and task times are of the trials that completed most tasks; the page says how many failed."""
    trials = [replace(one, completed=39, failed=1) for one in study_with_timelines()]
    summary = summarise(trials)
    assert [point["losses"]["lost"] for point in summary["points"]] == [1, 1, 1]
    page = render_report(summary, trials)
    for text in ("was not split", "No trial has a timeline", "No trial has the times of its tasks"):
        assert text not in page
    assert "In these trials up to 1 of 40 tasks did not complete." in page
    assert "nowhere did all tasks complete: at best 4 of 160 were lost" in summary["recommendation"]["reason"]


def test_trials_that_complete_less_are_in_no_split() -> None:
    """Where most trials complete all tasks, one that does not is none of those that losses are taken from."""
    trials = [replace(one, completed=20, failed=20) if one.workers == 4 else one for one in study_with_timelines()]
    losses = {point["workers"]: point["losses"] for point in summarise(trials)["points"]}
    assert losses[4] is None
    assert losses[2]["lost"] == 0


def test_losses_by_chance_neither_advise_against_workers_nor_remove_the_baseline() -> None:
    """Where the typical trial loses a task, but not surely more often than others, times of whole repeats decide."""
    for losing_most in (0, 2):
        found = losing({losing_most: (6, 1), 2 - losing_most: (4, 1)}, workers=(0, 2), repeats=10)["recommendation"]
        assert found["workers"] == 2
        name = "2 workers" if losing_most else "the sequential program"
        assert f"6 of 2,000 tasks with {name} did not complete, which may be chance" in found["reason"]


@pytest.mark.parametrize("losing_most", [0, 2])
def test_losses_in_every_repeat_that_may_be_chance_are_no_verdict(losing_most: int) -> None:
    """If all repeats lose a task on one side, and some of them on the other one, more repeats would tell."""
    often = {losing_most: (6, 1), 2 - losing_most: (2, 1)}
    found = losing(often, workers=(0, 2), repeats=6)["recommendation"]
    assert found["workers"] is None
    assert re.search(r"^can't tell: .*, which may be chance; about \d+ repeats would tell", found["reason"])


def test_two_repeats_that_lose_a_task_are_no_verdict() -> None:
    """Two repeats can't rule out chance, also where each loses a task; the sentence does not contradict itself."""
    found = losing({2: (2, 1)}, workers=(0, 2), repeats=2)["recommendation"]
    assert found["workers"] is None
    assert "2 repeats can't rule out chance, 4 can" in found["reason"]


def test_a_study_whose_tasks_may_be_lost_by_chance_goes_on() -> None:
    """While only chance may have lost the tasks of the one point, there is something that further repeats may tell."""
    often = {2: (4, 1), 0: (2, 1)}
    _, points = found = estimate_points(lose(often, (0, 2), 4), physical_cores=4, cpus_per_task=1)
    assert points[0].rates == ()
    assert verdict_ratio(points, found[0], physical_cores=4) == Estimate(1.0, None)


def test_a_choice_is_of_a_point_whose_typical_repeat_is_whole() -> None:
    """A number of workers most of whose repeats did half of the work is neither the quickest nor the cheapest."""
    found = losing({4: (3, 100)}, workers=(0, 2, 4), repeats=5)["recommendation"]
    assert {choice["workers"] for choice in found["choices"]} <= {0, 2}


def test_who_takes_no_part_in_the_choices_by_chance_is_named() -> None:
    """The choices are among the points whose typical repeat completed most; others may be faster, so they are named."""
    told = losing({0: (6, 3), 2: (6, 2)})["recommendation"]["reason"]
    words = (
        "the choices by goal leave out the sequential program, 2 workers: their typical repeat completed fewer tasks"
    )
    assert words in told
    assert "by goal" not in losing({0: (1, 3), 2: (1, 2)})["recommendation"]["reason"]
