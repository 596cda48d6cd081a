"""Ray's errors in words for the people whose tasks they hit."""

from __future__ import annotations

from ray.exceptions import RayError, WorkerCrashedError


def describe_loss(error: RayError) -> str:
    """Why a worker died, in a line."""
    if isinstance(error, WorkerCrashedError):
        return "the worker process died while it ran the task (a crash in native code, os._exit, or a signal)"
    lines = str(error).strip().splitlines() or ["it says no more"]
    return f"{type(error).__name__}: {lines[0]}"
