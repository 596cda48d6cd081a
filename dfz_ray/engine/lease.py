"""Slots in use: what a lease has in its hands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from dfz_ray.engine.messages import Chunk
from dfz_ray.engine.queue import Taken

ROUNDING_S = 1e-3
"""A lease is looked at so much earlier than its time, as sums of times are rounded; whether it is time is exact."""


@dataclass(slots=True)
class HeldChunk:
    """A chunk in the hands of a lease."""

    chunk: Chunk
    taken: Taken
    begun_at: float | None = None
    is_suspect: bool = False
    kill_at: float = math.inf
    """When its worker is killed for not letting go of what was cancelled of it."""
    width: int = 1
    """At most so many of its tasks are executed at once."""


@dataclass(slots=True)
class Lease:
    """A process that runs tasks, on one slot or several."""

    lane: int
    width: int = 1
    """How many slots it uses: it executes no more tasks at once."""
    threads: int = 1
    """How many it may execute at once of those that it begins from now on."""
    asked_at: float | None = None
    """When it first asked for work: until then Ray has not placed it."""
    held: dict[int, HeldChunk] = field(default_factory=dict)
    served: int = 0
    """How many chunks it was given."""
    ending: bool = False
    killed: str = ""
    """Why its worker is being killed: timeout, preempted or cancelled."""
    longest_s: float = 0.0
    """How long the longest of its tasks took, of chunks that have ended."""
    look_at: float = math.inf
    """Its worker is not overdue before that."""

    def find_longest_s(self, now: float) -> float:
        """How long the longest of its tasks took, as far as is known: of the chunks in hand the oldest counts."""
        since = [held.begun_at for held in self.held.values() if held.begun_at is not None]
        return max(self.longest_s, now - min(since, default=now))

    def begun(self) -> Iterator[HeldChunk]:
        """The chunks that its worker has begun; the last one is what it executes."""
        return (held for held in self.held.values() if held.begun_at is not None)

    @property
    def ahead_s(self) -> float:
        """The work that each of its slots has in hand, in seconds; what has been done of it counts, too.

        It begins a chunk when the one before it is used up.
        """
        seconds = 0.0
        for held in self.held.values():
            seconds = held.taken.likely_s + (seconds if held.begun_at is None else 0.0)
        return seconds / self.threads

    @property
    def holds_suspects(self) -> bool:
        """Whether it has tasks in hand that are run by themselves."""
        return True in [held.is_suspect for held in self.held.values()]

    def find_overdue(self, grace_s: float, now: float) -> str:
        """Why its worker is to be killed for what it has begun, if it is: it had time to let go by itself."""
        self.look_at = math.inf
        for held in self.begun():
            taken_s = now - held.begun_at if held.begun_at is not None else 0.0
            if taken_s > held.taken.limit_s + 2 * grace_s:
                return "timeout"
            if now >= held.kill_at and taken_s >= grace_s:
                return "cancelled"
            self.watch(held, grace_s)
        return ""

    def watch(self, held: HeldChunk, grace_s: float) -> None:
        """Have it looked at when a chunk that it has begun may be overdue."""
        if held.begun_at is not None:
            late_at = held.begun_at + held.taken.limit_s + 2 * grace_s
            kill_at = max(held.kill_at, held.begun_at + grace_s)
            self.look_at = min(self.look_at, late_at - ROUNDING_S, kill_at - ROUNDING_S)
