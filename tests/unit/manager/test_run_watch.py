"""What the manager notes of a run between two beats, and what it publishes on them."""

from __future__ import annotations

import itertools
import time

import pytest
from support.witness import chunk_ended

from dfz_ray.engine.engine import Engine, EngineOptions
from dfz_ray.engine.messages import (
    ChunkBegan,
    GiveChunk,
    KindEntry,
    LeaseEnded,
    OutcomesCommitted,
    StopAsked,
    TasksSubmitted,
    WorkAsked,
)
from dfz_ray.journal.run_activity import FailureCause
from dfz_ray.journal.schema import ATTEMPT_FAILED, ATTEMPT_LOST, ATTEMPT_SUPERSEDED
from dfz_ray.manager.run_watch import RunWatch
from dfz_ray.protocol.reports import Place
from dfz_ray.specs.policy import Policy
from dfz_ray.specs.states import State

PLACE = Place("host-a", "node", 4711, 0.0, "marker")


def make_engine(settled: dict[int, int] | None = None) -> Engine:
    """Two tasks of the kind `thrown` and three of the kind `rolled`, on two lanes; two leases are started."""
    engine = Engine(EngineOptions(slots=2))
    kinds = [KindEntry("thrown", 0, Policy()), KindEntry("rolled", 1, Policy())]
    engine.handle(TasksSubmitted(kinds, [0, 0, 1, 1, 1], settled or {}), time.monotonic())
    return engine


def watch(engine: Engine) -> RunWatch:
    """A watch for which a second passes between two looks."""
    passed_s = itertools.count()
    return RunWatch(engine, ["coin", "die"], {0: PLACE}.get, lambda: time.monotonic() + next(passed_s))


def begin(engine: Engine, lease: int) -> GiveChunk:
    """Let a lease begin a chunk."""
    (given,) = [one for one in engine.handle(WorkAsked(lease), time.monotonic()) if isinstance(one, GiveChunk)]
    engine.handle(ChunkBegan(lease, given.chunk.id), time.monotonic())
    return given


def test_what_each_slot_does() -> None:
    """A lease at work is shown with its process, and the kind and the tasks of its chunk; another one without."""
    engine = make_engine()
    given = begin(engine, 0)

    activity = watch(engine).view(0, 0.0)

    working, waiting = activity.slots
    assert (working.lease, working.host, working.process, working.domain) == (0, "host-a", 4711, "coin")
    assert (working.kind, working.tasks) == ("thrown", len(given.chunk.numbers))
    assert (waiting.lease, waiting.host, waiting.domain, waiting.kind, waiting.tasks) == (1, "", "die", "", 0)
    assert working.busy_s >= 0


def test_tasks_by_domain_and_kind() -> None:
    """Tasks are counted by domain and kind as they begin and as their outcomes are on disk."""
    engine = make_engine()
    found = watch(engine)
    given = begin(engine, 0)
    engine.handle(chunk_ended(0, given.chunk, 0.5), time.monotonic())
    running = found.view(0, 0.0).domains
    engine.handle(OutcomesCommitted({State.COMPLETED: list(given.chunk.numbers)}), time.monotonic())

    coin, die = found.view(0, 0.0).domains
    tasks = len(given.chunk.numbers)
    assert running[0].counts["running"] == tasks
    assert (coin.domain, coin.counts["completed"], coin.counts["running"]) == ("coin", tasks, 0)
    assert (die.domain, die.counts["pending"]) == ("die", 3)
    assert coin.open == 2 - tasks
    assert found.attempts["coin", "completed", ""] == tasks


def test_tasks_of_an_earlier_process_are_no_attempts_of_this_one() -> None:
    """Tasks that had completed when the run was opened count as tasks, and not as attempts."""
    found = watch(make_engine({0: State.COMPLETED, 2: State.FAILED}))

    coin, die = found.view(0, 0.0).domains

    assert (coin.counts["completed"], die.counts["failed"]) == (1, 1)
    assert found.attempts.total() == 0


def test_attempts_and_failures_by_reason() -> None:
    """Attempts count by domain, outcome and reason; failures count by cause, those of a last attempt apart."""
    found = watch(make_engine())
    no_times = (None, None, None)
    attempts = [
        (0, 10, ATTEMPT_FAILED, 1, 1.0, 2.0, 0.5, "exception", "ValueError: 1"),
        (1, 10, ATTEMPT_FAILED, 1, 1.0, 2.0, 0.5, "exception", None),
        (2, 11, ATTEMPT_LOST, 0, *no_times, "node_lost", "the node was lost"),
        (3, 11, ATTEMPT_SUPERSEDED, 0, *no_times, None, None),
    ]
    outcomes = [
        (1, State.FAILED, None, "exception", "ValueError: 2", "Traceback ..."),
        (4, State.CANCELLED, None, "cancelled", "someone asked", None),
    ]
    found.on_committed({"attempts": attempts, "outcomes": outcomes})

    failures = found.view(1, 0.25).failures

    assert found.attempts == {
        ("coin", "failed", "exception"): 2,
        ("die", "lost", "node_lost"): 1,
        ("die", "superseded", ""): 1,
        ("coin", "completed", ""): 0,
        ("die", "completed", ""): 0,
    }
    assert set(failures) == {
        FailureCause("coin", "exception", "ValueError: <number>", 1, 1),
        FailureCause("die", "node_lost", "the node was lost", 0, 1),
    }
    assert found.view(1, 0.25).failures == failures, "each is counted once"


def test_the_load_is_that_since_the_last_beat() -> None:
    """Chunk size and time of a commit are means since the last beat, and not known if there was none."""
    found = watch(make_engine())
    for tasks in (10, 20):
        found.on_given(tasks)

    first, second = (found.view(4, 2.0).load for _ in range(2))

    assert first is not None
    assert second is not None
    assert (first.chunk_tasks, first.commit_s) == (15.0, 0.5)
    assert (second.chunk_tasks, second.commit_s) == (None, None)
    assert 0 <= second.busy_share <= 1
    assert second.queue_s > 0, "tasks wait"


def test_a_beat_costs_by_leases_and_kinds() -> None:
    """A beat of a run with a million tasks looks at none of them: it takes less time than one look at each would."""
    engine = Engine(EngineOptions(slots=8))
    tasks = 1_000_000
    kinds = [KindEntry(f"kind {number}", 0, Policy()) for number in range(4)]
    engine.handle(TasksSubmitted(kinds, list(itertools.islice(itertools.cycle(range(4)), tasks))), time.monotonic())
    found = watch(engine)

    begun = time.thread_time()
    for _ in range(20):
        found.view(0, 0.0)
    of_a_beat = (time.thread_time() - begun) / 20
    begun = time.thread_time()
    assert sum(map(engine.kind_of.__getitem__, range(tasks))) > 0
    of_all = time.thread_time() - begun

    assert of_a_beat < of_all / 10


def test_a_manager_for_which_slots_wait_is_full() -> None:
    """Slots that wait for long, for much of their time, are told; short waits and rare ones are not."""
    found = watch(make_engine())
    found.on_wait(60.0)
    full = found.view(0, 0.0).load
    for _ in range(10_000):
        found.on_wait(0.001)
    quick = found.view(0, 0.0).load

    assert full is not None
    assert quick is not None
    assert (full.is_full, quick.is_full) == (True, False)
    assert "slots wait for it for 100 % of their time" in full.describe_full()


def test_slots_that_wait_for_the_disk_say_so() -> None:
    """Their time is not the manager's, which longer tasks would help, and is told by itself."""
    found = watch(make_engine())
    found.on_wait(60.0, disk_s=59.999)
    slow = found.view(0, 0.0).load
    found.on_wait(60.0, disk_s=3.0)
    both = found.view(0, 0.0).load

    assert slow is not None
    assert both is not None
    assert [(load.is_full, load.is_disk_slow) for load in (slow, both)] == [(False, True), (True, True)]
    assert "results wait for the disk, and slots for that for 100 % of their time" in slow.describe_slow_disk()


def test_waits_are_a_share_of_the_time_of_all_slots_that_were_in_use() -> None:
    """Also of those whose leases are over when the look comes, as at the end of a run."""
    engine = make_engine()
    found = watch(engine)
    found.on_wait(0.5)
    engine.handle(StopAsked(), time.monotonic())
    for lease in (0, 1):
        engine.handle(LeaseEnded(lease), time.monotonic())
    assert engine.slots_in_use == 0

    load = found.view(0, 0.0).load
    assert load is not None
    assert load.wait_share == pytest.approx(0.25, rel=0.05)
    assert load.wait_s == 0.5


def test_waits_of_a_run_that_is_over_at_once_say_little() -> None:
    """They are no sign of a manager that is full, although they are most of its time."""
    found = RunWatch(make_engine(), ["coin", "die"], {0: PLACE}.get, lambda: 1.0)
    for _ in range(2):
        found.on_wait(0.04)

    load = found.view(0, 0.0).load
    assert load is not None
    assert load.wait_share == pytest.approx(0.08)
    assert not load.is_full
