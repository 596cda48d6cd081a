"""Answers that come late: to reports of leases that linger, when there is work or their places are wanted."""

from __future__ import annotations

import asyncio
import itertools

from dfz_ray.protocol.orders import Order


class LateAnswers:
    """Calls of leases that wait for an order. A lease has several if its report arrived more than once."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[asyncio.Future[Order]]] = {}
        """By lease."""

    async def wait(self, lease: int) -> Order:
        """Wait for the order for a lease."""
        answer: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lease, []).append(answer)
        return await answer

    def send(self, lease: int, order: Order) -> None:
        """Answer all calls of a lease."""
        for answer in self._waiting.pop(lease, ()):
            if not answer.done():
                answer.set_result(order)

    def fail(self, error: BaseException) -> None:
        """Let all calls of all leases end with an error."""
        for answer in itertools.chain.from_iterable(self._waiting.values()):
            if not answer.done():
                answer.set_exception(error)
        self._waiting.clear()
