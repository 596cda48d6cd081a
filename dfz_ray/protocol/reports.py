"""What a worker tells the manager: where its lease runs, how a chunk ended, which one begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dfz_ray.execution.execute import Execution
from dfz_ray.protocol.columns import NOTHING_COMPLETED, Completions, pack


class Place(NamedTuple):
    """Where a lease runs."""

    host: str
    node_id: str
    """Ray's."""
    process: int
    started_at: float
    """When the process was started: another one may have its number later."""
    mark: str
    """Name of the lease's mark on the node."""


class Executions(NamedTuple):
    """What was executed of a chunk, packed: Ray's pickling would take far longer for so many small objects."""

    completions: Completions
    failures: bytes
    """Of those that failed: see Ended."""


NOTHING_EXECUTED = Executions(NOTHING_COMPLETED, pack(()))


class Ended(NamedTuple):
    """The same as the manager reads it: it does not look inside what completed."""

    completions: Completions
    failures: Sequence[tuple[int, float, float, float, str, str, str | None, bytes | None]]
    """Number, start, end, CPU time, reason, message, traceback, payload."""


class Report(NamedTuple):
    """What a lease tells the manager: which chunk ended and how, which one begins, and that it asks for work."""

    lease: int
    ended: int | None = None
    executions: Executions = NOTHING_EXECUTED
    began: int | None = None
    place: Place | None = None
    """In the first report."""
    asks: bool = True
    """Whether it asks for work."""
    busy: int = 0
    """Of a lease with several threads: for how many of them it has tasks in hand."""


def pack_executions(executions: Sequence[Execution]) -> Executions:
    """Executions as they travel."""
    completed = [one for one in executions if one.failure is None]
    failed = [(*one[:4], *one.failure) for one in executions if one.failure is not None]
    return Executions(Completions.of(completed), pack(failed))
