"""Plans the slots of a run, and their processes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import ray

from dfz_ray.manager.nodes import count_held, live_nodes
from dfz_ray.specs.resources import Resources
from dfz_ray.specs.run_config import RunConfig
from dfz_ray.specs.settings import AUTO

THREADS = 16
"""Threads of a process if no number of slots is given. So many tasks keep a core busy if they wait for nine tenths of
their time; if they compute, more of them would only wait for each other."""
AUTO_BEGIN, AUTO_THREADS = 8, 256
"""Threads of a process, at first and at most, if the number of slots follows the throughput."""


class SlotPlan(NamedTuple):
    """The slots of a run, and their processes."""

    slots: int
    """The number of tasks that may execute at once; if `is_auto`, only at first."""
    width: int = 1
    """The largest number of tasks that may share a process, on threads."""
    processes: int = 1
    """The least number of processes over which the slots are spread."""
    is_auto: bool = False
    """True if the number of slots follows the throughput."""


def is_call() -> bool:
    """True if this driver is itself a call in a worker."""
    return bool(ray._private.worker.global_worker.mode == ray.WORKER_MODE)


def find_held() -> dict[str, float]:
    """The resources beside CPUs of a driver that is itself a call, by Ray's names: its run can't have these as well."""
    assigned = ray.get_runtime_context().get_assigned_resources() if is_call() else {}
    return {name: amount for name, amount in assigned.items() if name != "CPU"}


def count_slots(shapes: Iterable[Resources], tasks: int) -> int:
    """The slots of a run without a given number: as many of its smallest shape as the cluster holds, at least 1.

    A driver that is itself a call has the CPUs that it was given: its run takes these over while it waits.
    """
    nodes = live_nodes()
    if is_call():
        own = ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0)
        largest = max(nodes, key=lambda node: node.get("CPU", 0.0), default={})
        nodes = [{**largest, "CPU": own}]
    return int(max(1, min(count_held(shapes, nodes), tasks)))


def plan_slots(config: RunConfig, shapes: Iterable[Resources], tasks: int) -> SlotPlan:
    """The slots of a run with so many tasks of these shapes."""
    asked = config.max_workers
    if asked == AUTO:
        processes = count_slots(shapes, tasks)
        if not config.use_threads:
            return SlotPlan(processes, processes=processes, is_auto=True)
        return SlotPlan(max(1, min(AUTO_BEGIN * processes, tasks)), AUTO_THREADS, processes, is_auto=True)
    if config.use_threads:
        return SlotPlan(*share_slots(asked, shapes, tasks, config.processes))
    return SlotPlan(asked or count_slots(shapes, tasks))


def share_slots(slots: int | None, shapes: Iterable[Resources], tasks: int, most: int | None = None) -> tuple[int, int]:
    """The slots of a run whose tasks share processes, and the slots of one process.

    There are as many processes as the cluster holds of the smallest shape, but no more than slots, nor than `most`.
    If no number of slots is given, each process has THREADS of them.
    """
    processes = count_slots(shapes, tasks if slots is None else slots)
    processes = min(processes, most or processes)
    if slots is None:
        slots = max(1, min(THREADS * processes, tasks))
    return slots, math.ceil(slots / processes)
