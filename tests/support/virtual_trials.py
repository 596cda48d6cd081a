"""Trials of a batch on a virtual machine whose every cost is known: what predictions should find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dfz_ray.scaling.measurement import Measurement

OPEN_S, CLOSE_S = 0.02, 0.01
START_S, PLACE_S, GAP_S = 0.006, 0.001, 0.003
EXCHANGE_S = 0.001


def make_trial(
    workers: int,
    wall_s: float,
    *,
    groups: Sequence[Sequence[float]],
    repeat: int = 0,
    kind: str = "k",
    **changes: Any,
) -> Measurement:
    """A trial whose tasks are of one kind; groups are number, run time and CPU time of tasks."""
    tasks = int(sum(group[0] for group in groups))
    profile = {
        "kinds": [{"name": kind, "lane": 0, "groups": [list(group) for group in groups]}],
        "open_s": OPEN_S,
        "start_s": [START_S + 0.002 + place * PLACE_S for place in range(workers)],
        "renew_s": [],
        "ahead_gap_s": [],
        "asked_gap_s": [GAP_S] * 4,
        "send_task_s": None,
        "commit_s": 0.004,
        "close_s": CLOSE_S,
        "chunks": tasks,
        "leases": workers,
        "manager": [0.03 + 2 * tasks * EXCHANGE_S, 2 * tasks],
    }
    values: dict[str, Any] = {
        "kind": "point",
        "workers": workers,
        "repeat": repeat,
        "order": repeat,
        "wall_s": wall_s,
        "tasks": tasks,
        "completed": tasks,
        "mode": "processes",
        "served": workers,
        "workers_lost": 0,
        "started_at": 1.75e9,
        "profile": profile,
        "study": {"physical_cores": 2},
    }
    return Measurement(**(values | changes))


def make_baseline(wall_s: float, tasks: int, repeat: int = 0) -> Measurement:
    """A trial of the sequential program."""
    return Measurement(
        kind="baseline",
        workers=0,
        repeat=repeat,
        order=100 + repeat,
        wall_s=wall_s,
        tasks=tasks,
        completed=tasks,
        started_at=1.75e9,
        study={"physical_cores": 2},
    )
