"""The options of a run's engine."""

from __future__ import annotations

from dataclasses import dataclass

from dfz_ray.engine.pool import PoolLimits

SHORT_TARGET_S = 0.2
"""The work that a chunk aims at, in seconds, where the program waits for single results, which come with the chunk's,
or where the number of slots follows the throughput, which is known the sooner the shorter chunks are.
"""


@dataclass(frozen=True)
class EngineOptions:
    """The options of a run's engine; times in seconds.

    `dfz_ray.specs.settings` explains those that users set.
    """

    slots: int
    """The tasks that may execute at once, at first."""
    target_s: float = 0.4
    """The work that a chunk aims at."""
    lease_s: float = 2.0
    """The age from which a lease gets no further chunk if others wait for its place."""
    linger_s: float = 0.0
    """The time for which a lease that has nothing to do waits for more work, unless others wait for its place."""
    grace_s: float = 1.0
    """The time that a worker has to end a cancelled or late task before it is killed."""
    preempt_after_s: float | None = 5.0
    """The time that a task may wait behind preemptible ones of a lower priority; None means for ever."""
    free_losses: int = 5
    """The times that a task may be lost with its node without being charged."""
    first_chunk: int = 0
    """Number of the first chunk; a run that goes on continues its numbers."""
    seed: int = 0
    """Seed of the delays before retries."""
    width: int = 1
    """The most slots of one lease; it runs as many tasks at once, on threads."""
    processes: int = 1
    """The fewest leases over which the slots are spread, if there are enough slots."""
    pool: PoolLimits | None = None
    """Limits between which the number of slots follows the throughput; None: it is fixed."""
    cores: float = 1.0
    """The tasks that can compute at once, as far as is known; only the pool uses it."""
