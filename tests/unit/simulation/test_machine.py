"""The virtual machine of predictions: closed forms, shared cores, a manager that is full, and determinism."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from dfz_ray.simulation.machine import BatchWork, MachineTimes, predict_run

FREE = MachineTimes([0.0], 0.0, [0.0], [0.0], [0.0], 0.0, 0.0, 0.0)


def even(tasks: int, *, wait_s: float = 0.0, cpu_s: float = 0.0) -> BatchWork:
    """Tasks of one kind and one length."""
    return BatchWork([("k", 0)], np.zeros(tasks, dtype=int), np.full(tasks, wait_s), np.full(tasks, cpu_s))


def times(**changes: object) -> MachineTimes:
    """Everything is free but this."""
    return MachineTimes(**(FREE.__dict__ | changes))


@pytest.mark.parametrize(("slots", "makespan_s"), [(1, 60.0), (4, 15.0), (60, 1.0), (1000, 1.0)])
def test_equal_tasks_take_the_work_over_the_slots(slots: int, makespan_s: float) -> None:
    """Sixty tasks of a second take sixty seconds over the slots where nothing else costs time and each has a core."""
    run = predict_run(even(60, cpu_s=1.0), slots, FREE, math.inf)

    assert run.makespan_s == pytest.approx(makespan_s, rel=1e-6)


@pytest.mark.parametrize(("slots", "makespan_s"), [(1, 60.0), (2, 30.0), (4, 30.0), (30, 30.0)])
def test_tasks_that_compute_share_the_cores(slots: int, makespan_s: float) -> None:
    """On two cores sixty tasks that compute for a second take thirty seconds, however many workers there are."""
    run = predict_run(even(60, cpu_s=1.0), slots, FREE, 2.0)

    assert run.makespan_s == pytest.approx(makespan_s, rel=1e-6)


@pytest.mark.parametrize(("slots", "makespan_s"), [(2, 30.0), (30, 2.0), (60, 1.0)])
def test_tasks_that_wait_need_no_core(slots: int, makespan_s: float) -> None:
    """Sixty tasks that wait for a second need as many seconds as rounds, although there is one core."""
    run = predict_run(even(60, wait_s=1.0), slots, FREE, 1.0)

    assert run.makespan_s == pytest.approx(makespan_s, rel=1e-6)


def test_tasks_that_wait_and_compute_are_bound_by_both() -> None:
    """Tasks that compute for a quarter of their time keep one core busy from four workers on."""
    few, many = (predict_run(even(64, wait_s=0.75, cpu_s=0.25), slots, FREE, 1.0).makespan_s for slots in (2, 16))

    assert 32.0 <= few < 32.0 * 1.25
    assert 16.0 <= many < 16.0 + 1.0


def test_a_full_manager_sets_the_pace() -> None:
    """Where each task is a chunk of its own, a full manager ends one task in the time of an exchange."""
    run = predict_run(even(1_000, wait_s=1.5), 500, times(exchange_s=0.008), math.inf)

    assert run.manager_share > 0.9
    assert run.makespan_s >= 1_000 * 0.008
    assert run.makespan_s < 1_000 * 2.5 * 0.008


def test_a_manager_below_its_limit_does_not_slow_workers() -> None:
    """A hundred workers whose tasks take as long as two thousand exchanges do not wait for the manager."""
    run = predict_run(even(400, wait_s=2.0), 100, times(exchange_s=0.001), math.inf)

    assert run.manager_share < 0.2
    assert run.makespan_s < 4 * 2.0 * 1.05


def test_ray_places_leases_one_after_the_other() -> None:
    """The last of a hundred leases starts after all the others, so its task ends that much later."""
    run = predict_run(even(100, wait_s=1.9), 100, times(place_s=0.01), math.inf)

    assert run.makespan_s == pytest.approx(1.9 + 99 * 0.01, rel=1e-3)


def test_the_driver_sends_at_its_pace() -> None:
    """Tasks that cost nothing end no sooner than the driver has sent them."""
    run = predict_run(even(20_500), 4, times(send_task_s=1e-3), math.inf)

    assert run.makespan_s == pytest.approx(20.0, rel=0.01)


def test_each_cost_of_a_task_appears_once() -> None:
    """One task takes the start of its lease, an exchange, its worker's own time, its work, a report and a commit."""
    costs = MachineTimes([0.5], 0.0, [0.01], [0.03], [0.1], 0.002, 0.004, 0.0)

    run = predict_run(even(1, cpu_s=1.0), 1, costs, math.inf)

    expected_s = 0.5 + (0.01 + 0.002 + 0.01) + 0.03 + 1.0 + (0.01 + 0.002 + 0.004) + 0.1
    assert run.makespan_s == pytest.approx(expected_s, abs=0.003)


def test_equal_arguments_give_equal_runs() -> None:
    """A prediction is a function of its arguments; another seed draws other delays."""
    costs = times(start_s=[0.01, 0.02, 0.05], message_s=[0.001, 0.004], commit_s=[0.001, 0.01])

    first, again, other = (predict_run(even(200, cpu_s=0.05), 4, costs, 2.0, seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other


@pytest.mark.long
def test_a_million_tasks_on_ten_thousand_workers_are_predicted_in_minutes() -> None:
    """The largest prediction takes less than two minutes of CPU time on a slow core."""
    began_s = time.process_time()

    predict_run(even(1_000_000, wait_s=0.1), 10_000, times(exchange_s=0.001, place_s=0.002), math.inf)

    assert time.process_time() - began_s < 240
