"""Ray's errors in words for the people whose tasks they hit."""

from __future__ import annotations

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)


def reason_of(error: RayError) -> str:
    """Why a worker was lost, as one of the reasons that tasks fail for."""
    if isinstance(error, OutOfMemoryError):
        return "out_of_memory"
    if isinstance(error, (NodeDiedError, LocalRayletDiedError)):
        return "node_lost"
    return "worker_crashed"


def describe_loss(error: RayError) -> str:
    """Why a worker died, in a line."""
    if isinstance(error, WorkerCrashedError):
        return "the worker process died while it ran the task (a crash in native code, os._exit, or a signal)"
    if isinstance(error, OutOfMemoryError):
        return "the worker was killed because its node ran out of memory"
    if isinstance(error, (NodeDiedError, LocalRayletDiedError)):
        return "the node that ran the task was lost"
    if isinstance(error, TaskCancelledError):
        return "the worker was killed"
    lines = str(error).strip().splitlines() or ["the error has no text"]
    return f"{type(error).__name__}: {lines[0]}"
