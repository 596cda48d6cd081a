"""Whole runs in virtual time with faults of every sort, drawn from a seed, checked after every event.

`run_seed(seed)` is one of them. `PYTHONPATH=tests python -m support.simulated_faults SEED` runs it again alone; add
`wide` if its leases run several tasks at once.
"""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from dfz_ray.engine.messages import LaneSized, PlacesWanted
from dfz_ray.simulation import SimulatedTask
from dfz_ray.specs.policy import Backoff, Policy
from dfz_ray.specs.states import State
from support.faulty_cluster import Fate, FaultyCluster

REASONS = ("exception", "timeout", "worker_crashed", "node_lost", "out_of_memory")
WHY = "needs 4 GPUs; no node has that"
STEPS_LIMIT = 60_000
"""A run that takes more of them does not come to rest."""


class SeedResult(NamedTuple):
    """The result of a seed."""

    seed: int
    tasks: int
    events: int
    outcomes: dict[str, int]
    deaths: int
    """Of workers."""
    managers: int
    kills: dict[str, int]
    """Workers killed by the engine, by why."""
    faulty_reports: dict[str, int]
    """Reports of workers that were late, came twice, or were lost."""


def draw_policy(dice: random.Random) -> Policy:
    """Any policy."""
    return Policy(
        max_attempts=dice.randint(1, 4),
        retry_on=tuple(reason for reason in REASONS if dice.random() < 0.5),
        backoff=Backoff(
            first_s=dice.choice([0.0, 0.05, 0.3]),
            factor=dice.choice([1.0, 2.0, 10.0]),
            most_s=dice.choice([0.2, 1.0]),
            jitter=dice.choice([0.0, 0.5, 1.0]),
        ),
        timeout_s=dice.choice([None, None, 0.3, 1.0]),
        priority=dice.choice([0, 0, 0, 1, 5]),
        preemptible=dice.random() < 0.7,
    )


def draw_fate(dice: random.Random, policy: Policy, faults: float) -> Fate:
    """Draw the fate of a task; most complete."""
    if dice.random() >= faults:
        return Fate("completes")
    sort = dice.choice(["fails", "flaky", "crashes", "hangs", "clings", "sticks"])
    if sort in ("hangs", "clings", "sticks"):
        return Fate(sort, "timeout") if policy.timeout_s is not None else Fate("completes")
    if sort == "crashes":
        return Fate(sort, dice.choice(["worker_crashed", "out_of_memory"]))
    return Fate(sort, "exception", dice.randint(1, 3))


def draw_run(seed: int, is_wide: bool = False) -> FaultyCluster:
    """A run: its tasks and the times of its faults."""
    cluster = FaultyCluster(seed, is_wide)
    dice = cluster.dice
    lanes = dice.randint(1, 3)
    kinds = [
        SimulatedTask(f"kind {number}", dice.choice([0.0, 0.001, 0.02, 0.2, 1.5]), number % lanes, draw_policy(dice))
        for number in range(dice.randint(1, 5))
    ]
    if cluster.speculates:
        kinds = [
            kind._replace(
                duration_s=max(kind.duration_s, 0.3), policy=kind.policy.model_copy(update={"speculate": True})
            )
            for kind in kinds
        ]
    faults = dice.choice([0.0, 0.05, 0.3])
    for lane in range(lanes):
        capacity = dice.choice([math.inf, 1, 2, 4])
        is_out = dice.random() < 0.04
        if is_out:
            cluster.ruled_out.add(lane)
        sized = LaneSized(lane, 0 if is_out else capacity, WHY * is_out)
        cluster.at(0.0, lambda sized=sized: cluster.report(sized))
    count = dice.choice([3, 10, 30, 60])
    for at in [0.0, *(dice.uniform(0.0, 2.0) for _ in range(dice.randint(0, 2)))]:
        tasks = [dice.choice(kinds) for _ in range(dice.randint(1, count))]
        fates = [draw_fate(dice, task.policy, faults) for task in tasks]
        cluster.at(at, lambda tasks=tasks, fates=fates: (cluster.fates.extend(fates), cluster.submit(tasks)))
    _draw_faults(cluster, lanes, count)
    for at in sorted(dice.uniform(0.0, 3.0) for _ in range(dice.randint(0, 3))) if is_wide else ():
        slots = dice.randint(1, 12)
        cluster.at(at, lambda slots=slots: cluster.set_slots(slots))
        cluster.most_slots = max(cluster.most_slots, slots)
    return cluster


def _draw_faults(cluster: FaultyCluster, lanes: int, count: int) -> None:
    dice = cluster.dice

    def times(most: int) -> list[float]:
        return [dice.uniform(0.0, 3.0) for _ in range(dice.choice([0, 0, dice.randint(0, most)]))]

    def strike_one() -> None:
        if cluster.workers:
            cluster.strike(dice.choice(list(cluster.workers.values())), "worker_crashed")

    for at in times(4):
        cluster.at(at, strike_one)
    for at in times(3):
        back_after_s = dice.uniform(0.0, 1.5)
        hit = dice.sample(range(lanes), k=dice.randint(0, lanes))
        cluster.at(at, lambda hit=hit, after=back_after_s: cluster.lose_node(hit, after))
    for at in times(3):
        numbers = None if dice.random() < 0.15 else [dice.randint(0, count) for _ in range(dice.randint(1, 8))]
        cluster.at(at, lambda numbers=numbers: cluster.cancel(numbers))
    for at in times(1) if dice.random() < 0.3 else []:
        cluster.at(at, cluster.stop)
    cluster.at(cluster._placed_from_s, cluster.place_all)
    for _ in range(cluster.others.choice([0, 0, 4])):  # others want places, or no longer
        wanted = PlacesWanted(cluster.others.randint(0, 3))
        cluster.at(cluster.others.uniform(0.0, 3.0), lambda wanted=wanted: cluster.report(wanted))
    deaths = dice.choice([0, 0, 0, dice.randint(1, 3)])
    cluster._manager_dies_at = {int(math.exp(dice.uniform(1, 6))) for _ in range(deaths)}


def check_truth(cluster: FaultyCluster) -> None:
    """Every task ended as it had to, and nothing is left over."""
    witness, tasks = cluster.witness, cluster.tasks
    witness.check_lanes()
    assert cluster.most_busy <= cluster.most_slots, "the cap counts tasks"
    assert witness.engine.leases == 0, "every slot is free"
    assert witness.engine.tasks.counts[State.RUNNING] == 0
    assert not cluster.workers.keys() & witness.placed, "only those are left that Ray never placed"
    outcomes = {**witness.outcome, **cluster.outcomes}
    assert outcomes.keys() == cluster.journal.outcomes.keys(), "what is final is on the disk"
    if not witness.stopped:
        assert len(outcomes) == len(tasks), "everything is final"
    asked = {number for event in cluster.cancels for number in event.numbers or ()}
    for number, outcome in outcomes.items():
        fate = cluster.fates[number]
        may = {"flaky": {"completed", "exception"}, "completes": {"completed"}}.get(fate.sort, {fate.reason})
        if number in asked:
            may = may | {"cancelled"}
        if number in cluster.struck:
            may = may | {"worker_crashed", "node_lost"}
            if tasks[number].policy.timeout_s is not None:
                may = may | {"timeout"}
        if tasks[number].lane in cluster.ruled_out:
            may = may | {"infeasible"}
        assert outcome in may, (number, outcome, fate)


def run_seed(seed: int, is_wide: bool = False) -> SeedResult:
    """Run what a seed says to its end, with a check after every event.

    Args:
        seed: of everything.
        is_wide: whether leases run several tasks at once.

    Raises:
        AssertionError: the engine did what it must not; the message tells the seed.
    """
    cluster = draw_run(seed, is_wide)
    try:
        cluster.run(limit=STEPS_LIMIT)
        check_truth(cluster)
    except Exception as error:
        command = f"PYTHONPATH=tests python -m support.simulated_faults {seed}{' wide' * is_wide}"
        again = f"seed {seed} failed at {cluster.now:.6f} s; again: {command}"
        raise AssertionError(f"{again}\n{type(error).__name__}: {error}") from error
    cluster.kills.update(kill.why for kill in cluster.witness.kills)
    outcomes = Counter(cluster.journal.outcomes.values())
    return SeedResult(
        seed,
        len(cluster.tasks),
        cluster.events,
        dict(outcomes),
        cluster.deaths,
        cluster.managers,
        dict(cluster.kills),
        dict(cluster.faulty_reports),
    )


def main(arguments: Sequence[Any]) -> None:
    """Run seeds: one, or those from the first to before the second."""
    is_wide, arguments = "wide" in arguments, [one for one in arguments if one != "wide"]
    first, end = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else int(arguments[0]) + 1
    for seed in range(first, end):
        result = run_seed(seed, is_wide)
        if end - first <= 10:
            print(result)


if __name__ == "__main__":
    main(sys.argv[1:])
