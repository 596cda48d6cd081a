"""Answers that come late: to reports of leases that linger, when there is work or their places are wanted."""

from __future__ import annotations

import asyncio
import itertools

from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.orders import Order


class LateAnswers:
    """Calls of leases that wait for an order. A lease has several if its report arrived more than once."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[asyncio.Future[Order]]] = {}
        """By lease."""
        self._late: set[int] = set()
        """Leases whose last answer came late."""

    async def wait(self, lease: int) -> Order:
        """Wait for the order for a lease."""
        answer: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lease, []).append(answer)
        return await answer

    def send(self, lease: int, order: Order) -> None:
        """Answer all calls of a lease."""
        self._late.add(lease)
        for answer in self._waiting.pop(lease, ()):
            if not answer.done():
                answer.set_result(order)

    def was_late(self, lease: int) -> bool:
        """True, once, if the last answer to a lease came late: it had nothing to do, and the manager was not slow."""
        was_late = lease in self._late
        self._late.discard(lease)
        return was_late

    def forget(self, lease: int) -> None:
        """A lease is over: nobody reads the answers to calls of it."""
        self.send(lease, Order(0, Message.END))
        self._late.discard(lease)

    def fail(self, error: BaseException) -> None:
        """Let all calls of all leases end with an error."""
        for answer in itertools.chain.from_iterable(self._waiting.values()):
            if not answer.done():
                answer.set_exception(error)
        self._waiting.clear()
