"""Orders: the manager answers a report with a chunk, or orders the lease to wait, to go on, or to end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from dfz_ray.execution.execute import Work
from dfz_ray.protocol.columns import pack, unpack
from dfz_ray.protocol.lease_protocol import Message
from dfz_ray.protocol.message_bytes import pack_message, unpack_message


class Order(NamedTuple):
    """A message of the manager."""

    report: int
    """Number of the report that it answers."""
    message: Message
    """CHUNK, WAIT, NOTED or END."""
    threads: int = 0
    """The number of tasks that the lease may execute at once from now on; of CHUNK and WAIT."""
    chunk: int = -1
    """Of CHUNK: its id."""
    works: Any = None
    """Of CHUNK: its tasks. The protocol passes them on unread; on Ray they are packed by pack_works."""
    budget_s: float = 0.0
    """Of CHUNK: after so many seconds no further task of it is begun."""
    is_begun: bool = False
    """Of CHUNK: True if it counts as begun, and none comes ahead: its lease reports its end, and asks then."""
    relay: Any = None
    """The relay to which the lease sends its reports from now on; None: it goes on as it does."""


def pack_order(order: Order) -> bytes | Order:
    """Pack an order for its way to a lease. One that names a relay goes as it is: Ray packs handles of actors."""
    return pack_message(order) if order.relay is None else order


def unpack_order(packed: bytes | Order) -> Order:
    """An order, as it reaches a lease; its tasks are still packed."""
    if isinstance(packed, Order):
        return packed
    report, message, *rest = unpack_message(packed)
    return Order(report, Message(message), *rest)


def pack_works(
    numbers: Sequence[int], works: Sequence[tuple[int, bytes]], timeouts_s: Sequence[float | None] | None
) -> bytes:
    """Pack the tasks of a chunk: numbers, seeds and parameters, and deadlines if any task has one."""
    return pack((numbers, works, timeouts_s))


def unpack_works(packed: bytes) -> list[Work]:
    """Unpack the tasks of a chunk for their execution."""
    numbers, works, timeouts_s = unpack(packed)
    timeouts = itertools.repeat(None) if timeouts_s is None else timeouts_s
    return [
        Work(number, seed, parameters, timeout_s)
        for number, (seed, parameters), timeout_s in zip(numbers, works, timeouts, strict=False)
    ]


def with_works(order: Order) -> Order:
    """An order with its tasks unpacked for their execution."""
    return order._replace(works=unpack_works(order.works)) if order.message is Message.CHUNK else order
