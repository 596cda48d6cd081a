"""Whether a failed attempt is followed by another one, and when."""

from __future__ import annotations

from typing import NamedTuple


class KindPolicy(NamedTuple):
    """What the tasks of a kind allow; `dfz_ray.specs.policy` explains each field to users."""

    max_attempts: int = 3
    retry_on: frozenset[str] = frozenset({"worker_crashed", "node_lost", "out_of_memory"})
    """Reasons of failures after which another attempt is due."""
    first_s: float = 0.1
    factor: float = 2.0
    most_s: float = 60.0
    jitter: float = 0.5
    """The share of a delay that is drawn."""
    timeout_s: float | None = None
    priority: int = 0
    """Higher goes first."""
    preemptible: bool = True


def get_retry_decision(policy: KindPolicy, charged: int, reason: str, number: int, seed: int = 0) -> float | None:
    """The seconds after which a task is tried again, or None where this failure is its last.

    Args:
        policy: of its kind.
        charged: how many attempts have been charged to it, this one included.
        reason: of the failure.
        number: of the task.
        seed: of the run; the same seed draws the same delays.
    """
    if reason not in policy.retry_on or charged >= policy.max_attempts:
        return None
    try:
        delay_s = min(policy.most_s, policy.first_s * policy.factor ** (charged - 1))
    except OverflowError:
        delay_s = policy.most_s
    return delay_s * (1 - policy.jitter * _draw(seed, number, charged))


_MASK = 2**64 - 1


def _draw(*values: int) -> float:
    """A number from 0 to less than 1 that looks random: the mixing steps of SplitMix64 (Steele, Lea, Flood, 2014)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return (state >> 11) / 2**53
