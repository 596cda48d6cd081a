"""The state of one lease: its slots and the chunks that it holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from dfz_ray.engine.messages import Chunk
from dfz_ray.engine.queue import Taken

BEGIN_S = 10.0
"""Seconds that a worker may take to report that it began a chunk, beside the deadlines and graces of its tasks."""
ROUNDING_S = 1e-3
"""Seconds by which a lease is checked early, because sums of times are rounded; the check itself is exact."""


@dataclass(slots=True)
class HeldChunk:
    """A chunk that a lease holds."""

    chunk: Chunk
    taken: Taken
    ready_at: float = 0.0
    """The time from which it could begin: it was given then, or the chunk before it ended."""
    begun_at: float | None = None
    """The time at which its worker reported that it began, or at which it was given to a worker that begins at once."""
    is_reported: bool = False
    """True if its worker has reported that it began."""
    is_suspect: bool = False
    kill_at: float = math.inf
    """The time at which its worker is killed if the cancelled tasks of the chunk have not ended."""
    width: int = 1
    """The most of its tasks that are executed at once."""
    finds_slot: bool = False
    """True if a slot of its lease was free when it was given: then it begins as soon as it is there."""
    has_order: bool = True
    """True if one thread executes its tasks, one after the other, and has done so from the first one on."""


@dataclass(slots=True)
class Lease:
    """A process that runs tasks, on one slot or several."""

    lane: int
    width: int = 1
    """The slots that it uses: it executes no more tasks at once."""
    threads: int = 1
    """The most tasks that it may execute at once, of those that it begins from now on."""
    asked_at: float | None = None
    """The time of its first request for work; None while Ray has not placed it."""
    node: str = ""
    """The node that it runs on, if that is known."""
    held: dict[int, HeldChunk] = field(default_factory=dict)
    free_at: float | None = None
    """The time at which it will probably have executed all that it holds; None if it holds nothing."""
    served: int = 0
    """The number of chunks that it has received."""
    ending: bool = False
    killed: str = ""
    """The reason why its worker is being killed: timeout, preempted or cancelled; else empty."""
    longest_s: float = 0.0
    """The longest run time of its tasks, in chunks that have ended."""
    look_at: float = math.inf
    """The time before which its worker can't be overdue."""

    def find_longest_s(self, now: float) -> float:
        """The longest run time of its tasks; the oldest chunk that it holds counts as one task."""
        return max(self.longest_s, now - min((held.begun_at or 0.0 for held in self.begun()), default=now))

    def begun(self) -> Iterator[HeldChunk]:
        """The chunks that its worker has begun; it executes the last of them."""
        return (held for held in self.held.values() if held.begun_at is not None)

    @property
    def ahead_s(self) -> float:
        """The work that it holds for each of its slots, in seconds, including the executed part of it.

        It begins a chunk when the one before it is used up.
        """
        seconds = 0.0
        for held in self.held.values():
            seconds = held.taken.likely_s + (seconds if held.begun_at is None else 0.0)
        return seconds / self.threads

    @property
    def holds_suspects(self) -> bool:
        """True if it holds tasks that are run by themselves."""
        return True in [held.is_suspect for held in self.held.values()]

    def find_overdue(self, grace_s: float, now: float) -> str:
        """The reason why its worker has to be killed, if it is overdue; else empty.

        The worker had time to end the task by itself.
        """
        return next((why for at, why in self._find_limits(grace_s) if now >= at), "")

    def watch(self, grace_s: float) -> None:
        """Plan a check for the first time at which its worker may be overdue."""
        self.look_at = min([at for at, _ in self._find_limits(grace_s)], default=math.inf) - ROUNDING_S

    def _find_limits(self, grace_s: float) -> Iterator[tuple[float, str]]:
        """The times after which its worker is overdue, each with the reason.

        A worker may be stopped before its report that a chunk began has left it. So the deadlines of a chunk count
        from when it could begin: when it was given, and a slot is free. One is if the lease has said so, or the chunks
        before it use fewer, or have ended or must have.
        """
        ended_at, threads = 0.0, 0
        for held in self.held.values():
            if held.begun_at is not None:
                yield max(held.kill_at, held.begun_at + grace_s), "cancelled"
            if held.begun_at is not None and held.is_reported:
                limit_at = held.begun_at + held.taken.limit_s + 2 * grace_s
            else:
                is_free = held.finds_slot or threads < self.width
                begins_at = held.ready_at if is_free else max(held.ready_at, ended_at)
                limit_at = begins_at + held.taken.limit_s + 2 * grace_s + BEGIN_S
            yield limit_at, "timeout"
            ended_at, threads = max(ended_at, limit_at), threads + min(held.width, len(held.chunk.numbers))
