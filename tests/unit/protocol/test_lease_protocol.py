"""The lease protocol: its two halves with nothing between them."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfz_ray.engine.messages import (
    AnswerEnd,
    Chunk,
    ChunkBegan,
    ChunkEnded,
    Event,
    GiveChunk,
    WorkAsked,
)
from dfz_ray.errors import IllegalMessage
from dfz_ray.protocol.lease_protocol import TRANSITIONS, LeaseState, Message, find_next_state
from dfz_ray.protocol.manager_side import Answer, ManagerSide
from dfz_ray.protocol.orders import Order
from dfz_ray.protocol.reports import Place, Report
from dfz_ray.protocol.worker_side import AGAIN_S, ChunkInHand, WorkerSide

LEASE = 3
FOREVER_S = math.inf


def chunk_order(report: int, chunk: int, tasks: Sequence[int], threads: int = 1, budget_s: float = FOREVER_S) -> Order:
    return Order(report, Message.CHUNK, threads, chunk, tasks, budget_s)


def wait(report: int, threads: int = 1) -> Order:
    return Order(report, Message.WAIT, threads)


def noted(report: int) -> Order:
    return Order(report, Message.NOTED)


def end(report: int) -> Order:
    return Order(report, Message.END)


def begin(side: WorkerSide, now: float = 0.0) -> ChunkInHand:
    """A task begins, as one does whenever there is one; returns its chunk."""
    begun = side.begin_task(now)
    assert begun is not None
    return begun[0]


def said(report: Report | None) -> tuple[int | None, int | None, bool] | None:
    """The chunk that ended, the chunk that began, and whether it asks for work."""
    return None if report is None else (report.ended, report.began, report.asks)


class Engine:
    """Records what the manager's half tells the engine; the test says how it answers those that ask."""

    def __init__(self, *answers: Answer) -> None:
        self.events: list[Event] = []
        self.answers = list(answers)

    def handle(self, event: Event) -> Answer | None:
        self.events.append(event)
        return self.answers.pop(0) if isinstance(event, WorkAsked) else None


def read_end(lease: int, chunk: int, executed: Sequence[int]) -> ChunkEnded:
    return ChunkEnded(lease, chunk, list(executed), [0.0] * len(executed))


def manager_of(engine: Engine) -> ManagerSide:
    return ManagerSide(engine.handle, read_end, lambda command: command.chunk.numbers)


def give(chunk: int, *numbers: int, threads: int = 1) -> GiveChunk:
    return GiveChunk(LEASE, Chunk(chunk, numbers, FOREVER_S), threads)


def test_a_report_is_new_until_it_arrives() -> None:
    """What a report says besides, such as how long its lease waited, counts once, however often it arrives."""
    manager = manager_of(Engine(AnswerEnd(LEASE), AnswerEnd(LEASE)))
    for number in (1, 2):
        report = Report(LEASE, number)
        assert manager.is_new(report)
        manager.exchange(report)
        assert not manager.is_new(report)


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_message_that_may_not_follow_is_refused() -> None:
    """What the table does not allow raises an error that names lease, state and message."""
    for state, message in itertools.product(LeaseState, Message):
        if (state, message) in TRANSITIONS:
            assert find_next_state(LEASE, state, message) is TRANSITIONS[state, message]
        else:
            with pytest.raises(IllegalMessage, match=rf"lease 3 is {state.name.lower()}: .*{message.name.lower()}"):
                find_next_state(LEASE, state, message)


def test_the_error_survives_its_way_to_the_manager() -> None:
    """A worker's refusal of a message comes through Ray as it was raised."""
    error = pickle.loads(pickle.dumps(IllegalMessage(LEASE, "working", "chunk")))  # noqa: S301  it was just made

    assert (error.lease, error.state, error.message) == (LEASE, "working", "chunk")
    assert str(error) == "lease 3 is working: no message 'chunk' may come now"


def test_nothing_leads_out_of_the_end() -> None:
    """After an End a lease gets no chunk, whatever else is said; when it is over nothing is said any more."""
    after, more = set[LeaseState](), {LeaseState.ENDING}
    while more:
        after |= more
        more = {following for (state, _), following in TRANSITIONS.items() if state in more} - after

    assert after == {LeaseState.ENDING, LeaseState.ENDING_REPORTED, LeaseState.OVER}
    assert not [state for state, message in TRANSITIONS if state in after and message in (Message.CHUNK, Message.WAIT)]
    assert not [state for state, _ in TRANSITIONS if state is LeaseState.OVER]


def test_every_state_can_be_reached_and_left() -> None:
    """From the start every state can be reached, and from every state the end."""
    reached = {LeaseState.STARTING, *TRANSITIONS.values()}
    assert reached == set(LeaseState)
    assert {state for state, _ in TRANSITIONS} == set(LeaseState) - {LeaseState.OVER}


# --- the worker's half, on one thread ---------------------------------------------------------------------------------


def test_one_report_says_that_a_chunk_has_ended_and_the_next_one_begins() -> None:
    """With a chunk in hand and one ahead, one report ends the first, begins the second, and asks for the third."""
    side = WorkerSide(LEASE, "here")
    first = side.find_report(0.0)
    assert first == Report(LEASE, 1, place="here")
    side.on_order(chunk_order(1, 10, [1]), 0.0)
    held = begin(side)
    second = side.find_report(0.0)
    assert second == Report(LEASE, 2, began=10, busy=1)

    side.end_task(held, ["executed"])
    side.on_order(chunk_order(2, 11, [3]), 1.0)
    begin(side, 1.0)

    assert side.find_report(1.0) == Report(LEASE, 3, 10, ["executed"], 11, busy=1)


def test_a_lease_that_waits_asks_when_its_chunk_has_ended() -> None:
    """Told to wait while it executes, a lease reports the end of its chunk and asks again."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1]), 0.0)
    held = begin(side)
    side.find_report(0.0)
    side.end_task(held, ["executed"])
    side.on_order(wait(2), 5.0)

    assert side.begin_task(5.0) is None
    assert said(side.find_report(5.0)) == (10, None, True)


def test_a_lease_is_over_when_all_is_reported() -> None:
    """After an End a lease executes what it holds, reports it, and is over when that is answered."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1]), 0.0)
    held = begin(side)
    side.find_report(0.0)
    side.end_task(held, ["executed"])
    side.on_order(end(2), 0.0)
    assert not side.is_over
    assert said(side.find_report(0.0)) == (10, None, True)
    side.on_order(end(3), 0.0)

    assert side.is_over
    assert side.find_report(FOREVER_S) is None


def test_nothing_is_reported_before_the_last_report_is_answered() -> None:
    """A lease has one report out at a time, whatever happens meanwhile."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)

    assert side.find_report(100.0) is None
    side.on_order(chunk_order(1, 10, [1]), 100.0)
    begin(side, 100.0)
    assert said(side.find_report(100.0)) == (None, 10, True)
    assert side.find_report(200.0) is None


@pytest.mark.parametrize("late", [1, 2])
def test_an_order_that_comes_again_changes_nothing(late: int) -> None:
    """An order whose report is answered already is passed over, so no chunk is executed twice."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1]), 0.0)
    held = begin(side)
    side.find_report(0.0)
    side.on_order(wait(2), 0.0)

    side.on_order(chunk_order(late, 10, [1]), 0.0)

    side.end_task(held, ["executed"])
    assert side.begin_task(0.0) is None
    assert said(side.find_report(0.0)) == (10, None, True)


def test_a_chunk_after_an_end_is_refused() -> None:
    """A chunk that comes after an End is a defect: the error says so, and the lease is as it was."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1]), 0.0)
    held = begin(side)
    side.find_report(0.0)
    side.on_order(end(2), 0.0)
    side.end_task(held, ["executed"])
    side.find_report(0.0)

    with pytest.raises(IllegalMessage, match="lease 3 is ending_reported: no message 'chunk' may come now"):
        side.on_order(chunk_order(3, 11, [2]), 0.0)

    assert side.state is LeaseState.ENDING_REPORTED
    assert side.begin_task(0.0) is None


# --- the worker's half, on several threads ----------------------------------------------------------------------------


def test_the_next_chunk_is_begun_when_one_is_used_up() -> None:
    """Threads take tasks of the chunk in hand, then of the next one; a chunk ends when all its tasks have ended."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1, 2], threads=2), 0.0)
    first, second = side.begin_task(0.0), side.begin_task(0.0)
    assert first is not None
    assert second is not None
    assert (first[1], second[1]) == (1, 2)
    assert side.begin_task(0.0) is None
    assert said(side.find_report(0.0)) == (None, 10, True)
    side.on_order(chunk_order(2, 11, [3, 4], threads=2), 0.0)
    assert side.find_report(0.0) is None
    side.end_task(first[0], ["one"])

    next_one = side.begin_task(0.0)

    assert next_one is not None
    assert (next_one[0].id, next_one[1]) == (11, 3)
    assert said(side.find_report(0.0)) == (None, 11, True)
    side.on_order(wait(3, threads=2), 0.0)
    side.end_task(second[0], [])
    report = side.find_report(0.0)
    assert said(report) == (10, None, True)
    assert report is not None
    assert report.executed == ["one"]


def test_a_lease_asks_when_a_thread_has_no_task() -> None:
    """Told to wait, a lease asks again as soon as fewer threads have a task than when it asked; at the latest later."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1, 2, 3], threads=3), 0.0)
    held = [begin(side) for _ in range(3)]
    side.find_report(0.0)
    side.on_order(wait(2, threads=3), 0.0)
    assert side.find_report(0.0) is None
    assert side.asks_at == AGAIN_S

    side.end_task(held[0], ["one"])

    report = side.find_report(0.0)
    assert report == Report(LEASE, 3, busy=2)
    side.on_order(wait(3, threads=3), 0.0)
    assert side.find_report(AGAIN_S / 2) is None
    assert said(side.find_report(AGAIN_S)) == (None, None, True)


def test_a_chunk_that_has_used_up_its_budget_begins_no_further_task() -> None:
    """After its budget what waits of a chunk is left out, and the next chunk begins."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1, 2, 3], budget_s=0.5), 0.0)
    held = begin(side)
    side.find_report(0.0)
    side.on_order(chunk_order(2, 11, [4]), 0.0)
    side.end_task(held, ["one"])

    following = side.begin_task(1.0)

    assert following is not None
    assert following[1] == 4
    assert said(side.find_report(1.0)) == (10, 11, True)


def test_what_has_more_to_report_does_not_ask() -> None:
    """Of several ends each has a report of its own, and only the last report asks for work."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1], threads=2), 0.0)
    first = begin(side)
    side.find_report(0.0)
    side.on_order(chunk_order(2, 11, [2], threads=2), 0.0)
    second = begin(side)
    side.end_task(first, ["one"])
    side.end_task(second, ["two"])

    assert said(side.find_report(0.0)) == (10, None, False)
    side.on_order(noted(3), 0.0)
    assert said(side.find_report(0.0)) == (11, None, True)


def test_a_chunk_that_counts_as_begun_is_reported_once() -> None:
    """The beginning of such a chunk is not reported: its end is, and that report asks for the next one."""
    side = WorkerSide(LEASE)
    side.find_report(0.0)
    side.on_order(chunk_order(1, 10, [1])._replace(is_begun=True), 0.0)
    held = begin(side)
    assert side.find_report(0.0) is None

    side.end_task(held, ["executed"])

    assert side.find_report(1.0) == Report(LEASE, 2, 10, ["executed"])


# --- the manager's half -----------------------------------------------------------------------------------------------


def test_a_report_becomes_events_in_their_order() -> None:
    """What has ended is told first, then what has begun, then that the lease asks; its answer becomes the order."""
    engine = Engine(give(11, 3))
    manager = manager_of(engine)

    order = manager.exchange(Report(LEASE, 1, 9, [1], 10, busy=2))

    assert engine.events == [ChunkEnded(LEASE, 9, [1], [0.0]), ChunkBegan(LEASE, 10), WorkAsked(LEASE, 2)]
    assert order == chunk_order(1, 11, (3,))


def test_the_first_report_says_where_a_lease_runs() -> None:
    """The engine learns the node of a lease with its first request."""
    engine = Engine(give(10, 1))

    manager_of(engine).exchange(Report(LEASE, 1, place=Place("host", "node 7", 1, 0.0, "marker")))

    assert engine.events == [WorkAsked(LEASE, node="node 7")]


def test_a_report_that_does_not_ask_is_noted() -> None:
    """A lease that does not ask gets no chunk."""
    engine = Engine()

    assert manager_of(engine).exchange(Report(LEASE, 1, began=10, asks=False)) == noted(1)
    assert engine.events == [ChunkBegan(LEASE, 10)]


def test_a_report_that_comes_twice_counts_once() -> None:
    """The engine hears of it once, and the answer is the same: the worker may have missed the first one."""
    engine = Engine(give(10, 1), give(11, 2))
    manager = manager_of(engine)
    first = manager.exchange(Report(LEASE, 1))
    report = Report(LEASE, 2, 9, [1], 10)
    order = manager.exchange(report)
    told = list(engine.events)

    assert manager.exchange(report) == order
    assert engine.events == told
    assert manager.exchange(Report(LEASE, 1)) == noted(1) != first  # nobody waits for that answer any more
    assert engine.events == told


def test_an_end_is_final() -> None:
    """If an engine gave a chunk to a lease that it has told to end, that would be refused."""
    manager = manager_of(Engine(AnswerEnd(LEASE), give(10, 1)))
    assert manager.exchange(Report(LEASE, 1)) == end(1)

    with pytest.raises(IllegalMessage, match="ending_reported"):
        manager.exchange(Report(LEASE, 2))


def test_a_report_of_a_lease_that_has_ended_is_passed_on() -> None:
    """What a worker says when its lease is over comes to the engine, which supersedes it."""
    engine = Engine(give(10, 1), AnswerEnd(LEASE))
    manager = manager_of(engine)
    manager.exchange(Report(LEASE, 1))
    manager.close(LEASE)

    assert manager.exchange(Report(LEASE, 2, 10, [1])) == end(2)
    assert engine.events[1:] == [ChunkEnded(LEASE, 10, [1], [0.0]), WorkAsked(LEASE)]


def test_a_lease_that_lingers_is_answered_later_and_once() -> None:
    """Its report has no answer, however often it comes, until the engine has one; from then on it has that."""
    orders: list[tuple[int, Order]] = []
    engine = Engine()
    engine.answers = [None]  # type: ignore[list-item]
    manager = ManagerSide(
        engine.handle,
        read_end,
        lambda command: command.chunk.numbers,
        lambda lease, order: orders.append((lease, order)),
    )
    report = Report(LEASE, 1)
    assert manager.exchange(report) is None
    assert manager.exchange(report) is None
    assert engine.events == [WorkAsked(LEASE)]

    manager.answer(give(10, 1))

    assert orders == [(LEASE, chunk_order(1, 10, (1,)))]
    assert manager.exchange(report) == orders[0][1]
    assert engine.events == [WorkAsked(LEASE)]


# --- begin and end ---------------------------------------------------------------------------------------------------


@settings(deadline=None)  # a busy machine is no failure
@given(tasks=st.lists(st.integers(1, 5), min_size=1, max_size=8), threads=st.integers(1, 4))
def test_begin_and_end_balance(tasks: list[int], threads: int) -> None:
    """However chunks and threads fall together, no more tasks are executed at once than may be."""
    side = WorkerSide(LEASE)
    running: list[tuple[Any, Any]] = []
    chunks = iter(enumerate(tasks))
    done = 0
    while not side.is_over:
        report = side.find_report(0.0)
        if report is not None:
            chunk = next(chunks, None) if report.asks else None
            if not report.asks:
                side.on_order(noted(report.number), 0.0)
            elif chunk is None:
                side.on_order(end(report.number), 0.0)
            else:
                side.on_order(chunk_order(report.number, chunk[0], range(chunk[1]), threads), 0.0)
        while (begun := side.begin_task(0.0)) is not None:
            running.append(begun)
        assert len(running) == side.executing <= threads
        if running and report is None:
            held, number = running.pop(0)
            side.end_task(held, [number])
            done += 1

    assert done == sum(tasks)
