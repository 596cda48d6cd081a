"""The dictionaries that scripts of the old module read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Answer = dict[str, Any]


def answer(task_id: str, began: float, ended: float, result: Any = None, error: str | None = None) -> Answer:
    """What running a task in the foreground returns.

    Args:
        task_id: its id.
        began: start of the execution, in Unix seconds.
        ended: its end.
        result: what came of it.
        error: why it failed; None: it did not.
    """
    told = {"status": "success", "result": result} if error is None else {"status": "error", "error": error}
    return {"task_id": task_id, **told, "start_time": began, "end_time": ended, "duration": ended - began}


def unknown(task_id: str) -> Answer:
    """The status of a task that was never submitted."""
    return {"task_id": task_id, "status": "unknown"}


def in_numbers(metrics: Mapping[str, Any]) -> Answer:
    """Metrics without None: scripts format these numbers, also before anything has ended; then they are 0."""
    return {name: 0.0 if value is None else value for name, value in metrics.items()}
