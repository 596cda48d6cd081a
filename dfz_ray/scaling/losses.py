"""Losses: the time of all slots of a trial, split into useful work and what was lost, by the times in its journal.

The parts add up to N x T(N), in slot-seconds. `useful` is the time that the same tasks take in the sequential program;
tasks that take longer beside others do slower work (memory bandwidth, caches, hyper-threads, frequency, or no free
core). The ratios are those of POP, the European centre of excellence for performance: load balance x dispatch =
parallel efficiency; times computation scaling = global efficiency.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from dfz_ray.journal.executions import Executed, assign_slots

ADVICE = {
    "useful": "the work itself",
    "slower_work": "tasks take longer beside each other: use fewer workers for each node, or give each more cores",
    "imbalance": "slots wait for the last tasks: make long tasks shorter, or give them a higher priority",
    "dispatch": "slots wait between tasks: put more work into each task",
    "ramp_up": "slots wait for their first task: a larger batch makes this matter less",
    "drain": "the last results are written and read: a larger batch makes this matter less",
}
"""The parts of a trial, in the order in which they are shown, each with what it says to a user."""


def split_time(executed: Sequence[Executed], called_at: float, returned_at: float, workers: int) -> dict[str, float]:
    """Split the time of all slots, from the call until the results are in hand.

    Args:
        executed: in the order of their beginning.
        called_at: when `run` was called, in Unix seconds.
        returned_at: when it returned.
        workers: number of slots.

    Returns:
        Slot-seconds that add up to `workers` x (`returned_at` - `called_at`):
        in_tasks: tasks were executed.
        imbalance: from a slot's last end until the last end of all; a slot that no task used counts as a whole.
        dispatch: from the end of a task until the next one begins on its slot.
        ramp_up: from the call until a slot's first task begins: sending and committing the batch, the lease.
        drain: from the last end until the results are in hand: the last commit, and reading.
    """
    slots = assign_slots(executed, workers)
    last = max((one.ended_at for one in executed), default=called_at)
    return {
        "in_tasks": sum(one.ended_at - one.began_at for one in executed),
        "imbalance": sum(last - slot.free_at for slot in slots) + (workers - len(slots)) * (last - called_at),
        "dispatch": sum(
            following.began_at - one.ended_at for slot in slots for one, following in itertools.pairwise(slot.executed)
        ),
        "ramp_up": sum(slot.executed[0].began_at - called_at for slot in slots),
        "drain": workers * (returned_at - last),
    }


def split_losses(split: Mapping[str, float], useful_s: float) -> dict[str, float]:
    """The parts of ADVICE, from the split of a trial and the seconds that its tasks take in the sequential program."""
    parts = {"useful": useful_s, "slower_work": split["in_tasks"] - useful_s, **split}
    return {name: parts[name] for name in ADVICE}


def pop_ratios(losses: Mapping[str, float]) -> dict[str, float]:
    """POP's ratios, from the parts of a trial. Source: https://pop-coe.eu, "POP Standard Metrics"."""
    total = sum(losses.values())
    in_tasks = losses["useful"] + losses["slower_work"]
    balanced = in_tasks + losses["dispatch"] + losses["ramp_up"] + losses["drain"]
    return {
        "load_balance": balanced / total,
        "dispatch": in_tasks / balanced,
        "computation_scaling": losses["useful"] / in_tasks,
        "global_efficiency": losses["useful"] / total,
    }
