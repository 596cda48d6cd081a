"""Trials of a study with executions, as a journal would have them: their timelines and splits."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

from dfz_ray.journal.executions import Executed
from dfz_ray.scaling.losses import find_busiest_s, split_time
from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.timeline import make_timeline
from support.sample_study import trial

CALLED_AT = 1000.0


def schedule(tasks: int, workers: int, kinds: int, work_s: float = 20.0) -> tuple[list[Executed], list[str], float]:
    """A greedy schedule of uneven tasks: the executions in the order of their beginning, kinds, and wall time."""
    draw = random.Random(tasks + workers)  # noqa: S311 - no secret is drawn
    kind_of = [f"domain: kind {number % kinds}" for number in range(tasks)]
    free = [(CALLED_AT + 0.05 * work_s / workers, slot) for slot in range(workers)]
    executed = []
    for number in range(tasks):
        free_at, slot = heapq.heappop(free)
        took_s = work_s / tasks * (0.5 + number % kinds) / (0.5 * kinds) * draw.uniform(0.7, 1.3)
        began_at = free_at + 0.01 * work_s / tasks
        executed.append(Executed(number, (1, slot), began_at, began_at + took_s, took_s, number // 10))
        heapq.heappush(free, (began_at + took_s, slot))
    executed.sort(key=lambda one: one.began_at)
    return executed, kind_of, max(free)[0] + 0.1 - CALLED_AT


def trial_with_timeline(workers: int, tasks: int, kinds: int, repeat: int = 0, order: int = 0) -> Measurement:
    """A trial as a study measures it; 0 workers: the sequential program."""
    executed, kind_of, wall_s = schedule(tasks, max(workers, 1), kinds)
    busy_s = sum(one.ended_at - one.began_at for one in executed)
    split = split_time(executed, CALLED_AT, CALLED_AT + wall_s, workers) if workers else None
    timeline = make_timeline(executed, kind_of, CALLED_AT, wall_s, max(workers, 1))
    busiest_s = find_busiest_s(executed, workers) if workers else None
    measured = {
        "busiest_s": busiest_s,
        "wall_s": wall_s,
        "busy_s": busy_s,
        "cpu_s": 0.9 * busy_s,
        "split": split,
        "timeline": timeline,
    }
    return trial(
        workers, repeat, order, tasks=tasks, completed=tasks, mode="processes" if workers else None, **measured
    )


def study_with_timelines(
    workers: Sequence[int] = (0, 1, 2, 4), tasks: int = 40, kinds: int = 3, repeats: int = 4
) -> list[Measurement]:
    """A study whose trials have timelines."""
    cells = [(n, repeat) for repeat in range(repeats) for n in workers]
    return [trial_with_timeline(n, tasks, kinds, repeat, order) for order, (n, repeat) in enumerate(cells)]
