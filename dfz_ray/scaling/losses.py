"""Losses: the time of all slots of a trial, split into useful work and what was lost, by the times in its journal.

The parts add up to N x T(N), in slot-seconds. `useful` is the time that the same tasks take in the sequential program;
tasks that take longer beside others do slower work (memory bandwidth, caches, hyper-threads, frequency, or no free
core). The ratios are those of POP, the European centre of excellence for performance: load balance x dispatch =
parallel efficiency; times computation scaling = global efficiency.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dfz_ray.protocol.columns import read_times

TOLERANCE_S = 0.001
"""Clocks of different processes may differ by so much."""
ADVICE = {
    "useful": "the work itself",
    "slower_work": "tasks take longer beside each other: use fewer workers for each node, or give each more cores",
    "imbalance": "slots wait for the last tasks: make long tasks shorter, or give them a higher priority",
    "dispatch": "slots wait between tasks: put more work into each task",
    "ramp_up": "slots wait for their first task: a larger batch makes this matter less",
    "drain": "the last results are written and read: a larger batch makes this matter less",
}
"""The parts of a trial, in the order in which they are shown, each with what it says to a user."""
_READ = "SELECT chunks.epoch, chunks.lease, times FROM completions JOIN chunks USING (chunk)"

_COUNT_LOST = """
SELECT count(*) FROM (
    SELECT DISTINCT epoch, lease FROM attempts JOIN chunks USING (chunk) WHERE outcome != 3 AND began_at IS NULL
)
"""


class Executed(NamedTuple):
    """A task that was executed, as the journal has it."""

    lease: tuple[int, int]
    """Epoch and number of its lease."""
    began_at: float
    ended_at: float
    cpu_s: float


@dataclass
class _Slot:
    """A place for one task at a time."""

    lease: tuple[int, int]
    first_at: float
    free_at: float
    gaps_s: float = 0.0


def read_executed(folder: Path) -> list[Executed]:
    """All executions of a run's completed tasks, in the order of their beginning."""
    executed: list[Executed] = []
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True)) as connection:
        for epoch, lease, column in connection.execute(_READ):
            times = iter(read_times(column))
            executed.extend(Executed((epoch, lease), *own) for own in zip(times, times, times, strict=True))
    return sorted(executed, key=lambda one: one.began_at)


def count_lost_workers(folder: Path) -> int:
    """The workers of a run that died in the middle of a chunk."""
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute(_COUNT_LOST).fetchone()
        return int(count)


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
    slots = _assign_slots(executed, workers)
    last = max((one.ended_at for one in executed), default=called_at)
    return {
        "in_tasks": sum(one.ended_at - one.began_at for one in executed),
        "imbalance": sum(last - slot.free_at for slot in slots) + (workers - len(slots)) * (last - called_at),
        "dispatch": sum(slot.gaps_s for slot in slots),
        "ramp_up": sum(slot.first_at - called_at for slot in slots),
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


def _assign_slots(executed: Sequence[Executed], workers: int) -> list[_Slot]:
    """The slots that were used, at most `workers`. A lease keeps its slots to its end; then another one gets them."""
    ends_at: dict[tuple[int, int], float] = {}
    for one in executed:
        ends_at[one.lease] = max(one.ended_at, ends_at.get(one.lease, 0.0))
    slots: list[_Slot] = []
    for one in executed:
        latest = one.began_at + TOLERANCE_S
        free = [slot for slot in slots if slot.free_at <= latest]
        candidates = [slot for slot in free if slot.lease == one.lease]
        candidates = candidates or [slot for slot in free if ends_at[slot.lease] <= latest]
        if not candidates and len(slots) < workers:
            candidates = [_Slot(one.lease, one.began_at, one.began_at)]
            slots += candidates
        slot = max(candidates or free, key=lambda slot: slot.free_at, default=None)
        slot = slot or min(slots, key=lambda slot: slot.free_at)  # clocks of two nodes differ
        slot.gaps_s += one.began_at - slot.free_at
        slot.lease, slot.free_at = one.lease, one.ended_at
    return slots
