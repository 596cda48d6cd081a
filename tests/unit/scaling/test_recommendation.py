"""The sentence that says how many workers to use."""

from __future__ import annotations

import re

import pytest
from support.sample_points import advise, advised, failed, point

from dfz_ray.scaling.estimate import Estimate
from dfz_ray.scaling.evidence import warn_of_answers
from dfz_ray.scaling.point import Point
from dfz_ray.scaling.recommendation import Recommendation, recommend


def test_the_smallest_number_close_to_the_peak_is_recommended() -> None:
    """More workers that bring less than 5 % are not recommended, and the sentence says what they would bring."""
    assert advised(point(1, 0.95), point(2, 1.86), point(4, 1.92)) == (
        2,
        "use 2 workers: 97 % (94 to 99.8 %) of the peak throughput (1.86x the sequential program); "
        "doubling to 4 buys 3 % (0.2 to 6 %)",
    )


def test_more_workers_than_the_peak_cost() -> None:
    """Where throughput falls again the peak is recommended, with what the next step would lose."""
    assert advised(point(1, 0.95), point(4, 3.4), point(6, 3.06)) == (
        4,
        "use 4 workers: the highest throughput measured (3.40x the sequential program); "
        "going to 6 loses 10 % (7 to 13 %)",
    )


def test_work_that_does_not_get_faster_is_not_parallelised() -> None:
    """Where no point is faster than the sequential program the answer is 0 workers."""
    assert advised(point(1, 0.5), point(2, 0.8)) == (
        0,
        "don't parallelise this: the best point, 2 workers, reaches 0.80x the sequential program "
        "(95 % interval 0.78 to 0.82)",
    )


def test_a_gain_within_the_noise_is_none_that_can_be_told() -> None:
    """Where the interval reaches below and above 1 nothing is recommended, and the sentence says what would tell."""
    advice = advise(point(1, 0.9), point(2, 1.1, spread=0.3))
    assert advice.workers is None
    assert advice.reason.startswith("can't tell: the best point, 2 workers, reaches 1.10x the sequential program")
    assert re.search(r"about \d+ repeats would tell", advice.reason)


def test_a_gain_that_is_surely_small_is_not_worth_a_cluster() -> None:
    """A speedup whose whole interval is below 1.05 is refused, even if it may be above 1."""
    advice = advise(point(1, 0.9), point(2, 1.01, spread=0.02))
    assert advice.workers == 0
    assert advice.reason.startswith("don't parallelise this")


def test_everything_that_weakens_the_evidence_is_in_the_sentence() -> None:
    """A busy host, workers that died and slots that the cluster lacked are told, whatever is recommended."""
    busy = "the host was busy with other work (a load of 30 on 2 cores)"
    for points in ([point(2, 1.9)], [point(2, 1.1, spread=0.3)], [point(2, 0.9)]):
        assert busy in advise(*points, baseline=point(0, other_load=30.0)).reason
        assert busy in advise(*points, point(4, 0.5, other_load=30.0)).reason
        assert "3 workers died in the trials with 4 workers" in advise(*points, point(4, 0.5, workers_lost=3)).reason
        unserved = advise(*points, point(4, 0.5, served=2)).reason
        assert "the cluster could run only 2 of 4 workers at once" in unserved
    assert "busy" not in advise(point(2, 1.9, other_load=0.9)).reason


def test_an_efficiency_that_cannot_be_is_no_finding() -> None:
    """If workers surely do more than half as much again as they can, the study can't tell; a little more is told."""
    advice = advise(point(2, 6.02))
    assert advice.workers is None
    assert advice.reason.startswith("can't tell: 2 workers reach 6.02x the sequential program, an efficiency of 301 %")
    advice = advise(point(2, 2.4))
    assert advice.workers == 2
    assert "an efficiency of 120 % says that the sequential program was slowed" in advice.reason
    advice = advise(point(2, 2.4), point(4, 4.4))
    assert advice.workers == 4
    assert "an efficiency of 120 % with 2 workers says that the sequential program was slowed" in advice.reason


def test_an_interval_on_both_sides_of_one_is_no_verdict() -> None:
    """An interval of 0.77 to 1.53 says neither use workers nor don't; the reason says how many repeats would tell."""
    speedup = Estimate(1.09, (0.77, 1.53))
    advice = advise(point(1, 0.7), point(2, 1.09, speedup=speedup, least_speedup=0.77, repeats=5))
    assert advice.workers is None
    assert "(95 % interval 0.77 to 1.53); about 82 repeats would tell" in advice.reason
    close = Estimate(1.05, (0.9, 1.2))
    assert "no number of repeats" not in advise(point(2, 1.05, speedup=close, least_speedup=0.9)).reason


@pytest.mark.parametrize(("speedup", "limit"), [(Estimate(1.1, (0.4, 1.8)), "1"), (Estimate(1.0, (0.3, 3.0)), "1.05")])
def test_too_many_repeats_to_tell_are_no_impossibility(speedup: Estimate, limit: str) -> None:
    """Where the times vary too much for any study the sentence says so, with the limit that repeats would exclude."""
    least = speedup.ci95[0] if speedup.ci95 else None
    made = {"repeats": 15, "rates": (10.0,) * 15}
    noisy = point(2, speedup.value, speedup=speedup, least_speedup=least, **made)
    reason = advise(noisy, baseline=point(0, **made)).reason
    assert f"more than 1,000 repeats would be needed to tell the speedup from {limit}" in reason
    assert "no number of repeats" not in reason


def test_too_many_repeats_to_tell_points_apart_are_named_without_a_baseline() -> None:
    """Without a sequential program the sentence says as well that nobody would make so many repeats."""
    nothing = {"speedup": None, "efficiency": None}
    wild = [point(n, rates=tuple(n * rate for rate in (0.1, 1.0, 8.0, 9.0, 90.0)), **nothing) for n in (5, 6)]
    reason = advise(*wild, baseline=None).reason
    assert "more than 1,000 repeats would be needed to tell the two apart" in reason


def test_a_look_at_many_points_makes_a_gain_by_chance_likely() -> None:
    """A point whose own interval lies above 1 is no finding if one of so many points would be there by chance."""
    lucky = point(2, 1.1, speedup=Estimate(1.1, (1.01, 1.2)), least_speedup=0.98)
    assert advise(lucky).workers is None
    points = [point(n, 1.2, rates=(12.0,) * 4, least_speedup=None, comparisons=4) for n in (2, 3, 4, 5)]
    few = advise(*points, baseline=point(0, rates=(10.0,) * 4))
    assert few.workers is None
    assert "4 repeats can't rule out chance, 5 can" in few.reason


def test_the_reason_against_workers_is_told() -> None:
    """Where workers don't pay the sentence says where their time goes, and what would change it."""
    losses = {"useful": 1.0, "slower_work": 0.0, "imbalance": 0.5, "dispatch": 8.0, "ramp_up": 0.5, "drain": 0.0}
    advice = advise(point(2, 0.2, losses=losses))
    assert advice.workers == 0
    assert (
        "80 % of the workers' time goes to dispatch; tasks 85 times as long (64 to 125) would reach 1.25x"
        in advice.reason
    )


def test_work_that_waits_is_told_of_threads() -> None:
    """If the sequential program waits for most of its time, one core can run many tasks on threads."""
    advice = advise(point(8, 7.5, oversubscribed=True), baseline=point(0, cpu_share=0.02))
    assert advice.workers == 8
    assert "tasks wait for 98 % of their time, so one core could also run them on threads or asyncio" in advice.reason
    assert "oversubscribed" not in advice.reason
    assert "threads" not in advise(point(2, 1.9), baseline=point(0, cpu_share=0.97)).reason


def test_remarks_on_the_whole_study_end_the_sentence() -> None:
    """A remark is the last clause."""
    advice = recommend([point(2, 1.9)], point(0), physical_cores=2, remarks=["the 3 nodes share one host"])
    assert advice.reason.endswith("; the 3 nodes share one host")


def test_a_throughput_that_still_climbs_has_not_reached_its_peak() -> None:
    """Where the largest number measured is clearly the best, the sentence says that the peak lies beyond."""
    advice = advise(point(1, 0.98), point(2, 1.9), point(4, 3.8))
    assert advice.workers == 4
    assert "still climbs at 4 workers, 100 % (94 to 106 %) above 2, so the peak was not reached" in advice.reason


def test_a_climb_within_the_noise_is_only_possible() -> None:
    """Where the intervals of the last points overlap the sentence says that throughput may still climb."""
    assert "may still climb at 4 workers" in advise(point(2, 1.9, spread=0.2), point(4, 2.3, spread=0.2)).reason


def test_a_climb_in_small_steps_is_still_a_climb() -> None:
    """Small steps between the last points don't pass for a plateau."""
    advice = advise(point(16, 15.5), point(31, 29.0), point(32, 30.0))
    assert advice.workers == 31
    assert "still climbs at 32 workers, 94 % (88 to 99 %) above 16" in advice.reason


def test_one_point_says_nothing_of_the_peak() -> None:
    """With a single point the sentence says that where the peak lies is unknown."""
    assert advised(point(4, 3.0)) == (
        4,
        "use 4 workers: the only point measured, so where the peak lies is unknown (3.00x the sequential program)",
    )


def test_a_point_alone_without_a_baseline_gives_no_advice() -> None:
    """One point and no sequential program can't be compared with anything, and nothing is recommended."""
    advice = advise(point(4, 3.0, speedup=None, efficiency=None), baseline=None)
    assert advice.workers is None
    assert "nothing to compare 4 workers (30 tasks/s) with" in advice.reason


def test_without_a_baseline_points_are_compared_with_each_other() -> None:
    """Without the sequential program the peak is known, but not whether workers pay at all; both are said."""
    points = [point(n, s, speedup=None, efficiency=None) for n, s in ((1, 1.0), (2, 1.9), (4, 1.95))]
    advice = advise(*points, baseline=None)
    assert advice.workers == 2
    assert "97 % (95 to 100 %) of the peak throughput (19 tasks/s)" in advice.reason
    assert "whether workers pay at all is unknown" in advice.reason


def test_without_a_baseline_chance_is_ruled_out_as_well() -> None:
    """Without the sequential program a number of workers must surely be faster than the smallest one."""

    def told(spread: float | None, *ratios: float) -> Recommendation:
        pairs = zip((1, 2, 4), ratios, strict=True)
        return advise(*(point(n, s, spread, speedup=None, efficiency=None) for n, s in pairs), baseline=None)

    once = told(None, 1.0, 1.01, 1.14)
    assert once.workers is None
    assert once.reason.startswith(
        "can't tell: the best point, 4 workers, reaches 11.4 tasks/s, and 1 repeat can't rule out chance, 4 can"
    )
    assert "whether workers pay at all is unknown" in once.reason
    noisy = told(0.3, 1.0, 1.01, 1.14)
    assert noisy.workers is None
    assert re.search(
        r"1\.14x that of 1 worker \(95 % interval 0.\d+ to \d.\d+\); about \d+ repeats would tell", noisy.reason
    )
    assert told(0.02, 1.0, 0.9, 0.8).workers == 1
    assert told(0.02, 1.0, 1.01, 1.14).workers == 4


@pytest.mark.parametrize("completed", [0.0, 0.5])
def test_a_sequential_program_that_loses_tasks_is_no_measure(completed: float) -> None:
    """If workers complete tasks that fail in the sequential program, points are compared with each other alone."""
    baseline = point(0, 4.0, success_rate=completed, loses_more=True)
    points = [point(1, 1.0), point(2, 1.9), point(4, 9.0, success_rate=0.5, loses_more=True)]
    advice = advise(*points, baseline=baseline)
    assert advice.workers == 2
    lost = f"the sequential program did not complete {100 - 100 * completed:.0f} % of the tasks"
    assert f"{lost}, so whether workers pay at all is unknown" in advice.reason
    assert "left out: 4 workers (50 % of the tasks did not complete, 0 % at the best point)" in advice.reason


def test_a_single_repeat_tells_nothing() -> None:
    """Where nothing was repeated chance is not ruled out: nothing is recommended, whatever the speedup."""
    advice = advise(point(1, 0.9, None), point(2, 1.8, None), baseline=point(0, spread=None))
    assert advice.workers is None
    assert "reaches 1.80x the sequential program, and 1 repeat can't rule out chance, 4 can" in advice.reason


def test_oversubscribed_and_unserved_points_are_recommended_only_with_a_remark() -> None:
    """A recommendation beyond the cores, or beyond the slots that the cluster could run, says so."""
    advice = advise(point(1, 1.0), point(4, 2.3, oversubscribed=True, served=3))
    assert advice.workers == 4
    assert "oversubscribed: 4 workers share 2 physical cores" in advice.reason
    assert "the cluster could run only 3 of 4 workers at once" in advice.reason


def test_changed_answers_come_first() -> None:
    """A study whose digests differ opens with a warning that names the points."""
    points = [point(1, 0.9), point(2, 1.9, digests=("other",)), point(4, 2.0, digests=("same", "third"))]
    assert advise(*points).workers == 2
    assert warn_of_answers(points, point(0)) == (
        "WARNING, the answers changed: the digest at 2 workers is not that of the baseline "
        "and the digest changed between repeats of 4 workers. Apart from that: "
    )
    assert warn_of_answers([point(2)], point(0)) == ""


def test_a_point_that_loses_tasks_takes_no_part() -> None:
    """A point that is fast because tasks fail there is left out, and the sentence says why."""
    advice = advise(point(1, 0.9), point(2, 1.9), point(4, 9.0, success_rate=0.97, loses_more=True))
    assert advice.workers == 2
    assert "left out: 4 workers (3 % of the tasks did not complete, 0 % in the sequential program)" in advice.reason


def test_tasks_that_fail_everywhere_alike_are_no_obstacle() -> None:
    """Tasks that fail in the sequential program too don't keep a point from being recommended."""
    advice = advise(point(2, 1.9, success_rate=0.9), baseline=point(0, success_rate=0.9))
    assert advice.workers == 2


def test_points_at_which_every_trial_failed_are_named() -> None:
    """A point without any trial that ended is left out by name."""
    advice = advise(point(2, 1.9), failed(4))
    assert advice.workers == 2
    assert "left out: 4 workers (every trial failed)" in advice.reason


@pytest.mark.parametrize("points", [(), (failed(2), failed(4))])
def test_nothing_measured_is_nothing_recommended(points: tuple[Point, ...]) -> None:
    """Without any trial that ended there is no recommendation."""
    advice = advise(*points)
    assert advice.workers is None
    assert advice.reason.startswith("nothing to recommend")


def test_tasks_that_only_fail_with_workers_stay_sequential() -> None:
    """Where every number of workers loses tasks that the sequential program completes, the answer is 0 workers."""
    lossy = [point(2, 1.9, success_rate=0.5, loses_more=True), point(4, 3.0, success_rate=0.0, loses_more=True)]
    advice = advise(*lossy)
    assert advice.workers == 0
    assert "50 % of the tasks did not complete" in advice.reason
    assert "4 workers (no task completed)" in advice.reason


def test_noise_excuses_only_a_little() -> None:
    """A wide interval makes a point as good as the peak only if the point itself is within 10 % of it."""
    assert advise(point(2, 1.85, spread=0.2), point(4, 2.0)).workers == 2
    assert advise(point(2, 1.7, spread=0.2), point(4, 2.0)).workers == 4


def test_trials_that_failed_at_the_recommended_point_are_told() -> None:
    """Failed trials of the recommended point are in the sentence."""
    assert "2 of 7 trials with 2 workers failed" in advise(point(2, 1.9, errors=("lost", "lost"))).reason
