"""The numbers of workers that goals choose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.sample_study import study, summarise

from dfz_ray.scaling.choices import Choice, Goals, choose
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.number_texts import show_interval
from dfz_ray.scaling.point import estimate_points
from dfz_ray.scaling.report import render_report

WALLS = {0: 100.0, 1: 105.0, 2: 55.0, 4: 30.0, 8: 25.0}


def measured(repeats: int = 6, walls: dict[int, float] = WALLS, **changes: object) -> list[Measurement]:
    """A study on eight cores whose trials take the seconds given, and a percent more with each repeat."""
    trials = study(workers=tuple(walls), repeats=repeats, **changes)
    return [one.__class__(**{**vars(one), "wall_s": walls[one.workers] * (1 + 0.01 * one.repeat)}) for one in trials]


def chosen(goals: Goals, trials: list[Measurement]) -> dict[str, Choice]:
    baseline, points = estimate_points(trials, physical_cores=8, cpus_per_task=1.0)
    return {choice.goal: choice for choice in choose(points, baseline, goals)}


def test_each_goal_has_its_number() -> None:
    """The most efficient workers, the least time and the least cost are different numbers."""
    found = chosen(Goals(), measured())
    assert {goal: choice.workers for goal, choice in found.items()} == {"efficient": 4, "fastest": 8, "cheapest": 0}
    assert found["efficient"].efficiency is not None
    assert 0.8 < found["efficient"].efficiency < 0.85
    low, high = found["efficient"].efficiency_ci95 or (1.0, 0.0)
    assert low <= found["efficient"].efficiency <= high
    assert chosen(Goals(efficiency=0.9), measured())["efficient"].workers == 2
    assert chosen(Goals(efficiency=0.99), measured())["efficient"].workers is None


def test_a_deadline_takes_the_cheapest_that_always_met_it() -> None:
    """The cheapest number is taken whose every repeat lies within the deadline."""
    for repeats in (4, 6):
        within = {
            deadline: chosen(Goals(deadline_s=deadline), measured(repeats))["deadline"].workers
            for deadline in (200.0, 60.0, 31.6, 27.0, 20.0)
        }
        assert within == {200.0: 0, 60.0: 2, 31.6: 4, 27.0: 8, 20.0: None}
    assert chosen(Goals(deadline_s=31.0), measured())["deadline"].workers == 8  # the last repeat took 31.5 s
    late = {(4, 12): 70.0, (4, 13): 75.0, (4, 14): 80.0}
    trials = [replace(one, wall_s=late.get((one.workers, one.repeat), one.wall_s)) for one in measured(15)]
    assert (
        chosen(Goals(deadline_s=60.0), trials)["deadline"].workers == 8
    )  # the median of 4 workers is surely within 35 s


def test_a_trial_that_failed_meets_no_deadline() -> None:
    """A number of workers of which a trial failed, or lost tasks that others complete, did not meet the deadline."""
    for change in ({"error": "the node died", "completed": 0}, {"completed": 39, "failed": 1}):
        hit = [
            replace(one, **change) if one.workers == 4 and one.repeat < 3 else one  # type: ignore[arg-type]
            for one in measured()
        ]
        assert chosen(Goals(deadline_s=31.6), measured())["deadline"].workers == 4
        assert chosen(Goals(deadline_s=31.6), hit)["deadline"].workers == 8
    always = [replace(one, completed=39, failed=1) for one in measured()]
    assert (
        chosen(Goals(deadline_s=31.6), always)["deadline"].workers == 4
    )  # what fails everywhere tells no points apart


def test_a_price_is_that_of_the_cores_that_are_held() -> None:
    """Workers hold their cores for the wall time; more workers than cores hold the cores that there are."""
    walls = {**WALLS, 32: 5.0}
    baseline, points = estimate_points(measured(walls=walls), physical_cores=8, cpus_per_task=1.0)
    (fastest,) = [one for one in choose(points, baseline, Goals(price=3.6)) if one.goal == "fastest"]
    assert fastest.workers == 32
    assert fastest.core_hours is not None
    assert round(fastest.core_hours * 3600 / 5.125, 6) == 8
    assert fastest.price == 3.6 * fastest.core_hours
    assert fastest.describe().startswith("least time for the work: 32 workers, 5.12 s (5 to 5.25), 0.0114 core-hours")
    assert fastest.price_ci95 is not None
    assert fastest.describe().endswith(f"price 0.041 ({fastest.price_ci95[0]:.3g} to {fastest.price_ci95[1]:.3g})")


def test_a_choice_of_few_repeats_says_why_it_has_no_interval() -> None:
    """Five repeats give a speedup an interval, and a median none."""
    few = [one for one in measured() if one.repeat < 5]
    fastest = chosen(Goals(price=3.6), few)["fastest"]
    assert (fastest.wall_s_ci95, fastest.price_ci95) == (None, None)
    assert fastest.describe().endswith(", without intervals of times: 6 repeats give one, these are of 5 repeats")


def test_a_sequential_program_that_loses_tasks_is_no_choice() -> None:
    """The sequential program that completes fewer tasks than workers do costs least only because it does less."""
    for completed in (0, 20):
        fast = [
            one.__class__(**{**vars(one), "wall_s": 1.0, "completed": completed}) if not one.workers else one
            for one in measured()
        ]
        found = chosen(Goals(deadline_s=200.0), fast)
        workers = {goal: choice.workers for goal, choice in found.items()}
        assert workers == {"efficient": None, "fastest": 8, "cheapest": 1, "deadline": 1}


def test_an_efficiency_that_cannot_be_is_no_choice() -> None:
    """If something else slowed the sequential program, it is no choice, nor is an efficiency; times and costs are."""
    slowed = {**WALLS, 0: 330.0}
    choices = summarise(measured(walls=slowed), physical_cores=8)["recommendation"]["choices"]
    assert {one["goal"]: one["workers"] for one in choices} == {"efficient": None, "fastest": 8, "cheapest": 1}
    assert [one["efficiency"] for one in choices] == [None] * 3


def test_an_efficiency_that_cannot_be_at_another_point_is_in_the_verdict() -> None:
    """Whichever point has an efficiency that can't be, verdict and choices say the same; also one of the other mode."""
    slowed = measured(walls={0: 12.0, 1: 4.0, 2: 3.9, 4: 3.0, 8: 2.0})
    found = summarise(slowed, physical_cores=8)["recommendation"]
    assert found["workers"] is None
    assert found["reason"].startswith(
        "can't tell: 1 worker reaches 3.00x the sequential program, an efficiency of 300 %, which can't be"
    )
    assert [one["efficiency"] for one in found["choices"]] == [None] * 3
    threads = [replace(one, mode="threads", wall_s=1.5 * one.wall_s + 3) for one in slowed if one.workers]
    both = [*slowed, *(replace(one, order=one.order + len(slowed)) for one in threads)]
    found = summarise(both, physical_cores=8, mode="processes and threads")["recommendation"]
    assert found["workers"] is None


def test_the_summary_has_the_choices() -> None:
    """summary.json has a choice for each goal, in plain values."""
    summary = summarise(measured(), physical_cores=8, goals=Goals(price=0.05, deadline_s=60.0))
    choices = summary["recommendation"]["choices"]
    assert [choice["goal"] for choice in choices] == ["efficient", "fastest", "cheapest", "deadline"]
    assert all(isinstance(choice["core_hours_ci95"], list) for choice in choices)
    assert summary["price"] == 0.05
    assert [point["core_hours"] is not None for point in summary["points"]] == [True] * 4


def test_with_weak_scaling_time_and_cost_say_of_which_batch_they_are() -> None:
    """The time of a number of workers is that of its grown batch, its cost that of one batch."""
    trials = [
        replace(one, tasks=40 * max(one.workers, 1), completed=40 * max(one.workers, 1), wall_s=9.0 + 0.01 * one.repeat)
        for one in study(workers=(0, 2), repeats=6)
    ]
    fastest = chosen(Goals(price=2.0), trials)["fastest"]
    assert (fastest.workers, fastest.batches) == (2, 2)
    assert "9.02 s for 2 batches (9 to 9.05), 0.00251 core-hours for one (" in fastest.describe()
    assert "price 0.00501 for one (" in fastest.describe()
    assert "for one" not in chosen(Goals(price=2.0), measured())["fastest"].describe()
    page = render_report(summarise(trials, scaling="weak"), trials)
    assert "Times are those of the batch as it has grown with the workers, costs those of one batch." in page
    assert "has grown with the workers, costs" not in render_report(summarise(study()), study())


def test_prices_on_the_page_have_their_intervals() -> None:
    """A price has the interval of its core-hours, in the table of goals and in that of costs."""
    trials = measured()
    summary = summarise(trials, physical_cores=8, goals=Goals(price=3.3))
    page = render_report(summary, trials)
    (cheapest,) = [one for one in summary["recommendation"]["choices"] if one["goal"] == "cheapest"]
    low, high = cheapest["price_ci95"]
    assert (low, high) == pytest.approx([3.3 * end for end in summary["baseline"]["core_hours_ci95"]])
    assert page.count(show_interval([low, high])) == 2
