"""The manager's half of the lease protocol: reports become events of the engine, its answers become orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dfz_ray.engine.messages import (
    AnswerEnd,
    AnswerWait,
    ChunkBegan,
    ChunkEnded,
    Event,
    GiveChunk,
    WorkAsked,
    WorkerSpoiled,
)
from dfz_ray.protocol.lease_protocol import LeaseState, Message, find_next_state
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Report

Answer = GiveChunk | AnswerWait | AnswerEnd
"""The engine's answer to a lease that asks for work."""


class _LeaseRecord:
    """The manager's knowledge of one lease."""

    __slots__ = ("answer", "number", "state", "waits")

    def __init__(self, state: LeaseState) -> None:
        self.state = state
        self.number = 0
        """Of the last report."""
        self.answer: Answer | None = None
        """The answer to that report; None if it did not ask for work."""
        self.waits = False
        """True while the report asks for work and has no answer yet."""


class ManagerSide:
    """Serves all leases of a run.

    Args:
        handle: brings an event to the engine, and returns its answer to the lease, if any.
        read_end: reads the end of a chunk from its lease, its id, and the executed part in the report.
        write_works: packs the tasks of a chunk for an order. It may be called again for the same chunk.
        send: sends an order to a lease whose report had no answer at first.
    """

    def __init__(
        self,
        handle: Callable[[Event], Answer | None],
        read_end: Callable[[int, int, Any], ChunkEnded],
        write_works: Callable[[GiveChunk], Any],
        send: Callable[[int, Order], None] = lambda lease, order: None,
    ) -> None:
        self._handle = handle
        self._read_end = read_end
        self._write_works = write_works
        self._send = send
        self._leases: dict[int, _LeaseRecord] = {}
        """From the first report of a lease to its end."""

    def exchange(self, report: Report) -> Order | None:
        """Take in a report, and answer it; None if the lease lingers: then its answer is sent later.

        A report that arrives twice gets the same answer twice, and counts once. A report of a lease that has ended goes
        to the engine, which supersedes its tasks.
        """
        lease = self._find_lease(report)
        if report.number <= lease.number:
            if report.number == lease.number and lease.waits:
                return None
            return self._write_order(report.number, lease.answer if report.number == lease.number else None)
        state = find_next_state(report.lease, lease.state, Message.REPORT)
        lease.number = report.number
        lease.answer = None
        if report.ended is not None:
            self._handle(self._read_end(report.lease, report.ended, report.executed))
        if report.began is not None:
            self._handle(ChunkBegan(report.lease, report.began))
        if report.spoiled is not None:
            self._handle(WorkerSpoiled(report.lease, *report.spoiled))
        if report.asks:
            node = "" if report.place is None else report.place.node_id
            lease.answer = self._handle(WorkAsked(report.lease, report.busy, node))
            if lease.answer is None:
                lease.state, lease.waits = state, True
                return None
        order = self._write_order(report.number, lease.answer)
        lease.state = find_next_state(report.lease, state, order.message)
        return order

    def is_new(self, report: Report) -> bool:
        """True if the report did not arrive before."""
        lease = self._leases.get(report.lease)
        return lease is None or report.number > lease.number

    def answer(self, answer: Answer) -> None:
        """Answer the report of a lease that lingers."""
        lease = self._leases[answer.lease]
        lease.answer, lease.waits = answer, False
        order = self._write_order(lease.number, answer)
        lease.state = find_next_state(answer.lease, lease.state, order.message)
        self._send(answer.lease, order)

    def close(self, lease: int) -> None:
        """Forget a lease: its call has returned, or its worker has died."""
        self._leases.pop(lease, None)

    def _find_lease(self, report: Report) -> _LeaseRecord:
        known = self._leases.get(report.lease)
        if known is None:
            if report.number > 1:
                return _LeaseRecord(LeaseState.ENDING)  # it is late: the lease has ended
            known = self._leases[report.lease] = _LeaseRecord(LeaseState.STARTING)
        return known

    def _write_order(self, report: int, answer: Answer | None) -> Order:
        match answer:
            case GiveChunk():
                chunk = answer.chunk
                works = self._write_works(answer)
                return Order(report, Message.CHUNK, answer.threads, chunk.id, works, chunk.budget_s, answer.is_begun)
            case AnswerWait():
                return Order(report, Message.WAIT, answer.threads)
            case AnswerEnd():
                return Order(report, Message.END)
        return Order(report, Message.NOTED)
