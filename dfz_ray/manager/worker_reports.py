"""The reports of a run's workers: they are taken in, and answered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from dfz_ray.engine.messages import ChunkEnded, Event, GiveChunk, ManagerMeasured
from dfz_ray.manager.event_buffer import EventBuffer
from dfz_ray.manager.late_answers import LateAnswers
from dfz_ray.manager.later import Later, run_later
from dfz_ray.manager.lease_calls import LeaseCalls
from dfz_ray.manager.manager_cost import ManagerCost
from dfz_ray.manager.run_journal import RunJournal
from dfz_ray.manager.run_watch import RunWatch
from dfz_ray.protocol.manager_side import Answer, ManagerSide
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Ended, Report, describe_end, unpack_executions

MEASURED_CHUNKS = 20
"""The engine learns the manager's cost whenever so many chunks have ended."""


class WorkerReports:
    """Takes in the reports of a run's leases, and answers them with the orders of the engine.

    Args:
        handle: brings an event to the engine, and returns its answer to the lease, if any.
        check: raises DfzError if the run can't go on.
        write_works: packs the tasks of a chunk for an order.
        has_cpu: True if the engine uses the CPU time of chunks.
    """

    def __init__(
        self,
        handle: Callable[[Event], Answer | None],
        check: Callable[[], None],
        write_works: Callable[[GiveChunk], Any],
        leases: LeaseCalls,
        journal: RunJournal,
        buffer: EventBuffer,
        watch: RunWatch,
        cost: ManagerCost,
        has_cpu: bool,
    ) -> None:
        self._handle, self._check = handle, check
        self._leases, self._journal, self._buffer = leases, journal, buffer
        self._watch, self._cost = watch, cost
        self._has_cpu = has_cpu
        self._late_answers = LateAnswers()
        self._protocol = ManagerSide(handle, self._read_end, write_works, self._late_answers.send)
        self._ended: dict[int, Ended] = {}
        """The chunks that have just ended."""
        self._measured_chunks = 0

    def exchange(self, report: Report) -> Order | Later[Order]:
        """Take in a report of a lease, and answer it: at once, or, if the lease lingers, when there is work for it.

        Raises:
            DfzError: the run can't go on; the lease ends with it.
        """
        order = self.take(report)
        if order is None:
            lease = report.lease
            return self._late_answers.wait(lease).then(lambda order: self._name_relay(lease, order, True))
        return run_later(self._hold(report.lease, order)) if self.is_behind else order

    async def _hold(self, lease: int, order: Order) -> Order:
        begun = time.monotonic()
        await self.keep_up()
        self.note_held(lease, time.monotonic() - begun)
        return order

    @property
    def waiting(self) -> int:
        """The number of leases that linger."""
        return len(self._late_answers)

    @property
    def is_behind(self) -> bool:
        """True if no worker should be answered before `keep_up` returns: many results wait for the disk."""
        return self._journal.commits.is_behind

    async def keep_up(self) -> None:
        """Wait for the disk, but not for long.

        Raises:
            DfzError: the run can't go on; the lease ends with it.
        """
        await self._journal.commits.keep_up()

    def note_held(self, lease: int, seconds: float) -> None:
        """Note that the answer to a lease was held back for so long: it waited for the disk, not for the manager."""
        self._late_answers.hold(lease, seconds)

    def take(self, report: Report, is_direct: bool = True) -> Order | None:
        """Take in a report of a lease, and answer it; None if the lease lingers: then `exchange` waits for its answer.

        It came directly from the lease, or a relay has gathered it.

        An error while the run handles it stops the run. An error while the report is read is the fault of its worker,
        which ends by it: a task may have spoiled that process.

        Raises:
            DfzError: the run can't go on; the lease ends with it.
        """
        self._check()
        if self._protocol.is_new(report):
            self._note_wait(report.waited_s, self._late_answers.excuse(report.lease))
        if report.place is not None and self._leases.place(report.lease, report.place):
            self._journal.add_lease(report.lease, report.place)
        order = self._protocol.exchange(report)
        if report.began is not None:
            self._buffer.on_began(report.began)
        return None if order is None else self._name_relay(report.lease, order, is_direct)

    def answer(self, answer: Answer) -> None:
        """Answer a lease that lingers."""
        self._protocol.answer(answer)

    def pop_ended(self, chunk: int) -> Ended:
        """The content of a chunk that has just ended; for one call only."""
        return self._ended.pop(chunk)

    def forget(self, lease: int) -> None:
        """A lease is over."""
        self._protocol.close(lease)
        self._late_answers.forget(lease)

    def fail(self, error: BaseException) -> None:
        """The run can't go on: let the calls of leases that linger end with that."""
        self._late_answers.fail(f"the run can't go on: {error}")

    def _note_wait(self, waited_s: float, excused_s: float) -> None:
        """Note the wait of a lease for its last order; all that is excused is the disk's, or it had nothing to do."""
        if excused_s < math.inf:
            self._watch.on_wait(waited_s, min(waited_s, excused_s))
            if waited_s > excused_s:
                self._cost.on_wait(waited_s - excused_s)

    def _name_relay(self, lease: int, order: Order, is_direct: bool) -> Order:
        """Let a lease know the relay that serves its node, if that is new to it."""
        relay = self._leases.find_new_relay(lease, is_direct)
        return order if relay is None else order._replace(relay=relay)

    def _read_end(self, lease: int, chunk: int, packed: Sequence[Any]) -> ChunkEnded:
        ended = self._ended[chunk] = unpack_executions(packed)
        event = describe_end(lease, chunk, ended, self._has_cpu)
        self._cost.on_chunk(len(event.numbers))
        self._measured_chunks += 1
        if self._measured_chunks >= MEASURED_CHUNKS:
            self._measured_chunks = 0
            self._handle(ManagerMeasured(self._cost.chunk_s))
        return event
