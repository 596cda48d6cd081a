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
    """The reason of the loss of a worker."""
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
    lines = str(error).strip().splitlines() or ["it says no more"]
    return f"{type(error).__name__}: {lines[0]}"
