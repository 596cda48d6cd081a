"""How many slots a run has, and how the processes of the cluster share them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from dfz_ray.manager.nodes import count_held, live_nodes
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.settings import AUTO, MaxWorkers

THREADS = 16
"""Threads of a process where nobody names a number of slots: so many tasks that wait for nine tenths of their time, or
more, keep a core busy; many more of those that compute would only wait for each other."""
AUTO_BEGIN, AUTO_THREADS = 8, 256
"""Threads of a process where their number follows what pays: at first, and at most."""


class SlotPlan(NamedTuple):
    """The slots of a run, and how they are shared out."""

    slots: int
    """How many tasks may execute at once; at first, where that follows what pays."""
    width: int = 1
    """How many tasks may share a process at most, on threads."""
    processes: int = 1
    """Over so many processes at least they are spread."""
    is_auto: bool = False
    """Whether their number follows what pays."""


def count_slots(shapes: Iterable[Resources], tasks: int) -> int:
    """The slots of a run that names no number: as many of its smallest shape as the cluster holds, at least 1."""
    return int(max(1, min(count_held(shapes, live_nodes()), tasks)))


def plan_slots(asked: MaxWorkers, use_threads: bool, shapes: Iterable[Resources], tasks: int) -> SlotPlan:
    """The slots of a run.

    Args:
        asked: a number, None for as many as suit the cluster, or `auto`.
        use_threads: whether tasks share processes.
        shapes: of the tasks.
        tasks: how many there are.
    """
    if asked == AUTO:
        processes = count_slots(shapes, tasks)
        if not use_threads:
            return SlotPlan(processes, processes=processes, is_auto=True)
        return SlotPlan(max(1, min(AUTO_BEGIN * processes, tasks)), AUTO_THREADS, processes, is_auto=True)
    if use_threads:
        return SlotPlan(*share_slots(asked, shapes, tasks))
    return SlotPlan(asked or count_slots(shapes, tasks))


def share_slots(slots: int | None, shapes: Iterable[Resources], tasks: int) -> tuple[int, int]:
    """The slots of a run whose tasks share processes, and how many of them one process has.

    There are as many processes as the cluster holds of the smallest shape, and no more than slots.

    Args:
        slots: how many are asked for; None: THREADS for each process.
        shapes: of the tasks.
        tasks: how many there are.
    """
    processes = count_slots(shapes, tasks if slots is None else slots)
    if slots is None:
        slots = max(1, min(THREADS * processes, tasks))
    return slots, math.ceil(slots / processes)
