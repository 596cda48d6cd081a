"""What happens to the tasks of a run, as the manager tells a driver that listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dfz_ray.protocol.columns import Completions


class FailedTask(NamedTuple):
    """A task that has failed for good."""

    number: int
    reason: str
    message: str
    traceback: str | None
    payload: bytes | None = None
    """Its exception, where the domain sends it along; it is never written down."""
    began_at: float | None = None
    """Start and end of the last attempt, in Unix seconds, where its worker could tell."""
    ended_at: float | None = None
    node: str | None = None


class TaskEvents(NamedTuple):
    """What has happened since the last news; what has ended is on disk."""

    counts: Sequence[int]
    """Tasks per state, in the order of the lifecycle's states."""
    begun: Sequence[int] = ()
    """Tasks that a worker has begun, or is about to begin."""
    completions: Sequence[Completions] = ()
    """As columns; a result that is a text is the name of its file in the run folder."""
    nodes: Sequence[str | None] = ()
    """For each of the completions the host name of its worker's node."""
    failures: Sequence[FailedTask] = ()
    cancelled: Sequence[int] = ()
    unsuccessful: Sequence[int] = ()
    """Tasks of which an attempt has ended by which they did not complete, once for each such attempt."""
    is_whole: bool = False
    """Whether these are no news, but all that is known of the run: after another manager has taken it over."""
