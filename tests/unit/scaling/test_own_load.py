"""The load that a study leaves behind itself, and that of others."""

from __future__ import annotations

import math

import pytest
from support.sample_study import summarise, trial

from dfz_ray.scaling.measurement import Measurement

FADES_S = 60.0


def made(
    load_of_others: float, wall_s: float, pause_s: float, warm_up_s: float | None = None, cpu_share: float = 1.0
) -> list[Measurement]:
    """Trials one after the other, whose load is Linux's exponential mean of theirs, and of another program's.

    Tasks compute for a share of their time; workers that warm up compute.
    """
    trials: list[Measurement] = []
    load, now = load_of_others, 1e9
    for order, workers in enumerate([16, 2, 0] * 4):
        cpu_s = cpu_share * wall_s
        measured = {"wall_s": wall_s, "busy_s": wall_s, "cpu_s": cpu_s, "warm_up_s": warm_up_s, "started_at": now}
        trials.append(trial(workers, order // 3, order, load=load, **measured))
        for long_s, share in ((warm_up_s or 0.0, 1.0), (wall_s, cpu_share)):
            kept = math.exp(-long_s / FADES_S)
            load = load * kept + (1 + share * max(workers, 1) + load_of_others) * (1 - kept)
        load = load_of_others + (load - load_of_others) * math.exp(-pause_s / FADES_S)
        now += (warm_up_s or 0.0) + wall_s + pause_s
    return trials


def others(trials: list[Measurement]) -> list[float]:
    summary = summarise(trials)
    return [one["other_load"] for one in (summary["baseline"], *summary["points"])]


@pytest.mark.parametrize(("wall_s", "pause_s"), [(7.5, 7.5), (12.0, 240.0), (200.0, 1.0)])
def test_a_study_is_not_blamed_for_its_own_load(wall_s: float, pause_s: float) -> None:
    """What the trials before leave of their load in the 1-minute average is no other work; that of others is."""
    assert others(made(0.0, wall_s, pause_s)) == pytest.approx([0.0] * 3, abs=0.01)
    assert others(made(14.0, wall_s, pause_s)) == pytest.approx([14.0] * 3, abs=0.01)


def test_the_load_of_another_program_is_told_after_a_short_trial() -> None:
    """A trial of 16 workers for 7.5 s leaves 2 of its load of 17, so that a load of 14 is another program's."""
    assert "busy with other work (a load of 14" in summarise(made(14.0, 7.5, 7.5))["recommendation"]["reason"]


def test_workers_that_warm_up_load_the_host() -> None:
    """The warm-up lies between the beginning of a trial and its clock, and loads the host as the trial does."""
    assert others(made(0.0, 10.0, 1.0, warm_up_s=20.0)) == pytest.approx([0.0] * 3, abs=0.01)


def test_workers_that_start_compute_although_their_tasks_wait() -> None:
    """A study of tasks that sleep is not told that another program was there while 16 processes started."""
    assert others(made(0.0, 1.0, 1.0, warm_up_s=15.0, cpu_share=0.01)) == pytest.approx([0.0] * 3, abs=0.01)
