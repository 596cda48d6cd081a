"""What a worker reports when a task has changed the state of its process."""

from __future__ import annotations

from collections.abc import Sequence

from dfz_ray.engine.messages import AnswerEnd, Chunk, ChunkBegan, ChunkEnded, Event, GiveChunk, WorkAsked, WorkerSpoiled
from dfz_ray.protocol.lease_protocol import LeaseState, Message
from dfz_ray.protocol.manager_side import Answer, ManagerSide
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Report
from dfz_ray.protocol.worker_side import WorkerSide

LEASE = 3


class Manager:
    """Gives a chunk to each report that asks, as long as there are any, and records the events."""

    def __init__(self, *chunks: Sequence[int]) -> None:
        self.events: list[Event] = []
        self._chunks = [GiveChunk(LEASE, Chunk(at, numbers, 1e9), 2) for at, numbers in enumerate(chunks)]
        self._side = ManagerSide(
            self._handle,
            lambda lease, chunk, executed: ChunkEnded(lease, chunk, list(executed), [0.0] * len(executed)),
            lambda given: given.chunk.numbers,
        )

    def _handle(self, event: Event) -> Answer | None:
        self.events.append(event)
        if not isinstance(event, WorkAsked):
            return None
        return self._chunks.pop(0) if self._chunks else AnswerEnd(LEASE)

    def serve(self, side: WorkerSide) -> None:
        """Answer a worker's reports, as long as it has to say something."""
        while side.state is LeaseState.STARTING or side.is_due:
            report = side.find_report(0.0)
            assert report is not None
            side.on_order(self.answer(report), 0.0)

    def answer(self, report: Report) -> Order:
        """Take in a report."""
        return self._side.exchange(report)


def test_a_chunk_that_felt_a_change_is_not_reported_as_executed() -> None:
    """The last report names the chunks that had begun; their results are dropped, and nothing begins any more."""
    manager, side = Manager([1, 2], [3, 4]), WorkerSide(LEASE)
    manager.serve(side)
    held, _ = side.begin_task(0.0) or (None, 0)
    assert held is not None
    manager.serve(side)
    side.end_task(held, [1])

    side.spoil("umask", is_of_one=False)
    assert side.begin_task(0.0) is None
    manager.serve(side)

    assert manager.events[-2:] == [WorkerSpoiled(LEASE, [0], "umask"), WorkAsked(LEASE, 0)]
    assert not any(isinstance(event, ChunkEnded) for event in manager.events)
    assert side.state is LeaseState.OVER


def test_what_ends_while_a_report_is_out_is_dropped_too() -> None:
    """A thread may end its task after another one has found the change, and before the answer to the last report."""
    manager, side = Manager([1], [2]), WorkerSide(LEASE)
    manager.serve(side)
    first, _ = side.begin_task(0.0) or (None, 0)
    manager.serve(side)
    second, _ = side.begin_task(0.0) or (None, 0)
    report = side.find_report(0.0)
    assert first is not None
    assert second is not None
    assert report is not None

    side.spoil("the code that executes tasks", is_of_one=False)
    side.end_task(second, [2])
    side.on_order(manager.answer(report), 0.0)
    manager.serve(side)

    assert WorkerSpoiled(LEASE, [0, 1], "the code that executes tasks") in manager.events
    assert not any(isinstance(event, ChunkEnded) for event in manager.events)


def test_what_ended_unreported_is_dropped_with_the_rest() -> None:
    """On threads a chunk may have ended, and the next one begun, when the change is found: both are named."""
    manager, side = Manager([1], [2, 3]), WorkerSide(LEASE)
    manager.serve(side)
    first, _ = side.begin_task(0.0) or (None, 0)
    manager.serve(side)
    second, _ = side.begin_task(0.0) or (None, 0)
    assert first is not None
    assert second is not None
    side.end_task(first, [1])

    side.spoil("environment", is_of_one=False)
    manager.serve(side)
    side.end_task(second, [2])

    (spoiled,) = [event for event in manager.events if isinstance(event, WorkerSpoiled)]
    assert sorted(spoiled.chunks) == [0, 1]
    assert not any(isinstance(event, ChunkEnded) for event in manager.events)
    assert side.find_report(0.0) is None


def test_the_result_of_a_task_that_was_alone_is_reported_before_its_process_ends() -> None:
    """What one task alone can have changed and felt is reported; the tasks of its chunk that did not begin go back."""
    manager, side = Manager([1, 2], [3]), WorkerSide(LEASE)
    manager.serve(side)
    held, _ = side.begin_task(0.0) or (None, 0)
    assert held is not None
    manager.serve(side)
    side.end_task(held, [1])

    side.spoil("resource limits", is_of_one=True)
    manager.serve(side)

    assert manager.events[-3:] == [
        ChunkEnded(LEASE, 0, [1], [0.0]),
        WorkerSpoiled(LEASE, (), "resource limits"),
        WorkAsked(LEASE, 0),
    ]
    assert ChunkBegan(LEASE, 0) in manager.events
    assert side.is_over


def test_a_lease_that_has_to_end_tells_of_a_change_first() -> None:
    """The order to end may be on its way while the change happens; its tasks would count as lost with a dead worker."""
    manager, side = Manager([1]), WorkerSide(LEASE)
    manager.serve(side)
    held, _ = side.begin_task(0.0) or (None, 0)
    assert held is not None
    began = side.find_report(0.0)
    assert began is not None
    side.end_task(held, [1])
    order = manager.answer(began)
    assert order.message is Message.END

    side.spoil("umask", is_of_one=False)
    side.on_order(order, 0.0)
    manager.serve(side)

    assert manager.events[-2:] == [WorkerSpoiled(LEASE, [0], "umask"), WorkAsked(LEASE, 0)]
    assert side.is_over
    assert not side.is_due
