"""The ends of tasks on their way to the driver: each is reported, whatever else was committed with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from dfz_ray.engine.messages import CommitEnds
from dfz_ray.journal.commit_sums import Row
from dfz_ray.manager.event_buffer import MOST_BYTES, EventBuffer
from dfz_ray.protocol.columns import NOTHING_COMPLETED, Completions
from dfz_ray.protocol.reports import Ended
from dfz_ray.protocol.task_events import TaskEvents
from dfz_ray.specs.states import State

TASK = 7
COMPLETED = (TASK, 3.0, 4.0, 0.1, b"\x01", bytes(32))

NOTHING_ELSE: dict[str, Sequence[Row]] = {"attempts": [], "outcomes": []}


def take(buffer: EventBuffer) -> TaskEvents:
    """The events that the driver gets."""

    async def wait() -> TaskEvents:
        return await buffer.take([0, 0, 0, 1, 0], asyncio.Event(), 5.0, 1)

    return asyncio.run(wait())


def test_a_superseded_attempt_does_not_hide_the_end_of_its_task() -> None:
    """Of two attempts one was superseded, and reported early; the failure of the other one is reported, too."""
    buffer = EventBuffer(True)
    failure = (TASK, 3.0, 4.0, 0.1, "exception", "no luck", None, None)
    buffer.on_given(5, [TASK], "host-a")
    buffer.on_given(9, [TASK], "host-b")

    buffer.on_ended(CommitEnds(1, 9, (), (), [TASK]), Ended(NOTHING_COMPLETED, [failure]))
    lost = (TASK, 5, 1, 1, 1.0, 2.0, None, "worker_crashed", None)
    superseded = (TASK, 9, 3, 0, 3.0, 4.0, 0.1, "exception", None)
    outcome = (TASK, State.FAILED, None, "worker_crashed", "it died", None)
    buffer.on_committed({"completions": [], "attempts": [lost, superseded], "outcomes": [outcome]}, {})

    (failed,) = take(buffer).failures
    assert failed[:3] == (TASK, "worker_crashed", "it died")
    assert failed[5:8] == (1.0, 2.0, "host-a")


def test_a_retried_attempt_does_not_hide_the_end_of_its_task() -> None:
    """An attempt failed, and was to be retried; before that is on disk the task fails for good: this is reported."""
    buffer = EventBuffer(True)
    failure = (TASK, 3.0, 4.0, 0.1, "exception", "no luck", None, None)
    buffer.on_given(5, [TASK], "host")

    buffer.on_ended(CommitEnds(1, 5, (), (), (), [TASK]), Ended(NOTHING_COMPLETED, [failure]))
    attempt = (TASK, 5, 1, 1, 3.0, 4.0, 0.1, "exception", None)
    outcome = (TASK, State.FAILED, None, "infeasible", "no node holds it", None)
    buffer.on_committed({"completions": [], "attempts": [attempt], "outcomes": [outcome]}, {})

    (failed,) = take(buffer).failures
    assert failed[:3] == (TASK, "infeasible", "no node holds it")


def test_a_driver_that_knows_that_its_run_is_done_waits_for_the_next_event() -> None:
    """It is answered at once when it does not know that, and then only when there is something new, or a failure."""

    async def take_all() -> None:
        buffer, done, counts = EventBuffer(True), asyncio.Event(), [0, 0, 1, 0, 0]
        done.set()
        assert (await buffer.take(counts, done, 60.0, 1)).counts == counts

        waiting = buffer.take(counts, done, 60.0, 2)
        assert not waiting.is_set
        buffer.on_ended(CommitEnds(1, 5, [TASK], (), ()), Ended(Completions.of([COMPLETED]), ()))
        assert [columns.numbers() for columns in (await waiting).completions] == [[TASK]]

        waiting = buffer.take(counts, done, 60.0, 3)
        assert not waiting.is_set
        buffer.wake()
        assert (await waiting).completions == []

    asyncio.run(take_all())


def end(buffer: EventBuffer, chunk: int) -> None:
    """A chunk of one task has ended, which has the chunk's number."""
    completions = Completions.of([(chunk, *COMPLETED[1:])])
    buffer.on_ended(CommitEnds(1, chunk, [chunk], (), ()), Ended(completions, ()))


def numbers(events: TaskEvents) -> list[int]:
    """The completed tasks that a driver hears of."""
    return [number for columns in events.completions for number in columns.numbers()]


def test_calls_are_answered_in_their_order() -> None:
    """Of two calls on their way the older one brings the next end, and the other one the end after that."""

    async def take_both() -> None:
        buffer, done, counts = EventBuffer(True), asyncio.Event(), [0, 2, 0, 0, 0]
        first, second = [buffer.take(counts, done, 60.0, number) for number in (1, 2)]
        end(buffer, 3)
        assert numbers(await first) == [3]
        assert not second.is_set
        end(buffer, 4)
        assert numbers(await second) == [4]

    asyncio.run(take_both())


def test_a_call_that_was_overtaken_does_not_wait() -> None:
    """Its driver reads its answer before that of the later call, which has the end; so it may not wait for another."""

    async def take_both() -> None:
        buffer, done, counts = EventBuffer(True), asyncio.Event(), [0, 2, 0, 0, 0]
        later = buffer.take(counts, done, 60.0, 2)
        end(buffer, 3)
        assert numbers(await later) == [3]
        assert numbers(await buffer.take(counts, done, 60.0, 1)) == []

        later, earlier = [buffer.take(counts, done, 60.0, number) for number in (4, 3)]
        end(buffer, 4)
        assert numbers(await earlier) == [4]
        assert not later.is_set

    asyncio.run(asyncio.wait_for(take_both(), 10.0))


def test_a_call_without_news_is_answered_after_its_time() -> None:
    """So a driver sees that the manager is there; the calls after it wait for their own time."""

    async def take_both() -> None:
        buffer, done, counts = EventBuffer(True), asyncio.Event(), [0, 2, 0, 0, 0]
        calls = [
            buffer.take(counts, done, timeout_s, number) for number, timeout_s in ((1, 0.001), (2, 0.002), (3, 60.0))
        ]
        assert [numbers(await call) for call in calls[:2]] == [[], []]
        assert not calls[2].is_set

    asyncio.run(asyncio.wait_for(take_both(), 10.0))


def test_a_run_that_ends_answers_all_calls() -> None:
    """A driver that has two calls on their way waits for none of them once the run is closed, or has failed."""

    async def take_both() -> None:
        buffer, done = EventBuffer(True), asyncio.Event()
        calls = [buffer.take([0, 2, 0, 0, 0], done, 60.0, number, 60.0) for number in (1, 2)]
        buffer.wake_all()
        assert [numbers(await call) for call in calls] == [[], []]

    asyncio.run(asyncio.wait_for(take_both(), 10.0))


def test_ends_of_tasks_that_came_together_are_reported_together() -> None:
    """The first one waits for the others, at most for the time that was given; when none is open it waits no longer."""

    async def take_together(counts: list[int], together_s: float, *chunks: int) -> list[int]:
        buffer, done = EventBuffer(True), asyncio.Event()
        call = buffer.take(counts, done, 60.0, 1, together_s)
        for chunk in chunks:
            await asyncio.sleep(0)
            end(buffer, chunk)
        return numbers(await call)

    both = [0, 2, 0, 0, 0]
    assert asyncio.run(asyncio.wait_for(take_together(both, 60.0, 3, 4), 10.0)) == [3, 4]
    assert asyncio.run(asyncio.wait_for(take_together(both, 0.001, 3), 10.0)) == [3]


def test_a_report_that_comes_again_hides_no_end() -> None:
    """The driver had no room for the results; they are named once they are on disk, whatever came again before."""
    buffer = EventBuffer(True)
    for chunk in (1, 2):
        buffer.on_given(chunk, [TASK], "host")
    full = Completions.of([COMPLETED])._replace(results=bytes(MOST_BYTES + 1))
    buffer.on_ended(CommitEnds(1, 1, [TASK], (), ()), Ended(full, ()))
    buffer.on_ended(CommitEnds(1, 2, [TASK], (), ()), Ended(Completions.of([COMPLETED]), ()))
    assert len(take(buffer).completions) == 1

    buffer.on_ended(CommitEnds(1, 2, (), (), [TASK]), Ended(Completions.of([COMPLETED]), ()))
    buffer.on_committed(committed(2, b"x"), {})

    assert [one.results for one in take(buffer).completions] == [b"x"]


def committed(chunk: int, results: bytes) -> dict[str, Sequence[Row]]:
    """The rows of a chunk in which one task completed."""
    return {"completions": [(chunk, *Completions.of([COMPLETED])._replace(results=results))], **NOTHING_ELSE}


@pytest.mark.parametrize("is_early", [False, True])
def test_results_do_not_pile_up_for_a_driver_that_does_not_listen(is_early: bool) -> None:
    """If many bytes of results wait for the driver, further chunks are named alone, once they are on disk."""
    buffer, most = EventBuffer(True), bytes(MOST_BYTES)
    for chunk in range(4):
        buffer.on_given(chunk, [TASK], f"host-{chunk}")
        if is_early:
            completions = Completions.of([COMPLETED])._replace(results=most if chunk < 2 else b"x")
            buffer.on_ended(CommitEnds(1, chunk, [TASK], (), ()), Ended(completions, ()))
    for chunk in range(4):
        buffer.on_committed(committed(chunk, most if chunk < 2 else b"x"), {})

    events = take(buffer)
    assert [len(one.results) for one in events.completions] == [MOST_BYTES, MOST_BYTES]
    assert events.stored == [(2, "host-2"), (3, "host-3")]

    buffer.on_committed(committed(5, b"x"), {})
    events = take(buffer)
    assert ([one.results for one in events.completions], events.stored) == ([b"x"], [])


def test_what_belongs_together_is_reported_together() -> None:
    """A group of reports, or the rows of a commit: the first end does not go to the driver without the others."""

    async def gather() -> None:
        buffer, counts = EventBuffer(True), [0, 9, 0, 0, 0]
        call = buffer.take(counts, asyncio.Event(), 60.0, 1)
        with buffer.gathering():
            for chunk in range(3):
                end(buffer, chunk)
        assert numbers(await call) == [0, 1, 2]

    asyncio.run(asyncio.wait_for(gather(), 10.0))
