"""What has been charged to each task, and whether another attempt is due."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dfz_ray.engine.retries import KindPolicy, get_retry_decision


class Attempts:
    """The attempts of the tasks that did not complete at the first.

    Args:
        policy_of: the policy of a task, by its number.
        free_losses: how often a task may be lost with its node without being charged.
        seed: of the delays.
    """

    def __init__(self, policy_of: Callable[[int], KindPolicy], free_losses: int, seed: int) -> None:
        self._policy_of = policy_of
        self._free_losses = free_losses
        self._seed = seed
        self._charged: dict[int, int] = {}
        self._lost: dict[int, int] = {}

    def restore(self, charged: Mapping[int, int], lost: Mapping[int, int]) -> None:
        """Take over what a journal knows: attempts that were charged, and losses that were not, by task."""
        self._charged.update(charged)
        self._lost.update(lost)

    def charge(self, number: int, reason: str) -> float | None:
        """Charge a failed attempt; returns the delay of the next one in seconds, None where there is none."""
        charged = self._charged.get(number, 0) + 1
        self._charged[number] = charged
        return get_retry_decision(self._policy_of(number), charged, reason, number, self._seed)

    def forgive(self, number: int) -> bool:
        """Whether the loss of a task with its node is not charged: so it is, up to a limit."""
        lost = self._lost.get(number, 0) + 1
        self._lost[number] = lost
        return lost <= self._free_losses

    def forget(self, numbers: Iterable[int]) -> None:
        """Let go of tasks that are final."""
        if self._charged or self._lost:
            for number in numbers:
                self._charged.pop(number, None)
                self._lost.pop(number, None)
