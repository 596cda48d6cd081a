"""The tasks of a manager and their futures, without a run behind them."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from concurrent.futures import CancelledError, Future, TimeoutError, wait
from typing import Any

import pytest
from support.interrupts import interrupted

from dfz_ray.dropin.records import in_numbers
from dfz_ray.dropin.submitted_batch import SubmittedBatch
from dfz_ray.dropin.submitted_task import SubmittedTask
from dfz_ray.dropin.task_future import TaskFuture, awaitable
from dfz_ray.dropin.task_list import TaskList
from dfz_ray.errors import InfrastructureLost
from dfz_ray.protocol.task_events import FailedTask
from dfz_ray.specs.encoding import encode

RESULT = encode({"main_score": 1.0})


def submit(tasks: TaskList, *labels: str) -> list[SubmittedTask]:
    return [tasks.make(SubmittedTask, label, {"id": label}) for label in labels]


def test_a_record_follows_a_task() -> None:
    """A task is pending, then running with the time that has elapsed, then completed with the worker's times."""
    tasks = TaskList()
    (task,) = submit(tasks, "a")
    assert (tasks.status("a")["status"], tasks.status("b")) == ("pending", {"task_id": "b", "status": "unknown"})
    task.begin()
    running = tasks.status("a")
    assert running["status"] == "running"
    assert 0 <= running["elapsed"] < 10
    task.complete(RESULT, 10.0, 12.5)
    answer = {
        "task_id": "a",
        "status": "success",
        "result": {"main_score": 1.0},
        "start_time": 10.0,
        "end_time": 12.5,
        "duration": 2.5,
    }
    times = {"start_time": 10.0, "end_time": 12.5, "duration": 2.5}
    assert tasks.status("a") == {"task_id": "a", "status": "completed", **times, "result": answer}
    assert task.future.result(0) == answer


def test_a_result_has_the_keys_of_the_old_system_too() -> None:
    """Scripts of the old module find the time of a maze or a sorting under the name without a unit."""
    tasks = TaskList()
    for domain, ours, old in (("maze", "completion_time_s", "completion_time"), ("sorting", "time_s", "time")):
        task = tasks.make(SubmittedTask, domain, {"id": domain, "domain": domain})
        task.begin()
        task.complete(encode({ours: 0.25}), 1.0, 2.0)
        assert task.future.result(0)["result"] == {ours: 0.25, old: 0.25}


def test_a_task_that_fails_has_a_text() -> None:
    """A failed task has an error and the foreground's dictionary with it; its future gives that, and raises nothing."""
    tasks = TaskList()
    (task,) = submit(tasks, "a")
    task.on_failed(FailedTask(0, "timeout", "it took too long", None, began_at=1.0, ended_at=2.0))
    record = tasks.status("a")
    assert (record["status"], record["error"], record["duration"]) == ("failed", "timeout: it took too long", 1.0)
    assert task.future.result(0) is record["result"]
    record.update(record["result"])
    assert record["status"] == "error"


def test_events_that_come_twice_count_once() -> None:
    """Events that come twice change neither the record nor the tasks that have ended."""
    tasks = TaskList()
    (task,) = submit(tasks, "a")
    task.complete(RESULT, 1.0, 2.0)
    before = tasks.status("a")
    task.begin()
    task.on_cancelled()
    assert tasks.status("a") == before
    assert list(tasks.wait_all(0)) == ["a"]


def test_a_callback_that_exits_changes_no_record() -> None:
    """A done-callback that exits raises, and the record stays what it was, also if the run then fails the task."""
    tasks = TaskList()
    (task,) = submit(tasks, "a")
    task.future.add_done_callback(lambda _: sys.exit("bye"))
    with pytest.raises(SystemExit):
        task.complete(RESULT, 1.0, 2.0)
    task.fail(SystemExit("bye"))
    assert tasks.status("a")["status"] == "completed"
    assert list(tasks.wait_all(0)) == list(tasks.ended_since(0)[0]) == ["a"]


def test_a_task_that_was_failed_does_not_complete_later() -> None:
    """The result of a task that its caller has failed meanwhile is not wanted any more: a task ends once."""
    tasks = TaskList()
    (task,) = submit(tasks, "a")
    task.fail(KeyboardInterrupt())
    task.complete(RESULT, 1.0, 2.0)
    task.fail(InfrastructureLost("the run is over"))
    task.on_cancelled()
    assert tasks.status("a")["status"] == "failed"
    assert task.future.result(0)["status"] == "error"
    assert list(tasks.ended_since(0)[0]) == ["a"]
    wait_briefly(tasks, 1)


def wait_briefly(tasks: TaskList, count: int) -> None:
    """`wait_all` returns at once with so many records, for all tasks have ended."""
    waiting = threading.Thread(target=tasks.wait_all, args=[None], daemon=True)
    waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()
    assert len(tasks.wait_all(0)) == count


ENDING = (TaskFuture.cancel, TaskFuture.begin, TaskFuture.claim_end, SubmittedTask._end, TaskList.on_end)
"""The code that a cancellation executes."""


def test_an_interrupted_cancellation_leaves_no_task_open() -> None:
    """Wherever Ctrl-C interrupts a cancellation, the task that its run then ends has ended, and so has its future."""
    for function, line in itertools.product(ENDING, range(20)):
        tasks = TaskList()
        (task,) = submit(tasks, "a")
        with interrupted(function, line):
            task.future.cancel()
        task.begin()
        task.complete(RESULT, 1.0, 2.0)
        assert wait([task.future], 5).done == {task.future}
        assert task.future.cancelled() == (tasks.status("a")["status"] == "cancelled")
        assert list(tasks.ended_since(0)[0]) == ["a"]
        wait_briefly(tasks, 1)


def test_an_interrupted_end_is_made_up_for() -> None:
    """Wherever Ctrl-C interrupts the end of a task that its own caller fails, another one ends it."""
    for line in range(20):
        tasks = TaskList()
        (task,) = submit(tasks, "a")
        with interrupted(SubmittedTask._end, line):
            task.fail(InfrastructureLost("no"))
        task.fail(KeyboardInterrupt())
        assert tasks.status("a")["status"] == "failed"
        assert task.future.result(0)["status"] == "error"
        wait_briefly(tasks, 1)


def test_a_task_that_was_not_made_to_its_end_is_not_there() -> None:
    """Wherever Ctrl-C interrupts the making of a task, nobody waits for it, and an earlier task of its id is found."""
    for line in range(30):
        tasks = TaskList()
        (earlier,) = submit(tasks, "a")
        earlier.complete(RESULT, 1.0, 2.0)
        made: list[SubmittedTask] = []
        with interrupted(TaskList.make, line) as interruption:
            tasks.make(SubmittedTask, "a", {"id": "a"}, made)
        if interruption.has_come:
            assert made == []
            assert tasks.find("a") is earlier
            wait_briefly(tasks, 1)
        else:
            assert tasks.find("a") is made[0]


def test_ids_that_come_again_are_stored_apart() -> None:
    """A repeated id means the latest task; the earlier one is still there under the id that it was stored under."""
    tasks = TaskList()
    first, second, third = submit(tasks, "a", "a", "a#2")
    assert [one.stored_id for one in (first, second, third)] == ["a", "a#2", "a#2#2"]
    second.complete(RESULT, 1.0, 2.0)
    assert tasks.status("a")["status"] == "completed"
    assert tasks.status("a#2")["status"] == "pending"


def test_an_end_is_collected_once() -> None:
    """Collecting returns the tasks that have ended since the last time; of two with one id the later one is id#2."""
    tasks = TaskList()
    first, second, other = submit(tasks, "a", "a", "b")
    first.complete(RESULT, 1.0, 2.0)
    second.complete(RESULT, 2.0, 3.0)
    records, position = tasks.ended_since(0)
    assert {name: record["start_time"] for name, record in records.items()} == {"a": 1.0, "a#2": 2.0}
    assert tasks.ended_since(position)[0] == {}
    other.complete(RESULT, 1.0, 2.0)
    assert list(tasks.ended_since(position)[0]) == ["b"]


def test_a_returned_batch_is_not_collected_in_place_of_a_later_one() -> None:
    """Tasks that reuse the ids of an earlier batch are collected, not those of the earlier batch."""
    tasks = TaskList()
    earlier = SubmittedBatch(submit(tasks, "a", "b"), 1)
    for task in earlier.tasks:
        task.complete(RESULT, 1.0, 2.0)
    assert list(earlier.answer(with_results=True)["results"]) == ["a", "b"]
    (later,) = submit(tasks, "a")
    records, position = tasks.ended_since(0)
    assert list(records) == ["b"]
    later.complete(RESULT, 5.0, 6.0)
    assert tasks.ended_since(position)[0]["a"]["start_time"] == 5.0


def test_a_future_that_is_cancelled_ends_its_task() -> None:
    """A future is cancelled as long as no worker has begun its task; then the task is cancelled, and stays so."""
    tasks = TaskList()
    pending, running = submit(tasks, "a", "b")
    running.begin()
    assert pending.future.cancel()
    assert pending.future.cancel()
    assert not running.future.cancel()
    assert wait([pending.future], 1).done == {pending.future}
    with pytest.raises(CancelledError):
        pending.future.result(0)
    pending.complete(RESULT, 1.0, 2.0)
    assert tasks.status("a")["status"] == "cancelled"
    assert list(tasks.wait_all(0)) == ["a"]
    assert tasks.metrics(1)["total_tasks"] == 2


def test_callbacks_see_what_the_record_says() -> None:
    """When a future calls back, its task's record says how it ended, and it may be collected."""
    tasks = TaskList()
    done, cancelled = submit(tasks, "a", "b")
    seen: list[Any] = []
    done.future.add_done_callback(lambda _: seen.append((tasks.status("a")["status"], list(tasks.ended_since(0)[0]))))
    cancelled.future.add_done_callback(lambda _: seen.append(tasks.status("b")["status"]))
    done.complete(RESULT, 1.0, 2.0)
    cancelled.future.cancel()
    assert seen == [("completed", ["a"]), "cancelled"]


def test_a_task_that_its_run_cancels_is_cancelled() -> None:
    """A run may cancel a task, waiting or running; the future of a running one then raises."""
    tasks = TaskList()
    pending, running = submit(tasks, "a", "b")
    running.begin()
    for task in (pending, running):
        task.on_cancelled()
    assert [tasks.status(name)["status"] for name in ("a", "b")] == ["cancelled", "cancelled"]
    assert pending.future.cancelled()
    with pytest.raises(CancelledError):
        running.future.result(0)


def test_futures_are_cancelled_and_begun_by_many_threads() -> None:
    """However cancelling and beginning meet, a future ends in one way, and its task hears of it at most once."""
    for _ in range(200):
        told: list[str] = []
        future = TaskFuture("a", lambda told=told: told.append("cancelled"))  # type: ignore[misc]
        start = threading.Barrier(3)

        def cancel(future: TaskFuture = future, start: threading.Barrier = start) -> None:
            start.wait()
            future.cancel()

        def begin(future: TaskFuture = future, start: threading.Barrier = start) -> None:
            start.wait()
            if future.begin():
                future.set_result(1)

        threads = [threading.Thread(target=work) for work in (cancel, cancel, begin)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert future.done()
        assert told == (["cancelled"] if future.cancelled() else [])


def test_waiting_for_all_tells_what_is_done() -> None:
    """After its timeout `wait_all` returns what has ended; without one it waits for all."""
    tasks = TaskList()
    first, second = submit(tasks, "a", "b")
    first.complete(RESULT, 1.0, 2.0)
    assert list(tasks.wait_all(0.01)) == ["a"]
    threading.Timer(0.05, lambda: second.complete(RESULT, 1.0, 2.0)).start()
    assert list(tasks.wait_all(None)) == ["a", "b"]
    assert second.future.done()


def test_a_batch_is_done_with_its_last_task() -> None:
    """A batch without tasks is done at once, any other with its last task; it returns the results that are there."""
    tasks = TaskList()
    assert SubmittedBatch([], 1).done.done()
    batch = SubmittedBatch(submit(tasks, "a", "b"), 2)
    batch.tasks[1].complete(RESULT, 1.0, 2.0)
    assert not batch.done.done()
    told = batch.answer(with_results=True)
    assert (list(told["futures"]), list(told["results"])) == (["a", "b"], ["b"])
    assert "results" not in batch.answer(with_results=False)
    batch.tasks[0].future.cancel()
    assert batch.done.done()
    assert batch.answer(with_results=True)["results"]["a"]["status"] == "cancelled"


def test_metrics_are_numbers() -> None:
    """A metric without measurements is 0, so that scripts can format it; rates are fractions."""
    tasks = TaskList()
    empty = tasks.metrics(2)
    assert (empty["success_rate"], empty["avg_duration"], empty["task_durations"]) == (0.0, 0.0, [])
    good, bad, refused = submit(tasks, "a", "b", "c")
    good.complete(RESULT, 1.0, 3.0)
    bad.on_failed(FailedTask(1, "exception", "no", None, began_at=2.0, ended_at=3.0))
    refused.fail(InfrastructureLost("it can't be"))
    metrics = tasks.metrics(2)
    assert metrics["success_rate"] == pytest.approx(1 / 3)
    assert (metrics["total_tasks"], metrics["failed_tasks"], metrics["max_concurrency"]) == (3, 2, 2)
    assert metrics["task_durations"] == [2.0, 1.0]
    assert in_numbers({"throughput": None, "n": 0}) == {"throughput": 0.0, "n": 0}


def test_an_awaitable_future_follows() -> None:
    """A future of the event loop gives what the other one gives, raises what it raises, and cancels it."""

    async def main() -> None:
        good, bad, left, dropped = (Future[int]() for _ in range(4))
        waiting = [awaitable(future) for future in (good, bad, left, dropped)]
        threading.Timer(0.01, good.set_result, [1]).start()
        bad.set_exception(KeyError("no"))
        dropped.cancel()
        assert await waiting[0] == 1
        with pytest.raises(KeyError):
            await waiting[1]
        waiting[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[3]
        await asyncio.sleep(0)
        assert left.cancelled()

    asyncio.run(main())


def test_a_future_may_end_after_its_loop(caplog: pytest.LogCaptureFixture) -> None:
    """A future that ends when the event loop is closed complains of nothing."""
    future: Future[int] = Future()

    async def main() -> None:
        awaitable(future)

    asyncio.run(main())
    future.set_result(1)
    assert caplog.records == []


def test_futures_time_out() -> None:
    """Waiting for a result for too long raises TimeoutError, and the task goes on."""
    tasks = TaskList()
    (task,) = submit(tasks, "a")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        task.future.result(0.01)
    assert time.monotonic() - began < 5
    assert tasks.status("a")["status"] == "pending"
