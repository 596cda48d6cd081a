"""The executions of a run: which task was executed when, and on which slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dfz_ray.journal.reader import JournalReader
from dfz_ray.journal.schema import ATTEMPT_FAILED
from dfz_ray.protocol.columns import read_times, unpack

TOLERANCE_S = 0.001
"""Clocks of different processes may differ by so much."""


class Executed(NamedTuple):
    """A task that was executed, as the journal has it."""

    number: int
    lease: tuple[int, int]
    """Epoch and number of its lease."""
    began_at: float
    """Unix seconds."""
    ended_at: float
    cpu_s: float
    chunk: int | None = None
    """None: not known."""
    counts: bool = True
    """False: a vain attempt; another one of the task counts, or none."""


@dataclass(eq=False)
class Slot:
    """A place for one task at a time."""

    lease: tuple[int, int]
    free_at: float
    executed: list[Executed] = field(default_factory=list)


def read_executed(folder: Path) -> list[Executed]:
    """All executions of a run's completed tasks, in the order of their beginning."""
    executed: list[Executed] = []
    with JournalReader(folder) as journal:
        for epoch, lease, tasks, column, chunk in journal.query("executions"):
            times = iter(read_times(column))
            rows = zip(unpack(tasks), times, times, times, strict=True)
            executed.extend(
                Executed(number, (epoch, lease), began_at, ended_at, cpu_s, chunk)
                for number, began_at, ended_at, cpu_s in rows
            )
    return sorted(executed, key=lambda one: one.began_at)


def read_attempted(folder: Path) -> list[Executed]:
    """All executions of a run whose times are known, in the order of their beginning.

    Of each task one counts: that which completed, or else the last that failed, as each task has one attempt in a
    sequential program. Attempts that were superseded or lost, and failures before another attempt, do not count. An
    attempt that its worker could not report has no times, and is not among them.
    """
    executed = read_executed(folder)
    with JournalReader(folder) as journal:
        rows = list(journal.query("timed_attempts"))
    settled = {one.number for one in executed}
    last = {task: chunk for task, chunk, outcome, *_ in rows if outcome == ATTEMPT_FAILED and task not in settled}
    executed.extend(
        Executed(task, (epoch, lease), began_at, ended_at, cpu_s, chunk, last.get(task) == chunk)
        for task, chunk, _, began_at, ended_at, cpu_s, epoch, lease in rows
    )
    return sorted(executed, key=lambda one: one.began_at)


def count_lost_workers(folder: Path) -> int:
    """The workers of a run that died in the middle of a chunk."""
    with JournalReader(folder) as journal:
        ((count,),) = journal.query("count_lost_workers")
        return int(count)


def assign_slots(executed: Sequence[Executed], workers: int) -> list[Slot]:
    """The slots that were used, at most `workers`. A lease keeps its slots to its end; then another one gets them.

    The executions are in the order of their beginning.
    """
    ends_at: dict[tuple[int, int], float] = {}
    for one in executed:
        ends_at[one.lease] = max(one.ended_at, ends_at.get(one.lease, 0.0))
    slots: list[Slot] = []
    held: dict[tuple[int, int], list[Slot]] = defaultdict(list)
    for one in executed:
        latest = one.began_at + TOLERANCE_S
        candidates = [slot for slot in held[one.lease] if slot.lease == one.lease and slot.free_at <= latest]
        if not candidates:
            candidates = [slot for slot in slots if slot.free_at <= latest and ends_at[slot.lease] <= latest]
        if not candidates and len(slots) < workers:
            candidates = [Slot(one.lease, one.began_at)]
            slots += candidates
        candidates = candidates or [slot for slot in slots if slot.free_at <= latest]
        slot = max(candidates, key=lambda slot: slot.free_at, default=None)
        slot = slot or min(slots, key=lambda slot: slot.free_at)  # clocks of two nodes differ
        if slot not in held[one.lease]:
            held[one.lease].append(slot)
        slot.executed.append(one)
        slot.lease, slot.free_at = one.lease, one.ended_at
    return slots
