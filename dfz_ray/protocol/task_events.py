"""The events of a run's tasks, as the manager reports them to a driver that listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

from dfz_ray.protocol.columns import Completions
from dfz_ray.protocol.message_bytes import pack_message, unpack_message
from dfz_ray.specs.states import State


class FailedTask(NamedTuple):
    """A task that has ended without a result, and was not cancelled."""

    number: int
    reason: str
    message: str
    traceback: str | None
    payload: bytes | None = None
    """Its exception, if the domain sends it; it is never written down."""
    began_at: float | None = None
    """Start and end of the last attempt, in Unix seconds; None if its worker could not report."""
    ended_at: float | None = None
    node: str | None = None
    state: State = State.FAILED


class TaskEvents(NamedTuple):
    """All events since the last report; all ends are on disk."""

    counts: Sequence[int]
    """Tasks per state, in the order of the lifecycle's states."""
    begun: Sequence[int] = ()
    """Tasks that a worker has begun, or is about to begin."""
    completions: Sequence[Completions] = ()
    """The tasks that completed. A result that is a str names its file in the run folder."""
    nodes: Sequence[str | None] = ()
    """For each of the completions the host name of its worker's node."""
    failures: Sequence[FailedTask] = ()
    cancelled: Sequence[int] = ()
    unsuccessful: Sequence[int] = ()
    """The tasks of attempts that did not complete, once for each such attempt."""
    is_whole: bool = False
    """True if these are all events of the run, not only the latest ones: another manager has taken it over."""
    stored: Sequence[tuple[int, str | None]] = ()
    """Further chunks in which tasks completed, each with the host name of its node; the journal has the results."""

    def pack(self) -> bytes:
        """Pack them for their way to the driver."""
        return pack_message(self)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """The events, as they reach the driver."""
        events = cls(*unpack_message(packed))
        return events._replace(
            completions=[Completions(*columns) for columns in events.completions],
            failures=[FailedTask(*one)._replace(state=State(one[-1])) for one in events.failures],
            stored=[(chunk, node) for chunk, node in events.stored],
        )
