"""The metrics of a run, computed from the start and end of each execution, as the workers measured them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def compute_metrics(
    spans: ArrayLike,
    counts: Mapping[str, int],
    slots: float | None,
    changes: Sequence[tuple[float, int]] = (),
    pauses: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """The metrics of a run.

    Args:
        spans: shape (executions, 2), start and end of every execution that ended, in seconds on one clock.
        counts: tasks per state.
        slots: how many tasks could execute at once, at the beginning; None if that is not known.
        changes: the time of each change of that number, and the new number, in order of time. `utilization` is relative
            to the mean over the makespan.
        pauses: begin and end of each time when nobody worked on the run, in order of time. They do not count.

    Returns:
        Rates are fractions, times are in seconds, throughput is in completed tasks per second. `total_duration` is the
        makespan: from the first start to the last end, less the pauses. `concurrent_executions` has the number of tasks
        executing right after each start. A metric is None if there was nothing to measure.
    """
    total = sum(counts.values())
    completed, failed = counts["completed"], counts["failed"]
    metrics: dict[str, Any] = {
        "total_tasks": total,
        "successful_tasks": completed,
        "failed_tasks": failed,
        "success_rate": completed / total if total else None,
        "failure_rate": failed / total if total else None,
        **dict.fromkeys(("avg_duration", "min_duration", "max_duration", "avg_concurrency", "total_duration")),
        "max_concurrency": 0,
        "throughput": None,
        "utilization": None,
        "task_durations": [],
        "concurrent_executions": [],
    }
    times = np.asarray(spans, dtype=float)
    if not times.size:
        return metrics
    durations = times[:, 1] - times[:, 0]
    times = _without_pauses(times, pauses)
    changes = [(float(_without_pauses(np.asarray(at), pauses)), count) for at, count in changes]
    metrics |= _describe_executions(durations, times)
    makespan = metrics["total_duration"]
    if makespan > 0:
        busy = float(durations.sum())
        metrics["avg_concurrency"] = busy / makespan
        metrics["throughput"] = completed / makespan
        available = _mean_slots(slots, changes, float(times[:, 0].min()), makespan) if slots else 0.0
        metrics["utilization"] = busy / (makespan * available) if available else None
    return metrics


def _describe_executions(durations: np.ndarray[Any, Any], times: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The metrics of executions that follow from their durations, and from their times without pauses."""
    levels = concurrency(times)
    return {
        "avg_duration": float(durations.mean()),
        "min_duration": float(durations.min()),
        "max_duration": float(durations.max()),
        "max_concurrency": int(levels.max()),
        "total_duration": float(times[:, 1].max() - times[:, 0].min()),
        "task_durations": durations.tolist(),
        "concurrent_executions": levels.tolist(),
    }


def _without_pauses(times: np.ndarray[Any, Any], pauses: Sequence[tuple[float, float]]) -> np.ndarray[Any, Any]:
    """The times on a clock that stands still during each pause."""
    passed = [np.clip(times - begun_at, 0.0, ended_at - begun_at) for begun_at, ended_at in pauses]
    return times - sum(passed) if passed else times


def _mean_slots(slots: float, changes: Sequence[tuple[float, int]], begun_at: float, makespan_s: float) -> float:
    """The mean number of slots over the makespan, each number weighted by how long it applied."""
    edges = [0.0, *(min(max(at - begun_at, 0.0), makespan_s) for at, _ in changes), makespan_s]
    counts = [slots, *(count for _, count in changes)]
    return float(np.dot(np.diff(edges), counts)) / makespan_s


def concurrency(times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The number of executions under way right after each start, in the order of the starts.

    `times` has shape (executions, 2). An execution that starts at the moment when another ends does not overlap it.
    """
    starts, ends = np.sort(times[:, 0]), np.sort(times[:, 1])
    levels: np.ndarray[Any, Any] = np.searchsorted(starts, starts, "right") - np.searchsorted(ends, starts, "right")
    return levels
