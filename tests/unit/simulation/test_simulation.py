"""Runs in virtual time: what would happen, as far as it can be known without running it."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amount import amount
from support.simulated_faults import SeedResult, run_seed

from dfz_ray.engine.engine import EngineOptions
from dfz_ray.engine.messages import CancelAsked
from dfz_ray.simulation import Costs, SimulatedTask, Simulation, simulate
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.states import STATES

FREE = Costs(start_s=0.0, message_s=0.0, commit_s=0.0, loss_s=0.0)

SEEDS = amount(1_000)
REGRESSION_SEEDS: tuple[int, ...] = (502310,)
"""Others that failed once: what `run_seed` of a higher seed finds is added here."""


# --- what it predicts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slots", "makespan_s"), [(1, 60.0), (4, 15.0), (60, 1.0), (1000, 1.0)])
def test_what_costs_nothing_takes_as_long_as_the_work(slots: int, makespan_s: float) -> None:
    """Where nothing but work costs time, sixty tasks of a second take sixty seconds over the slots."""
    simulated = simulate([SimulatedTask("k", 1.0)] * 60, slots, FREE)

    assert simulated.makespan_s == pytest.approx(makespan_s)
    assert simulated.busy_s == pytest.approx(60.0)
    assert simulated.counts == {**dict.fromkeys(STATES, 0), "completed": 60}
    assert sorted(one.number for one in simulated.executions) == list(range(60))


def test_a_single_task_takes_its_way() -> None:
    """One task takes the start of its lease, its messages there and back, its work, and the commit of its result."""
    costs = Costs(start_s=0.5, message_s=0.01, commit_s=0.1, manager_s=0.002)

    simulated = simulate([SimulatedTask("k", 1.0)], 1, costs)

    assert simulated.makespan_s == pytest.approx(0.5 + (0.01 + 0.002 + 0.01) + 1.0 + (0.01 + 0.002) + 0.1)
    assert (simulated.chunks, simulated.leases) == (1, 1)


@pytest.mark.parametrize("slots", [2, 7, 40])
def test_no_slot_executes_two_tasks_at_once(slots: int) -> None:
    """The executions of a lease never overlap, and never more leases than slots execute."""
    tasks = [SimulatedTask(f"k{number % 5}", 0.01 * (1 + number % 7)) for number in range(800)]

    simulated = simulate(tasks, slots, Costs(jitter=0.5), seed=3)

    edges = sorted((at, step) for one in simulated.executions for at, step in ((one.began_s, 1), (one.ended_s, -1)))
    most = busy = 0
    for _, step in edges:
        busy += step
        most = max(most, busy)
    assert most <= slots
    assert simulated.busy_s == pytest.approx(sum(task.duration_s for task in tasks))


def test_the_managers_own_time_bounds_the_throughput() -> None:
    """A manager that needs 1 ms for an exchange serves no more than 1,000 of them a second, however many workers."""
    tasks = [SimulatedTask(str(number), 0.001) for number in range(2_000)]

    simulated = simulate(tasks, 64, Costs(manager_s=0.001))

    assert simulated.makespan_s >= simulated.chunks * 0.001


def test_the_same_seed_gives_the_same_run() -> None:
    """A simulation is a function of its arguments; another seed draws other delays."""
    tasks = [SimulatedTask("k", 0.02)] * 300

    first, again, other = (simulate(tasks, 4, Costs(jitter=0.9), seed) for seed in (1, 1, 2))

    assert first == again
    assert other.makespan_s != first.makespan_s


@pytest.mark.parametrize("workers", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_workers_are_simulated(workers: int) -> None:
    """A run of two tasks for each worker takes little more than the bound."""
    simulated = simulate([SimulatedTask("k", 10.0)] * 2 * workers, workers, Costs(start_s=1.0, manager_s=1e-5))

    assert simulated.counts["completed"] == 2 * workers
    assert 20.0 <= simulated.makespan_s < 25.0


def test_failures_and_deadlines_are_part_of_it() -> None:
    """Tasks that fail are tried as often as their policy says; one that overruns its deadline ends there."""
    again = Policy(retry_on=("exception",), backoff=Backoff(first_s=1.0, factor=1.0, jitter=0.0))
    late = Policy(timeout_s=0.5)
    tasks = [SimulatedTask("fails", 1.0, 0, again, "exception"), SimulatedTask("late", 60.0, 0, late)]

    simulated = simulate(tasks, 2, FREE)

    assert simulated.counts["failed"] == 2
    assert Counter(one.number for one in simulated.executions) == {0: 3, 1: 1}
    assert simulated.makespan_s == pytest.approx(3 * 1.0 + 2 * 1.0)
    assert simulated.busy_s == pytest.approx(3.5)


def test_priorities_and_preemption_are_part_of_it() -> None:
    """A high priority that comes late takes a slot of a long task, whose time is spent for nothing and counted."""
    simulation = Simulation(EngineOptions(1, preempt_after_s=5.0), FREE)
    simulation.submit([SimulatedTask("low", 60.0)])
    high = SimulatedTask("high", 1.0, 0, Policy(priority=1))
    simulation.at(10.0, lambda: simulation.submit([high]))

    simulation.run()

    ended = {one.number: one.ended_s for one in simulation.result().executions}
    assert ended[1] == pytest.approx(16.0, abs=0.2)
    assert ended[0] == pytest.approx(76.0, abs=0.2)
    assert simulation.result().busy_s == pytest.approx(15.0 + 1.0 + 60.0, abs=0.2)


def test_a_cancelled_task_is_let_go_of() -> None:
    """A worker ends the execution of a task that is cancelled, goes on with its chunk-mates, and is not killed."""
    simulation = Simulation(EngineOptions(1), FREE)
    simulation.submit([SimulatedTask("k", 0.01)] * 200)
    simulation.at(1.0, lambda: simulation.report(CancelAsked(range(50, 150))))

    simulation.run()

    result = simulation.result()
    assert result.counts["completed"] + result.counts["cancelled"] == 200
    assert result.counts["cancelled"] >= 50
    assert result.makespan_s < 1.6


@settings(max_examples=amount(60), deadline=None)
@given(
    durations=st.lists(st.sampled_from([0.0, 0.001, 0.03, 2.0]), min_size=1, max_size=40),
    slots=st.integers(1, 8),
    scale=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_nothing_beats_the_lower_bound(durations: list[float], slots: int, scale: float) -> None:
    """No run is shorter than its longest task, or than its work over the slots; and every task is executed."""
    costs = Costs(0.01 * scale, 0.001 * scale, 0.01 * scale, 0.1 * scale, 0.001 * scale, jitter=scale)

    simulated = simulate([SimulatedTask(f"{length_s}", length_s) for length_s in durations], slots, costs)

    assert simulated.makespan_s >= max(sum(durations) / slots, *durations) - 1e-9
    assert simulated.counts["completed"] == len(durations)


# --- faults of every sort ---------------------------------------------------------------------------------------------


def test_runs_with_faults_lose_nothing() -> None:
    """Whatever dies, hangs, is late, is said twice or is cancelled: every task ends once, as it must, uncharged else.

    The drawn faults are not few: each sort occurs in many of the runs.
    """
    results: list[SeedResult] = [run_seed(seed) for seed in (*REGRESSION_SEEDS, *range(SEEDS))]

    kills: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    faulty_reports: Counter[str] = Counter()
    for result in results:
        kills.update(result.kills)
        outcomes.update(result.outcomes)
        faulty_reports.update(result.faulty_reports)
    assert min(outcomes[outcome] for outcome in ("completed", "failed", "cancelled")) > SEEDS / 2
    assert min(kills[why] for why in ("timeout", "preempted", "cancelled")) > SEEDS / 100
    assert min(faulty_reports[how] for how in ("late", "twice")) > SEEDS / 4
    assert faulty_reports["lost"] > SEEDS / 20
    assert sum(result.deaths for result in results) > SEEDS * 2.5
    assert sum(result.managers > 1 for result in results) > SEEDS / 10


def test_a_seed_is_a_run() -> None:
    """The same seed gives the same run, so that what failed can be looked at again."""
    assert run_seed(17) == run_seed(17)


def test_a_seed_that_fails_says_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the engine loses a task the error names the seed and the command for it."""
    monkeypatch.setattr("dfz_ray.engine.lease_table.LeaseTable.hand_back", lambda self, numbers, begun, now: None)

    with pytest.raises(
        AssertionError, match=r"seed (\d+) failed at .*again: PYTHONPATH=tests python -m support.simulated_faults \1\n"
    ):
        deque(map(run_seed, range(100)), maxlen=0)
