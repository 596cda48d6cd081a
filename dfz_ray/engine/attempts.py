"""The attempts that are charged to tasks, and the delays before the next ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfz_ray.specs.policy import Policy


class Attempts:
    """The attempts of the tasks that did not complete at the first one.

    A task may be lost with its node `free_losses` times before a loss is charged to it.
    """

    def __init__(self, policy_of: Callable[[int], Policy], free_losses: int, seed: int) -> None:
        self._policy_of = policy_of
        self._free_losses = free_losses
        self._seed = seed
        self._charged: dict[int, int] = {}
        self._lost: dict[int, int] = {}

    def restore(self, charged: Mapping[int, int], lost: Mapping[int, int]) -> None:
        """Take over counts from a journal: by task, the charged attempts and the losses that were not charged."""
        self._charged.update(charged)
        self._lost.update(lost)

    def charge(self, number: int, reason: str) -> float | None:
        """Charge a failed attempt; returns the seconds until the next one, or None if no other follows."""
        charged = self._charged.get(number, 0) + 1
        self._charged[number] = charged
        return get_retry_decision(self._policy_of(number), charged, reason, number, self._seed)

    def forgive(self, number: int) -> bool:
        """Count the loss of a task with its node; returns True if it is not charged, which holds up to a limit."""
        lost = self._lost.get(number, 0) + 1
        self._lost[number] = lost
        return lost <= self._free_losses

    def is_charged(self, number: int) -> bool:
        """True if an attempt was charged to the task before."""
        return number in self._charged

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the counts of tasks that are final."""
        if self._charged or self._lost:
            for number in numbers:
                self._charged.pop(number, None)
                self._lost.pop(number, None)


def get_retry_decision(policy: Policy, charged: int, reason: str, number: int, seed: int = 0) -> float | None:
    """Returns the seconds after which a task is tried again, or None if this failure is its last.

    `charged` counts the failed attempt too. The same seed draws the same delays.
    """
    if reason not in policy.retry_on or charged >= policy.max_attempts:
        return None
    backoff = policy.backoff
    try:
        delay_s = min(backoff.most_s, backoff.first_s * backoff.factor ** (charged - 1))
    except OverflowError:
        delay_s = backoff.most_s
    return delay_s * (1 - backoff.jitter * _draw(seed, number, charged))


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
