"""Splits the time of slots into useful work and losses, by the times in a run's journal."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dfz_ray.protocol.columns import read_times

LOSSES = ("useful", "encoding", "no core", "dispatch", "imbalance", "ramp-up", "drain", "other")
"""`journal` comes to them where a run is compared with one that did not wait for the disk."""
_READ = "SELECT chunks.epoch, chunks.lease, chunk, times FROM completions JOIN chunks USING (chunk)"
TOLERANCE_S = 0.001
"""Clocks of different processes may differ by so much."""


class Executed(NamedTuple):
    """A task that was executed, as the journal has it."""

    epoch: int
    lease: int
    chunk: int
    began_at: float
    ended_at: float
    cpu_s: float


@dataclass
class Slot:
    """One place for a lease: what it executed, in order."""

    free_at: float
    executed: list[Executed] = field(default_factory=list)


def read_executed(run_dir: Path) -> list[Executed]:
    """All executions of a run's completed tasks, in the order of their beginning."""
    executed: list[Executed] = []
    with contextlib.closing(sqlite3.connect(f"file:{run_dir / 'run.sqlite'}?mode=ro", uri=True)) as connection:
        for *chunk, column in connection.execute(_READ):
            times = iter(read_times(column))
            executed.extend(Executed(*chunk, *own) for own in zip(times, times, times, strict=True))
    return sorted(executed, key=lambda one: one.began_at)


def split_losses(
    executed: Sequence[Executed], called_at: float, returned_at: float, workers: int, useful_s: float
) -> dict[str, float]:
    """Split the time of all slots, from the call until the results are in hand, into what it was spent for.

    Args:
        executed: in the order of their beginning.
        called_at: when `run` was called, in Unix seconds.
        returned_at: when it returned.
        workers: number of slots.
        useful_s: core time of the tasks' own work, from a calibration.

    Returns:
        Core-seconds by the names of LOSSES; they add up to workers x makespan:
        useful: as given.
        encoding: what workers do for a task besides its own work: decoding, checking, encoding, digest, times. It is
            the difference between the CPU time of workers and `useful`, so it also has what Ray's threads in the
            workers used meanwhile, and any error of the calibration.
        no core: the task was begun and waited for a core.
        dispatch: from the end of a chunk until the next one begins on the slot.
        imbalance: from a slot's last end until the last end of all.
        ramp-up: from the call until a slot's first task begins: checking, sending and committing the batch, the lease.
        drain: from the last end until the results are in hand: the last commit, and reading.
        other: slots that were never used.
    """
    losses = dict.fromkeys(LOSSES, 0.0)
    slots = assign_slots(executed, called_at, workers)
    last = max((one.ended_at for one in executed), default=called_at)
    losses["drain"] = workers * (returned_at - last)
    for slot in slots:
        if not slot.executed:
            losses["other"] += last - called_at
            continue
        losses["ramp-up"] += slot.executed[0].began_at - called_at
        losses["imbalance"] += last - slot.executed[-1].ended_at
        for one, following in zip(slot.executed, slot.executed[1:], strict=False):
            gap_s = following.began_at - one.ended_at
            losses["encoding" if one.chunk == following.chunk else "dispatch"] += gap_s
    cpu_s = sum(one.cpu_s for one in executed)
    losses["useful"] = useful_s
    losses["encoding"] += cpu_s - useful_s
    losses["no core"] = sum(one.ended_at - one.began_at for one in executed) - cpu_s
    return losses


def assign_slots(executed: Sequence[Executed], called_at: float, workers: int) -> list[Slot]:
    """The slots, with what each executed; a lease takes the one that became free last before it began."""
    leases: dict[tuple[int, int], list[Executed]] = {}
    for one in executed:
        leases.setdefault((one.epoch, one.lease), []).append(one)
    slots = [Slot(called_at) for _ in range(workers)]
    for tasks in leases.values():
        free = [slot for slot in slots if slot.free_at <= tasks[0].began_at + TOLERANCE_S]
        slot = max(free, key=lambda one: one.free_at) if free else min(slots, key=lambda one: one.free_at)
        slot.executed.extend(tasks)
        slot.free_at = tasks[-1].ended_at
    return slots
