"""Reports: a lease reports to the manager its place, the end of a chunk, and the beginning of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dfz_ray.engine.messages import ChunkEnded
from dfz_ray.execution.execute import Execution
from dfz_ray.protocol.columns import Completions, pack, unpack
from dfz_ray.protocol.message_bytes import pack_message, unpack_message


class Place(NamedTuple):
    """The place of a lease: its node and its process."""

    host: str
    node_id: str
    """Ray's."""
    process: int
    start: float
    """The start of the process, as `read_start` tells it: another one may have its number later."""
    marker: str
    """Name of the lease's crash marker on the node."""


class Spoiled(NamedTuple):
    """The state of a worker's process has changed, so that no further task may be executed there."""

    chunks: Sequence[int]
    """The chunks whose tasks may have felt it: no result of theirs is reported."""
    message: str
    """The changed parts, for the user."""


class Report(NamedTuple):
    """A message of a lease's worker."""

    lease: int
    number: int
    """Counts the lease's reports, from 1."""
    ended: int | None = None
    """The chunk that has ended."""
    executed: Any = None
    """The executed part of that chunk. The protocol passes it on unread; on Ray it is packed."""
    began: int | None = None
    """The chunk that has begun, or is about to begin."""
    place: Any = None
    """In the first report; on Ray it is a Place."""
    asks: bool = True
    """True if it asks for work."""
    busy: int = 0
    """The number of its threads that have a task, among those that may execute one."""
    spoiled: Spoiled | None = None
    """In the last report of a worker whose process is spoiled."""
    waited_s: float = 0.0
    """The seconds for which it had nothing to execute until the last order was there."""


class Ended(NamedTuple):
    """The executed part of a chunk as the manager reads it, without a look inside the completions."""

    completions: Completions
    failures: Sequence[tuple[int, float, float, float, str, str, str | None, bytes | None]]
    """Number, start, end, CPU time, reason, message, traceback, payload."""


def pack_executions(executions: Sequence[Execution]) -> list[Any]:
    """Pack executions for their way to the manager: the columns of those that completed, and the failures."""
    completed = [one for one in executions if one.failure is None]
    failed = [(*one[:4], *one.failure) for one in executions if one.failure is not None]
    return [list(Completions.of(completed)), pack(failed)]


def unpack_executions(packed: Sequence[Any]) -> Ended:
    """Unpack executions for the manager."""
    completions, failures = packed
    return Ended(Completions(*completions), unpack(failures))


def pack_report(run_id: str, report: Report) -> bytes:
    """Pack a report of a run's lease for its way to the manager."""
    if report.ended is not None:
        report = report._replace(executed=pack_executions(report.executed))
    return pack_message((run_id, *report))


def unpack_report(packed: Any) -> tuple[str, Report]:
    """A report as it reaches the manager, and its run.

    Raises:
        TypeError: it is none: a task may have spoiled its worker. What others sent in the same group still counts.
    """
    try:
        run_id, *fields = unpack_message(packed)
        report = Report(*fields)
        place = None if report.place is None else Place(*report.place)
        spoiled = None if report.spoiled is None else Spoiled(*report.spoiled)
    except (TypeError, ValueError) as error:
        raise TypeError(f"a worker sent no report: {error}") from None
    return run_id, report._replace(place=place, spoiled=spoiled)


def describe_end(lease: int, chunk: int, ended: Ended, has_cpu: bool) -> ChunkEnded:
    """The end of a chunk as an event of the engine.

    Args:
        lease: its lease.
        chunk: its id.
        ended: the executed part.
        has_cpu: True if the engine uses the CPU time, which takes a while to add up.
    """
    completions, failed = ended
    numbers = completions.numbers() + [row[0] for row in failed]
    durations_s = completions.durations_s() + [row[2] - row[1] for row in failed]
    failures = {row[0]: row[4] for row in failed}
    cpu_s = completions.cpu_s() + sum(row[3] for row in failed) if has_cpu else None
    return ChunkEnded(lease, chunk, numbers, durations_s, failures, cpu_s)
