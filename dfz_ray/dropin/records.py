"""The dictionaries that scripts of the old module read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Answer = dict[str, Any]


def answer(task_id: str, began: float, ended: float, result: Any = None, error: str | None = None) -> Answer:
    """The result of running a task in the foreground; without an error, it completed."""
    outcome = {"status": "success", "result": result} if error is None else {"status": "error", "error": error}
    return {"task_id": task_id, **outcome, **times(began, ended)}


def times(began: float, ended: float) -> Answer:
    """The keys for the start and the end of an execution, in Unix seconds, and for its duration."""
    return {"start_time": began, "end_time": ended, "duration": ended - began}


def in_numbers(metrics: Mapping[str, Any]) -> Answer:
    """Metrics with 0 for None: scripts format these numbers, also before any task has ended."""
    return {name: 0.0 if value is None else value for name, value in metrics.items()}
