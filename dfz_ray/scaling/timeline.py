"""The timeline of a trial: which slot executed what kind of task when; a few kilobytes, however many tasks there were.

Up to EXACT_TASKS tasks each has a span of its own. Beyond, time is cut into bins, and slots are put together, so that
there are at most CELLS of them; a span is then a row of bins with the same kind (the one that ran longest) and level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dfz_ray.journal.executions import Executed, Slot, assign_slots

EXACT_TASKS = 400
UNITS = 10_000
"""Exact spans have whole multiples of this part of the wall time."""
CELLS = 2_400
LANES = 32
BINS = 240
"""The most bins of a lane; and those of the number of running tasks."""
LEVELS = 4
"""A level of so much says that a lane was busy for the whole span."""
FAINT = 0.02
"""A bin in which a lane was busy for less than this share is left out."""
KINDS = 23
"""The kinds with the longest time have names; the others are one more kind."""
OTHER_KINDS = "other kinds"
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def make_timeline(
    executed: Sequence[Executed], kinds: Sequence[str], called_at: float, wall_s: float, workers: int
) -> dict[str, Any] | None:
    """Describe a trial in plain values; None if nothing was executed, or it took no time.

    Args:
        executed: in the order of their beginning.
        kinds: the name of the kind of each task, by the number of the task.
        called_at: when the trial began, in Unix seconds.
        wall_s: how long it took.
        workers: number of slots.

    Returns:
        kinds: the names of at most KINDS kinds, longest first, and OTHER_KINDS if there are more.
        slots: the slots that executed a task.
        slots_per_lane: how many slots are put together in a lane.
        units: the parts of the wall time that positions count.
        lanes: for each lane its spans: position, length, kind (an index), level (1 to LEVELS).
        running: tasks that ran, averaged over each of BINS equal parts of the wall time.
        tail_s: the time between the first slot that ran out of tasks for good, and the end of the last task.
        ended_s: the end of the last task, from the beginning of the trial.
        task_s: for each of `kinds`, the number of tasks, and QUANTILES of their times. Of a task with an attempt that
            counts the others are left out.
    """
    import numpy as np

    if not executed or wall_s <= 0:
        return None
    names, ranks = _rank_kinds(executed, kinds)
    slots = assign_slots(executed, workers)
    lasts = [slot.free_at for slot in slots]
    together = math.ceil(len(slots) / LANES)
    lanes = [slots[first : first + together] for first in range(0, len(slots), together)]
    if len(executed) <= EXACT_TASKS and together == 1:
        units, spans = UNITS, [_exact_spans(slot, ranks, called_at, wall_s) for slot in slots]
    else:
        units = max(1, min(BINS, CELLS // len(lanes)))
        spans = [_binned_spans(lane, together, ranks, called_at, wall_s, units) for lane in lanes]
    counting = {one.number for one in executed if one.counts}
    times: list[list[float]] = [[] for _ in names]
    for one in executed:
        if one.counts or one.number not in counting:
            times[ranks[one.number]].append(max(0.0, one.ended_at - one.began_at))
    return {
        "kinds": names,
        "slots": len(slots),
        "slots_per_lane": together,
        "units": units,
        "lanes": spans,
        "running": [round(float(busy), 2) for busy in _count_running(executed, called_at, wall_s, BINS)],
        "tail_s": max(lasts) - min(lasts),
        "ended_s": max(lasts) - called_at,
        "task_s": [
            {"tasks": len(mine), "quantiles": [float(f"{value:.4g}") for value in np.quantile(mine, QUANTILES)]}
            for mine in times
        ],
    }


def _rank_kinds(executed: Sequence[Executed], kinds: Sequence[str]) -> tuple[list[str], list[int]]:
    """The names that are shown, longest first, and for every task the position of its kind among them."""
    sums: dict[str, float] = {}
    for one in executed:
        kind = kinds[one.number]
        sums[kind] = sums.get(kind, 0.0) + one.ended_at - one.began_at
    in_order = sorted(sums, key=lambda kind: (-sums[kind], kind))
    shown = in_order if len(in_order) <= KINDS + 1 else [*in_order[:KINDS], OTHER_KINDS]
    positions = {kind: min(position, len(shown) - 1) for position, kind in enumerate(in_order)}
    return shown, [positions.get(kind, len(shown) - 1) for kind in kinds]


def _exact_spans(slot: Slot, ranks: Sequence[int], called_at: float, wall_s: float) -> list[list[int]]:
    spans = []
    for one in slot.executed:
        began, ended = (round(UNITS * (at - called_at) / wall_s) for at in (one.began_at, one.ended_at))
        spans.append([max(0, began), max(1, ended - max(0, began)), ranks[one.number], LEVELS])
    return spans


def _binned_spans(
    lane: Sequence[Slot], together: int, ranks: Sequence[int], called_at: float, wall_s: float, bins: int
) -> list[list[int]]:
    import numpy as np

    executed = [one for slot in lane for one in slot.executed]
    shown = sorted({ranks[one.number] for one in executed})
    busy = np.stack(
        [_count_running([one for one in executed if ranks[one.number] == rank], called_at, wall_s, bins)
         for rank in shown]
    )  # fmt: skip
    longest = busy.argmax(axis=0)
    share = busy.sum(axis=0) / together
    levels = np.where(share > FAINT, np.clip(np.rint(LEVELS * share), 1, LEVELS), 0).astype(int)
    spans: list[list[int]] = []
    for position, (kind, level) in enumerate(zip(longest, levels, strict=True)):
        if not level:
            continue
        rank = shown[kind]
        if spans and spans[-1][0] + spans[-1][1] == position and spans[-1][2:] == [rank, level]:
            spans[-1][1] += 1
        else:
            spans.append([position, 1, rank, int(level)])
    return spans


def _count_running(executed: Sequence[Executed], called_at: float, wall_s: float, bins: int) -> Any:
    """The number of tasks that ran, averaged over each bin."""
    import numpy as np

    edges = np.linspace(0.0, wall_s, bins + 1)
    elapsed = np.zeros(bins + 1)
    for times, sign in (([one.began_at for one in executed], 1), ([one.ended_at for one in executed], -1)):
        since = np.sort(np.asarray(times) - called_at)
        before = np.searchsorted(since, edges)
        sums = np.concatenate([[0.0], np.cumsum(since)])
        elapsed += sign * (before * edges - sums[before])
    return np.maximum(np.diff(elapsed) * bins / wall_s, 0.0)
