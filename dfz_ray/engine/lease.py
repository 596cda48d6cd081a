"""A slot in use: what a lease has in its hands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from dfz_ray.engine.messages import Chunk


@dataclass(slots=True)
class HeldChunk:
    """A chunk in the hands of a lease."""

    chunk: Chunk
    limit_s: float = math.inf
    """It has overrun its tasks' deadlines when it takes longer than this."""
    begun_at: float | None = None
    is_suspect: bool = False
    kill_at: float = math.inf
    """When its worker is killed for not letting go of what was cancelled of it."""


@dataclass(slots=True)
class Lease:
    """A slot in use."""

    lane: int
    asked_at: float | None = None
    """When it first asked for work: until then Ray has not placed it."""
    held: dict[int, HeldChunk] = field(default_factory=dict)
    served: int = 0
    """How many chunks it was given."""
    ending: bool = False
    killed: str = ""
    """Why its worker is being killed: timeout, preempted or cancelled."""

    def begun(self) -> Iterator[HeldChunk]:
        """The chunks that its worker has begun; the last one is what it executes."""
        return (held for held in self.held.values() if held.begun_at is not None)
