"""The profile of a trial: what its journal says about the times that a prediction needs, in plain values.

Times of tasks are kept by kind, as groups of tasks that took about as long. The longest tasks are groups of their own,
because they decide when a run ends. Overheads are kept as samples.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dfz_ray.journal.executions import Executed, Slot, assign_slots
from dfz_ray.journal.run_times import Block, ChunkTimes, read_run_times

GROUPS = 48
"""The most groups of a kind, besides its longest tasks."""
LONGEST = 16
"""The longest tasks of a kind are kept singly, if it has more tasks than GROUPS."""
KINDS = 64
"""If a trial has more kinds, those of one lane whose tasks take about as long are put together."""
SAMPLES = 32
"""The most samples of an overhead."""


ManagerUsage = tuple[float, int, float, int]
"""CPU seconds of a manager, exchanges, seconds of waits for it, and waits, up to some time."""


class Usage(NamedTuple):
    """The time and the exchanges that a trial cost the manager."""

    cpu_s: float
    """CPU seconds of its whole process."""
    exchanges: int
    waited_s: float = 0.0
    """The seconds for which slots waited for it, the sum of all."""
    waits: int = 0

    @classmethod
    def between(cls, before: ManagerUsage, after: ManagerUsage) -> Usage:
        """The difference of two readings."""
        return cls(after[0] - before[0], after[1] - before[1], after[2] - before[2], after[3] - before[3])


def profile_trial(
    folder: Path, called_at: float | None, returned_at: float | None, workers: int, usage: Usage | None
) -> dict[str, Any] | None:
    """Read the profile of a run that went well; None if tasks failed or were tried again, or it was resumed.

    Args:
        folder: of the run.
        called_at: when `run` was called, in Unix seconds; None: when the batch was sent.
        returned_at: when it returned; None: at the last commit.
        workers: number of slots.
        usage: what the trial cost the manager, if that was measured.

    Returns:
        kinds: for each kind its name, its lane, and groups of tasks: their number, and the mean of their run times and
            of their CPU times.
        open_s: from the call until the driver sends the batch.
        start_s: for each of the first leases, from then until its first task begins, in that order.
        renew_s: from the end of a lease until the next one on its slot begins its first task.
        ahead_gap_s: between two chunks of a lease, if the second was handed out while the first was executed.
        asked_gap_s: the same if the lease had to ask for it.
        send_task_s: for each task that was not in the first block, between the commits of two blocks; None if all were.
        commit_s: from the last end until the last commit.
        close_s: from the last commit until the results are in hand.
        chunks, leases: how many there were.
        manager: CPU seconds and exchanges of the manager; None if unknown.
        waits: the seconds for which slots waited for the manager, and how often they did; None if unknown.
    """
    times = read_run_times(folder)
    if times is None:
        return None
    executed = sorted((one for chunk in times.chunks for one in chunk.executed), key=lambda one: one.began_at)
    kind_of = [kind for block in times.blocks for kind in block.kinds]
    sent_at, committed_at, last = times.sent_at, times.committed_at, max(one.ended_at for one in executed)
    returned_at = committed_at if returned_at is None else returned_at
    slots = assign_slots(executed, workers)
    ahead, asked = _find_gaps(times.chunks)
    return {
        "kinds": _group_kinds(times.kinds, kind_of, executed),
        "open_s": max(0.0, sent_at - (sent_at if called_at is None else called_at)),
        "start_s": _sample(sorted(max(0.0, slot.executed[0].began_at - sent_at) for slot in slots)),
        "renew_s": _sample(sorted(_find_renewals(slots))),
        "ahead_gap_s": _sample(sorted(ahead)),
        "asked_gap_s": _sample(sorted(asked)),
        "send_task_s": _find_send_s(times.blocks),
        "commit_s": max(0.0, committed_at - last),
        "close_s": max(0.0, returned_at - max(committed_at, last)),
        "chunks": len(times.chunks),
        "leases": times.leases,
        "manager": None if usage is None else [usage.cpu_s, usage.exchanges],
        "waits": None if usage is None else [usage.waited_s, usage.waits],
    }


def _find_gaps(chunks: Sequence[ChunkTimes]) -> tuple[list[float], list[float]]:
    """The gaps between the chunks of a lease: those that were handed out ahead, and those that were asked for."""
    by_lease: defaultdict[tuple[int, int], list[ChunkTimes]] = defaultdict(list)
    for chunk in chunks:
        by_lease[chunk.lease].append(chunk)
    ahead: list[float] = []
    asked: list[float] = []
    for own in by_lease.values():
        own.sort(key=lambda chunk: chunk.executed[0].began_at)
        for before, after in itertools.pairwise(own):
            ended_at = before.executed[-1].ended_at
            gap_s = after.executed[0].began_at - ended_at
            if gap_s >= 0:
                (ahead if after.dispatched_at < ended_at else asked).append(gap_s)
    return ahead, asked


def _find_renewals(slots: Sequence[Slot]) -> list[float]:
    pairs = (pair for slot in slots for pair in itertools.pairwise(slot.executed))
    return [max(0.0, after.began_at - before.ended_at) for before, after in pairs if before.lease != after.lease]


def _find_send_s(blocks: Sequence[Block]) -> float | None:
    later = sum(len(block.kinds) for block in blocks[1:])
    return (blocks[-1].committed_at - blocks[0].committed_at) / later if later else None


def _group_kinds(
    kinds: Sequence[tuple[str, str, str]], kind_of: Sequence[int], executed: Sequence[Executed]
) -> list[dict[str, Any]]:
    times: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for one in executed:
        times[kind_of[one.number]].append((one.ended_at - one.began_at, one.cpu_s))
    lanes: dict[tuple[str, str], int] = {}
    found = [
        (kinds[kind][1] or kinds[kind][0], lanes.setdefault((kinds[kind][0], kinds[kind][2]), len(lanes)), own)
        for kind, own in sorted(times.items())
    ]
    if len(found) > KINDS:
        found = _merge_kinds(found)
    return [{"name": name, "lane": lane, "groups": _group(own)} for name, lane, own in found]


_Kind = tuple[str, int, list[tuple[float, float]]]


def _merge_kinds(kinds: Sequence[_Kind]) -> list[_Kind]:
    """Put together kinds of one lane whose tasks take about as long."""
    in_order = sorted(kinds, key=lambda kind: (kind[1], sum(run_s for run_s, _ in kind[2]) / len(kind[2])))
    merged: list[_Kind] = []
    each = -(-len(in_order) // KINDS)
    for _, own in itertools.groupby(in_order, key=lambda kind: kind[1]):
        mine = list(own)
        for part in (mine[first : first + each] for first in range(0, len(mine), each)):
            times = [one for _, _, times in part for one in times]
            merged.append((f"{part[0][0]} and {len(part) - 1} others", part[0][1], times))
    return merged


def _group(times: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Groups of tasks that took about as long: number, mean run time, mean CPU time."""
    in_order = sorted(times)
    parts = [[one] for one in in_order]
    if len(in_order) > GROUPS + LONGEST:
        rest = len(in_order) - LONGEST
        ends = [rest * group // GROUPS for group in range(GROUPS + 1)]
        parts = [in_order[first:end] for first, end in itertools.pairwise(ends)] + [[one] for one in in_order[rest:]]
    return [[len(part), *(round(sum(column) / len(part), 9) for column in zip(*part, strict=True))] for part in parts]


def _sample(in_order: Sequence[float]) -> list[float]:
    """At most SAMPLES of the values, evenly spread."""
    if len(in_order) <= SAMPLES:
        return [round(value, 6) for value in in_order]
    last = len(in_order) - 1
    return [round(in_order[round(last * place / (SAMPLES - 1))], 6) for place in range(SAMPLES)]
