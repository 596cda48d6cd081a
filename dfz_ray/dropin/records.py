"""The dictionaries that scripts of the old module read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Answer = dict[str, Any]
OLD_KEYS = {"maze": ("completion_time", "completion_time_s"), "sorting": ("time", "time_s")}
"""By domain, a key of a result that scripts of the old module read, and ours."""


def answer(task_id: str, began: float, ended: float, result: Any = None, error: str | None = None) -> Answer:
    """The result of running a task in the foreground; without an error, it completed."""
    outcome = {"status": "success", "result": result} if error is None else {"status": "error", "error": error}
    return {"task_id": task_id, **outcome, **times(began, ended)}


def with_old_keys(result: Any, domain: str) -> Any:
    """The result of a domain, with the keys of the old module too."""
    old, ours = OLD_KEYS.get(domain, ("", ""))
    return {**result, old: result[ours]} if old else result


def times(began: float, ended: float) -> Answer:
    """The keys for the start and the end of an execution, in Unix seconds, and for its duration."""
    return {"start_time": began, "end_time": ended, "duration": ended - began}


def in_numbers(metrics: Mapping[str, Any]) -> Answer:
    """Metrics with 0 for None: scripts format these numbers, also before any task has ended."""
    return {name: 0.0 if value is None else value for name, value in metrics.items()}
