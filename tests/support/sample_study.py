"""Trials of a study with known times, and their summary."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from dfz_ray.scaling.measurement import Measurement
from dfz_ray.scaling.summary import build_summary

DIGEST = "ab" * 32


def trial(workers: int, repeat: int = 0, order: int = 0, **changes: Any) -> Measurement:
    """A trial that scales perfectly."""
    values: dict[str, Any] = {
        "kind": "point" if workers else "baseline",
        "workers": workers,
        "repeat": repeat,
        "order": order,
        "wall_s": (1 + 0.01 * repeat) * 8.0 / max(workers, 1),
        "warm_up_s": 1.0 if workers else None,
        "tasks": 40,
        "completed": 40,
        "failed": 0,
        "cancelled": 0,
        "digest": DIGEST,
        "avg_concurrency": 0.9 * max(workers, 1),
        "max_concurrency": max(workers, 1),
        "busy_s": 7.5,
        "served": workers or None,
        "started_at": 1.75e9 + order,
    }
    return Measurement(**(values | changes))


def study(workers: Sequence[int] = (0, 1, 2, 4), repeats: int = 4, **changes: Any) -> list[Measurement]:
    """All trials of a study that scales perfectly, in random order."""
    cells = [(n, repeat) for n in workers for repeat in range(repeats)]
    random.Random(1).shuffle(cells)  # noqa: S311  an order, not a secret
    return [trial(n, repeat, order, **changes) for order, (n, repeat) in enumerate(cells)]


def both_modes(repeats: int = 5) -> list[Measurement]:
    """A study in which threads are twice as fast as processes."""
    shared = study(workers=(0, 1, 2, 4), repeats=repeats)
    alone = [
        dataclasses.replace(one, mode="processes", wall_s=2 * one.wall_s, order=len(shared) + one.order)
        for one in shared
        if one.workers
    ]
    return [dataclasses.replace(one, mode="threads" if one.workers else None) for one in shared] + alone


def summarise(measurements: Sequence[Measurement], **changes: Any) -> dict[str, Any]:
    """The summary of a study of 40 mazes and circuits on two cores."""
    values: dict[str, Any] = {
        "host": {"hostname": "here", "versions": {"ray": "2.40"}},
        "batch": {"domains": ["maze", "quantum"], "count": 40},
        "mode": "processes",
        "physical_cores": 2,
        "cpus_per_task": 1.0,
    }
    return build_summary(measurements=measurements, **(values | changes))
