"""summary.json: what a study measured, summed up."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from support.sample_study import DIGEST, both_modes, study, summarise, trial
from support.sample_timelines import study_with_timelines

from dfz_ray.scaling.report import render_report


def test_the_summary_has_the_promised_keys_in_the_promised_order() -> None:
    """Scripts find every promised key of summary.json, in order, with what was not measured as null."""
    summary = json.loads(json.dumps(summarise(study()), allow_nan=False))
    promised = ["schema_version", "host", "batch", "mode", "baseline", "points", "fits", "recommendation"]
    assert list(summary)[: len(promised)] == promised
    assert summary["schema_version"] == 1
    assert summary["batch"] == {"domains": ["maze", "quantum"], "count": 40, "digest": DIGEST}
    assert list(summary["baseline"])[:3] == ["wall_s", "wall_s_ci95", "repeats"]
    assert list(summary["fits"])[:2] == ["amdahl", "usl"]
    assert summary["fits"]["amdahl"] is summary["fits"]["usl"] is None
    assert summary["fits"]["reason"].startswith("a law needs 5 numbers of workers, and 2 were measured")
    assert list(summary["recommendation"])[:2] == ["workers", "reason"]
    keys = ["workers", "wall_s", "wall_s_ci95", "speedup", "speedup_ci95", "efficiency", "tasks_per_s"]
    keys += ["avg_concurrency", "max_concurrency", "success_rate", "digest", "served", "oversubscribed", "losses"]
    for point in summary["points"]:
        assert list(point)[: len(keys)] == keys
        assert point["losses"] is None
        low, high = point["speedup_ci95"]
        assert low <= point["speedup"] <= high


def test_the_summary_says_what_was_measured() -> None:
    """Times, speedups, rates and marks of a study with known times are the known ones."""
    summary = summarise(study())
    assert summary["baseline"]["wall_s"] == pytest.approx(8.12)
    assert summary["baseline"]["repeats"] == 4
    assert [point["workers"] for point in summary["points"]] == [1, 2, 4]
    assert [point["speedup"] for point in summary["points"]] == pytest.approx([1, 2, 4])
    assert [point["efficiency"] for point in summary["points"]] == pytest.approx([1, 1, 1])
    assert [point["tasks_per_s"] for point in summary["points"]] == pytest.approx(
        [40 / 8 * median(1 / (1 + 0.01 * repeat) for repeat in range(4)) * n for n in (1, 2, 4)]
    )
    assert [point["oversubscribed"] for point in summary["points"]] == [False, False, True]
    assert summary["recommendation"]["workers"] == 4
    assert summary["digests_equal"] is True
    assert summary["created"] == "2025-06-15T15:06:40+00:00"


def test_the_order_of_the_trials_changes_nothing() -> None:
    """A summary depends on the trials, not on the order in which they are handed over."""
    trials = study()
    assert summarise(trials) == summarise(trials[::-1])


def test_without_a_baseline_there_is_no_speedup() -> None:
    """A study without the sequential program has null for every speedup and efficiency."""
    summary = summarise(study(workers=(4,)))
    (point,) = summary["points"]
    assert summary["baseline"]["wall_s"] is None
    assert summary["baseline"]["repeats"] == 0
    assert point["speedup"] is point["speedup_ci95"] is point["efficiency"] is None
    assert point["wall_s"] == pytest.approx(2.03)
    assert summary["batch"]["digest"] == DIGEST


def test_failed_trials_are_told_and_do_not_count() -> None:
    """A trial that failed as a whole is listed with its error, and its time is in no median."""
    trials = [*study(), trial(2, 3, 12, wall_s=0.1, completed=0, digest=None, error="node lost")]
    point = summarise(trials)["points"][1]
    assert point["errors"] == ["node lost"]
    assert point["repeats"] == 4
    assert point["wall_s"] == pytest.approx(4.06)
    assert point["success_rate"] == 1.0


def test_a_point_at_which_every_trial_failed_is_null() -> None:
    """Where nothing came to its end the point stays in the summary, with nulls."""
    trials = [*study(workers=(0, 2)), *study(workers=(4,), error="lost", digest=None, completed=0)]
    point = summarise(trials)["points"][1]
    assert point["workers"] == 4
    assert point["errors"] == ["lost"] * 4
    for key in ("wall_s", "wall_s_ci95", "speedup", "efficiency", "tasks_per_s", "success_rate", "digest"):
        assert point[key] is None


def test_no_completed_task_is_no_speedup() -> None:
    """A point at which every task failed quickly is not called fast."""
    summary = summarise([*study(workers=(0,)), *study(workers=(2,), wall_s=0.01, completed=0, failed=40)])
    (point,) = summary["points"]
    assert point["speedup"] is None
    assert point["tasks_per_s"] == 0
    assert point["success_rate"] == 0
    assert summary["recommendation"]["workers"] == 0


def test_less_work_is_no_baseline() -> None:
    """A sequential program that completes half of the tasks in a quarter of the time gives no speedup."""
    part = study(workers=(0,), wall_s=2.0, completed=20, failed=20, digest=None)
    summary = summarise([*part, *study(workers=(1, 2))])
    assert [point["speedup"] for point in summary["points"]] == [None, None]
    assert summary["recommendation"]["workers"] == 2
    assert "the sequential program did not complete 50 % of the tasks" in summary["recommendation"]["reason"]
    alike = summarise([*part, *study(workers=(1, 2), completed=20, failed=20, wall_s=1.0)])
    assert [point["speedup"] for point in alike["points"]] == pytest.approx([2.0, 2.0])


def test_digests_that_differ_are_told_apart() -> None:
    """Other answers at one point leave the batch's digest; other answers between repeats leave none."""
    changed = summarise([*study(workers=(0, 1)), *study(workers=(2,), digest="cd" * 32)])
    assert changed["batch"]["digest"] == DIGEST
    assert changed["digests_equal"] is False
    assert changed["points"][1]["digest"] == "cd" * 32
    unstable = summarise([*study(), trial(2, 3, 12, digest="cd" * 32)])
    assert unstable["batch"]["digest"] is None
    assert unstable["digests_equal"] is False
    assert unstable["points"][1]["digest"] is None
    assert unstable["recommendation"]["reason"].startswith("WARNING")
    assert summarise([trial(2)])["digests_equal"] is None


def test_both_modes_are_told_apart() -> None:
    """Where two modes were measured each has its points, and the better one of them is recommended, with its mode."""
    summary = summarise(both_modes(), mode="processes and threads")

    points = [(point["workers"], point["mode"]) for point in summary["points"]]
    assert points == [(number, mode) for number in (1, 2, 4) for mode in ("processes", "threads")]
    assert [point["speedup"] for point in summary["points"]] == pytest.approx([0.5, 1, 1, 2, 2, 4])
    recommended = summary["recommendation"]
    assert (recommended["workers"], recommended["mode"]) == (4, "threads")
    assert recommended["reason"].startswith("with threads: use 4 workers")
    assert "with processes: 50 % (49 to 51 %) of that throughput" in recommended["reason"]


def test_the_lacks_of_the_other_mode_are_told() -> None:
    """Workers that died, and slots that it lacked, are told of the mode that is not recommended as well."""
    trials = [
        replace(one, workers_lost=1, served=2) if (one.workers, one.mode) == (4, "processes") else one
        for one in both_modes()
    ]
    reason = summarise(trials, mode="processes and threads")["recommendation"]["reason"]
    told = reason.partition("with processes: ")[2]
    assert "5 workers died in the trials with 4 workers; the cluster could run only 2 of 4 workers at once" in told


def modes(processes: float, threads: float, noise: float = 0.0) -> dict[str, Any]:
    """The recommendation where two workers take so many times as long as the sequential program, with so much noise."""
    trials = study(workers=(0,), repeats=6)
    for mode, factor in (("processes", processes), ("threads", threads)):
        mine = study(workers=(2,), repeats=6, mode=mode)
        trials += [replace(one, wall_s=8.0 * factor * (1 + noise * (one.repeat - 2.5))) for one in mine]
    found: dict[str, Any] = summarise(trials, mode="processes and threads")["recommendation"]
    return found


def test_of_two_modes_one_that_cannot_be_told_leaves_the_study_open() -> None:
    """Where processes don't pay and threads may, nothing is recommended; where threads surely pay, they are."""
    unsure = modes(processes=2.0, threads=1.0, noise=0.1)
    assert (unsure["workers"], unsure["mode"]) == (None, None)
    assert unsure["reason"].startswith("with threads: can't tell: ")
    assert "; with processes: don't parallelise this: " in unsure["reason"]
    surely = modes(processes=1.0, threads=0.4, noise=0.1)
    assert (surely["workers"], surely["mode"]) == (2, "threads")
    neither = modes(processes=2.0, threads=2.0)
    assert (neither["workers"], neither["mode"]) == (0, None)


def test_answers_that_changed_in_either_mode_are_told() -> None:
    """The warning is about the points of both modes, also where the reason is about the better one."""
    trials = [replace(one, digest="cd" * 32) if one.mode == "processes" and one.workers == 2 else one
              for one in both_modes()]  # fmt: skip
    reason = summarise(trials, mode="processes and threads")["recommendation"]["reason"]
    assert reason.startswith("WARNING, the answers changed: the digest at 2 workers on processes is not that of the "
                             "baseline. Apart from that: with threads: use 4 workers")  # fmt: skip
    assert reason.count("WARNING") == 1


def test_the_losses_of_a_point_are_those_of_its_median_trial() -> None:
    """Losses add up to workers x wall time of one trial, and come with advice and POP's ratios."""
    split = {"in_tasks": 7.6, "imbalance": 0.2, "handling": 0.04, "dispatch": 0.06, "ramp_up": 0.12, "drain": 0.1}
    summary = summarise([*study(workers=(0,)), *study(workers=(2,), split=split)])
    (point,) = summary["points"]
    losses = point["losses"]
    assert sum(losses["slot_s"].values()) == pytest.approx(8.12)
    assert losses["slot_s"]["useful"] == pytest.approx(7.5)
    assert losses["largest"] == "imbalance"
    assert losses["pop"]["global_efficiency"] == pytest.approx(7.5 / 8.12)


def test_on_threads_slower_work_has_no_parts() -> None:
    """The CPU time of a task on a thread lacks that of native pools and of programs, so it is not compared."""
    split = {"in_tasks": 9.5, "imbalance": 0.0, "handling": 0.0, "dispatch": 0.1, "ramp_up": 0.1, "drain": 0.1}
    for mode, reason in (
        ("processes", None),
        ("threads", "on threads a task's CPU time is that of its own thread alone"),
    ):
        points = [replace(one, mode=mode) for one in study(workers=(2,), split=split, cpu_s=2.0)]
        (point,) = summarise([*study(workers=(0,), cpu_s=7.5), *points], mode=mode)["points"]
        assert (point["losses"]["slower_s"] is None) == (mode == "threads")
        assert (point["losses"]["slower_reason"] or "").startswith(reason or "")
        assert (point["losses"]["slower_reason"] is None) == (reason is None)
        assert ("free core" in point["losses"]["advice"]) == (mode == "processes")


def test_the_page_says_why_slower_work_has_no_parts() -> None:
    """The note below the losses has the reason, where a point has one."""
    trials = [replace(one, mode="threads" if one.workers else None, cpu_s=1.0) for one in study_with_timelines()]
    assert "on threads a task" in render_report(summarise(trials, mode="threads"), trials).replace("&#39;", "'")
    whole = study_with_timelines()
    assert "on threads a task" not in render_report(summarise(whole), whole)


def test_slots_that_the_cluster_lacked_are_no_long_tasks() -> None:
    """Where the cluster could run two of four slots, the advice on idle slots is about the cluster, not about tasks."""
    split = {"in_tasks": 7.5, "imbalance": 8.0, "handling": 0.0, "dispatch": 0.2, "ramp_up": 0.1, "drain": 0.1}
    for served, words in ((2, "the cluster could not run all slots at once"), (4, "split the longest tasks")):
        (point,) = summarise([*study((0,)), *study((4,), split=split, served=served)])["points"]
        assert words in point["losses"]["advice"]


def test_a_law_is_fitted_where_there_are_enough_points() -> None:
    """With a core for each of six numbers of workers the summary has both laws, and the one that fits better."""
    summary = summarise(study(workers=(0, 1, 2, 3, 4, 6, 8)), physical_cores=8)
    assert summary["fits"]["reason"] is None
    assert summary["fits"]["chosen"] == "amdahl"
    assert summary["fits"]["amdahl"]["serial"] == pytest.approx(0, abs=1e-6)
    assert summary["fits"]["usl"]["peak"] is None


@pytest.mark.parametrize("completed", [0, 39])
def test_points_that_lose_tasks_are_in_no_law(completed: int) -> None:
    """A point that the recommendation leaves out, or at which no task completed, is not fitted; the others are."""
    changes = {"wall_s": 0.1, "completed": completed, "failed": 40 - completed, "digest": None}
    trials = [*study(workers=(0, 2, 3, 4, 6, 8)), *study(workers=(1,), **changes)]
    fits = summarise(trials, physical_cores=8)["fits"]
    assert fits["workers"] == [2, 3, 4, 6, 8]
    assert fits["amdahl"]["serial"] == pytest.approx(0, abs=1e-6)
    few = summarise([one for one in trials if one.workers != 8], physical_cores=8)["fits"]
    assert few["reason"].endswith("4 were measured with a core for each worker (8 cores), without those left out")


def test_on_threads_the_share_of_cpu_time_is_not_known() -> None:
    """A thread's CPU time lacks that of native pools and of programs that its task calls: the share is null."""
    summary = summarise([replace(one, cpu_s=0.01) for one in both_modes()])
    shares = {(point["workers"], point["mode"]): point["cpu_share"] for point in summary["points"]}
    assert {mode for (_, mode), share in shares.items() if share is None} == {"threads"}
    assert summary["baseline"]["cpu_share"] == pytest.approx(0.01 / 7.5)
