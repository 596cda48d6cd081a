"""Ray's errors in words for the users whose tasks they hit."""

from __future__ import annotations

import re

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)


def describe_loss(error: RayError) -> tuple[str, str]:
    """The reason why a worker was lost, as tasks fail for it, and a line of text."""
    if isinstance(error, OutOfMemoryError):
        return "out_of_memory", "the worker was killed because its node ran out of memory"
    if isinstance(error, (NodeDiedError, LocalRayletDiedError)):
        return "node_lost", "the node that ran the task was lost"
    if isinstance(error, WorkerCrashedError):
        text = "the worker process died while it ran the task (a crash in native code, os._exit, or a signal)"
    elif isinstance(error, TaskCancelledError):
        text = "the worker was killed"
    elif isinstance(error, RayTaskError):  # its last line names the error, after a traceback
        text = f"an error ended the worker: {(str(error).strip().splitlines() or ['it has no text'])[-1]}"
    else:
        lines = str(error).strip().splitlines() or ["the error has no text"]
        text = f"{type(error).__name__}: {lines[0]}"
    return "worker_crashed", text


def find_process(error: RayError) -> tuple[str, int] | None:
    """The node's address and the process of a call that has raised; None if its worker has died.

    Ray makes the error one of the class that was raised, too, and then only its text has the two.
    """
    found = re.search(r"\(pid=(\d+), ip=([^)\s]+)\)", str(error)) if isinstance(error, RayTaskError) else None
    return (found[2], int(found[1])) if found else None
