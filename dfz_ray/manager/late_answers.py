"""Answers that come late: to leases that linger, when there is work or their places are wanted; or for a slow disk."""

from __future__ import annotations

import itertools
import math

from dfz_ray.errors import InfrastructureLost
from dfz_ray.manager.later import Later
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order


class LateAnswers:
    """Calls of leases that wait for an order. A lease has several if its report arrived more than once."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[Later[Order]]] = {}
        """By lease."""
        self._late_s: dict[int, float] = {}
        """By lease whose last answer came late: for so many seconds it did not wait for the manager."""

    def __len__(self) -> int:
        """The number of leases that wait."""
        return len(self._waiting)

    def wait(self, lease: int) -> Later[Order]:
        """The order for a lease, once it is there."""
        answer: Later[Order] = Later()
        self._waiting.setdefault(lease, []).append(answer)
        return answer

    def send(self, lease: int, order: Order) -> None:
        """Answer all calls of a lease."""
        self._late_s[lease] = math.inf
        for answer in self._waiting.pop(lease, ()):
            answer.set(order)

    def hold(self, lease: int, seconds: float) -> None:
        """The answer to a lease was held back for so long, as many results wait for the disk."""
        self._late_s[lease] = max(seconds, self._late_s.get(lease, 0.0))

    def excuse(self, lease: int) -> float:
        """The seconds, told once, for which the last answer to a lease came late and the manager was not slow.

        They are infinite if the lease had nothing to do.
        """
        return self._late_s.pop(lease, 0.0)

    def forget(self, lease: int) -> None:
        """A lease is over: nobody reads the answers to calls of it."""
        self.send(lease, Order(0, Message.END))
        self._late_s.pop(lease, None)

    def fail(self, why: str) -> None:
        """Let all calls of all leases end, each with its own error: whoever raises one adds to its traceback."""
        for answer in itertools.chain.from_iterable(self._waiting.values()):
            answer.fail(InfrastructureLost(why))
        self._waiting.clear()
