"""The ends of tasks on their way to the driver: each is reported, whatever else was committed with it."""

from __future__ import annotations

import asyncio

from dfz_ray.engine.messages import CommitEnds
from dfz_ray.manager.event_buffer import EventBuffer
from dfz_ray.protocol.columns import NOTHING_COMPLETED, Completions
from dfz_ray.protocol.reports import Ended
from dfz_ray.protocol.task_events import TaskEvents
from dfz_ray.specs.states import State

TASK = 7
COMPLETED = (TASK, 3.0, 4.0, 0.1, b"\x01", bytes(32))


def take(buffer: EventBuffer) -> TaskEvents:
    """The events that the driver gets."""
    return asyncio.run(buffer.take([0, 0, 0, 1, 0], asyncio.Event(), 5.0))


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


def test_a_driver_that_knows_that_its_run_is_done_waits_for_the_next_event() -> None:
    """It is answered at once when it does not know that, and then only when there is something new, or a failure."""

    async def take_all() -> None:
        buffer, done, counts = EventBuffer(True), asyncio.Event(), [0, 0, 1, 0, 0]
        done.set()
        assert (await buffer.take(counts, done, 60.0)).counts == counts

        waiting = asyncio.create_task(buffer.take(counts, done, 60.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        buffer.on_ended(CommitEnds(1, 5, [TASK], (), ()), Ended(Completions.of([COMPLETED]), ()))
        assert [columns.numbers() for columns in (await waiting).completions] == [[TASK]]

        waiting = asyncio.create_task(buffer.take(counts, done, 60.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        buffer.wake()
        assert (await waiting).completions == []

    asyncio.run(take_all())
