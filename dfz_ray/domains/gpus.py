"""The GPUs that this process has been assigned. A task uses these and no others, however many it can see.

They are facts of the process, as its thread pools are: the worker that holds a lease notes them, and a domain that can
use a GPU asks for them. Where nobody has assigned any, there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class AssignedGpus(NamedTuple):
    """GPUs, and the share of each that may be used."""

    ids: tuple[str, ...] = ()
    """As Ray and CUDA_VISIBLE_DEVICES name them: numbers or UUIDs."""
    share: float = 1.0
    """Of the memory of each of them: below 1 where a task asked for a fraction of a GPU."""


NO_GPUS = AssignedGpus()
_assigned = NO_GPUS


def assigned_gpus() -> AssignedGpus:
    """The GPUs that tasks in this process may use."""
    return _assigned


@contextmanager
def assign_gpus(gpus: AssignedGpus) -> Iterator[None]:
    """Let the tasks that this process executes use these GPUs."""
    global _assigned  # noqa: PLW0603 - of this process
    before, _assigned = _assigned, gpus
    try:
        yield
    finally:
        _assigned = before
