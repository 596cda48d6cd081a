"""Losses: the time of all slots of a trial, split into useful work and what was lost, by the times in its journal.

The parts add up to N x T(N), in slot-seconds. `useful` is the time that the same tasks take in the sequential program;
tasks that take longer beside others do slower work (memory bandwidth, caches, hyper-threads, frequency, or no free
core). A task that fails is work as well, for it fails in the sequential program, too; attempts that don't count are in
vain. The ratios are those of POP, the European centre of excellence for performance: load balance x communication
efficiency = parallel efficiency; times computation scaling = global efficiency.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from dfz_ray.journal.executions import Executed, assign_slots
from dfz_ray.journal.run_activity import is_full

ADVICE = {
    "useful": "the work itself",
    "slower_work": "tasks take longer beside each other: use fewer workers for each node, or give each more cores",
    "vain_attempts": "attempts end without counting, because tasks fail and are tried again, workers die, or another "
    "attempt is quicker: look for the reasons of failures, or allow fewer attempts",
    "imbalance": "slots wait for the last tasks: split the longest tasks, or give them a higher priority, so that they "
    "begin first",
    "dispatch": "slots wait between tasks: put more work into each task",
    "ramp_up": "slots wait for their first task: a larger batch makes this matter less",
    "drain": "the last results are written and read: a larger batch makes this matter less",
}
"""The parts of a trial, in the order in which they are shown, each with its advice for a user."""

SLOWER = {
    "no_core": "tasks wait for a free core: use no more workers than there are cores",
    "more_cpu": "the same work takes more CPU time beside other tasks, by memory bandwidth, caches, hyper-threads or a "
    "lower clock rate: use fewer workers for each node, or nodes with more memory bandwidth",
}
"""The two parts of slower work, each with its advice."""

HANDLING = "workers decode and encode between tasks: put more work into each task, or let it take and return less data"
"""The advice where most of `dispatch` is the handling of tasks within a chunk."""

MANAGER_FULL = "the manager is full, and slots wait for it: use fewer workers, or put more work into each task"
"""The advice where slots wait between tasks because the manager can't keep up."""
FULL_CORES = 0.6
"""A manager whose waits were not measured is full if it takes more of a core: its threads can't take much more."""

UNDERSERVED = (
    "the cluster could not run all slots at once, and the others count as idle: give it more CPUs, or use fewer workers"
)
"""The advice where most of the time is imbalance, and the cluster served fewer slots."""


def split_time(executed: Sequence[Executed], called_at: float, returned_at: float, workers: int) -> dict[str, float]:
    """Split the time of all slots, from the call until the results are in hand.

    Args:
        executed: all attempts whose times are known, in the order of their beginning.
        called_at: when `run` was called, in Unix seconds.
        returned_at: when it returned.
        workers: number of slots.

    Returns:
        Slot-seconds that add up to `workers` x (`returned_at` - `called_at`):
        in_tasks: tasks were executed, by the one attempt of each that counts, completed or failed.
        vain_attempts: other attempts were executed: failures before another attempt, attempts that were lost or
            superseded. Where a worker could not report the times of an attempt, they are in the parts below.
        imbalance: from a slot's last end until the last end of all; a slot that no task used counts as a whole.
        handling: from the end of a task until the next one of its chunk begins: decoding, encoding, the digest.
        dispatch: from the end of any other task until the next one begins on its slot.
        ramp_up: from the call until a slot's first task begins: sending and committing the batch, the lease.
        drain: from the last end until the results are in hand: the last commit, and reading.
    """
    slots = assign_slots(executed, workers)
    last = max((one.ended_at for one in executed), default=called_at)
    handling, dispatch = 0.0, 0.0
    for slot in slots:
        for one, following in itertools.pairwise(slot.executed):
            gap_s = following.began_at - one.ended_at
            if one.chunk is not None and one.chunk == following.chunk:
                handling += gap_s
            else:
                dispatch += gap_s
    return {
        "in_tasks": sum(one.ended_at - one.began_at for one in executed if one.counts),
        "vain_attempts": sum(one.ended_at - one.began_at for one in executed if not one.counts),
        "imbalance": sum(last - slot.free_at for slot in slots) + (workers - len(slots)) * (last - called_at),
        "handling": handling,
        "dispatch": dispatch,
        "ramp_up": sum(slot.executed[0].began_at - called_at for slot in slots),
        "drain": workers * (returned_at - last),
    }


def find_busiest_s(executed: Sequence[Executed], workers: int) -> float:
    """The seconds in which the slot that was busiest executed anything; 0 where nothing was executed."""
    slots = assign_slots(executed, workers)
    return max((sum(one.ended_at - one.began_at for one in slot.executed) for slot in slots), default=0.0)


def split_losses(split: Mapping[str, float], useful_s: float) -> dict[str, float]:
    """The parts of ADVICE, from the split of a trial and the seconds that its tasks take in the sequential program."""
    return {
        "useful": useful_s,
        "slower_work": split["in_tasks"] - useful_s,
        "vain_attempts": split.get("vain_attempts", 0.0),  # trials of before have none
        "imbalance": split["imbalance"],
        "dispatch": split["handling"] + split["dispatch"],
        "ramp_up": split["ramp_up"],
        "drain": split["drain"],
    }


def split_slower_work(slower_work_s: float, more_cpu_s: float) -> dict[str, float]:
    """The parts of SLOWER, from the CPU time that the tasks took beyond that of the sequential program."""
    return {"no_core": slower_work_s - more_cpu_s, "more_cpu": more_cpu_s}


def find_largest(losses: Mapping[str, float]) -> str:
    """The part that costs most, besides the work."""
    return max((name for name in ADVICE if name != "useful"), key=losses.__getitem__)


def advise(
    losses: Mapping[str, float],
    slower: Mapping[str, float] | None = None,
    handling_s: float = 0.0,
    *,
    manager_full: bool = False,
    underserved: bool = False,
) -> str:
    """A sentence on the largest loss: the reason, and the remedy."""
    worst = find_largest(losses)
    if worst == "imbalance" and underserved:
        return UNDERSERVED
    if worst == "slower_work" and slower is not None:
        return SLOWER[max(SLOWER, key=slower.__getitem__)]
    if worst == "dispatch" and handling_s > losses["dispatch"] / 2:
        return HANDLING
    if worst == "dispatch" and manager_full:
        return MANAGER_FULL
    return ADVICE[worst]


def is_manager_full(profile: Mapping[str, Any], workers: int, wall_s: float) -> bool:
    """True if workers waited for the manager for much of a trial, and long each time, given its profile.

    Workers with several threads report no waits, and older profiles have none.
    """
    waited_s, waits = profile.get("waits") or (0.0, 0)
    if waits:
        return is_full(waited_s / (workers * wall_s), waited_s / waits)
    cpu_s, *_ = profile.get("manager") or (0.0,)
    return bool(cpu_s / wall_s > FULL_CORES)


def pop_ratios(losses: Mapping[str, float], workers: int, busiest_s: float | None) -> dict[str, float | None]:
    """POP's ratios, from the parts of a trial; None where nothing was executed, or something was not measured.

    Source: https://pop-coe.eu, "POP Standard Metrics". Load balance is the mean of the slots' times of computing over
    the longest one; communication efficiency is the longest one over the run time: what the busiest slot waits for,
    which is dispatch, ramp-up and drain here. Parallel efficiency is their product, the mean over the run time.
    Computation scaling is the sequential program's time of computing over that of all slots, and global efficiency the
    product of both.

    Args:
        losses: the parts, by the names of ADVICE.
        workers: number of slots.
        busiest_s: the longest time of computing of a slot (`find_busiest_s`); None: not measured.
    """
    total = sum(losses.values())
    computing = losses["useful"] + losses["slower_work"] + losses["vain_attempts"]
    longest = None if busiest_s is None else workers * busiest_s
    return {
        "load_balance": None if longest is None else _divide(computing, longest),
        "communication_efficiency": None if longest is None else _divide(longest, total),
        "parallel_efficiency": _divide(computing, total),
        "computation_scaling": _divide(losses["useful"], computing),
        "global_efficiency": _divide(losses["useful"], total),
    }


def _divide(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
