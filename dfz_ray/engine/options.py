"""What the engine of a run goes by."""

from __future__ import annotations

from dataclasses import dataclass

from dfz_ray.engine.pool import PoolLimits


@dataclass(frozen=True)
class EngineOptions:
    """What the engine goes by; times in seconds.

    `dfz_ray.specs.settings` explains those that users set.
    """

    slots: int
    """How many tasks may execute at once."""
    target_s: float = 0.2
    """The work that a chunk aims at."""
    lease_s: float = 2.0
    """After this long a lease gets no further chunk."""
    grace_s: float = 1.0
    """How long a worker may take to let go of a task that is cancelled, or late, before it is killed."""
    preempt_after_s: float | None = 5.0
    """How long a task may wait behind preemptible ones of a lower priority; None: for ever."""
    free_losses: int = 5
    """How often a task may be lost with its node without being charged."""
    first_chunk: int = 0
    """Number of the first chunk; a run that goes on continues its numbers."""
    seed: int = 0
    """Of the delays before retries."""
    width: int = 1
    """How many slots one lease may have: each runs so many tasks at once, on threads."""
    processes: int = 1
    """Over so many leases at least the slots are spread, as far as there are so many."""
    pool: PoolLimits | None = None
    """Between which numbers the slots follow what pays; None: they stay as many as there are."""
    cores: float = 1.0
    """How many tasks can compute at once, as far as is known: for the pool."""
