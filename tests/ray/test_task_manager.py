"""ConcurrentTaskManager: any function as a task, with futures that behave as the standard library's do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, TimeoutError, as_completed, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfz_ray import ConcurrentTaskManager, InvalidInput, create_concurrent_dfz_plugin
from dfz_ray.driver.domain_shipping import ship_by_value

ship_by_value(sys.modules[__name__])  # tasks call functions of this module

ROOT = Path(__file__).parents[2]


@pytest.fixture
def manager(cluster: None) -> Iterator[ConcurrentTaskManager]:
    with ConcurrentTaskManager(max_workers=2) as manager:
        yield manager


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Path]:
    """A file that holds tasks as long as it exists."""
    path = tmp_path / "door"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def hold(task: dict[str, Any], context: Any) -> dict[str, Any]:
    until = time.monotonic() + 60
    while Path(task["door"]).exists() and time.monotonic() < until:
        time.sleep(0.01)
    return {"held": True}


def wait_for_status(manager: ConcurrentTaskManager, task_id: str, status: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while (record := manager.get_task_status(task_id))["status"] != status:
        assert time.monotonic() < until, record
        time.sleep(0.01)
    return record


class Odd(Exception):
    """An exception of a script's own."""


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def count(self, task: dict[str, Any], context: Any) -> dict[str, Any]:
        self.calls += 1
        return {"calls": self.calls}


def test_any_function_is_a_task(manager: ConcurrentTaskManager) -> None:
    """A lambda, a closure, a method, and a coroutine function run in a worker, with task and context handed through."""
    offset = np.int64(5)

    def closure(task: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
        return {"sum": int(task["value"] + offset + context["more"])}

    async def coroutine(task: dict[str, Any], context: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"task": task["id"], "context": context}

    counter = Counter()
    futures = [
        manager.submit_task(lambda task, context: {"twice": 2 * task["value"]}, {"id": "lambda", "value": 4}),
        manager.submit_task(closure, {"id": "closure", "value": np.float64(1)}, {"more": 10}),
        manager.submit_task(counter.count, {"id": "method"}),
        manager.submit_task(coroutine, {"id": "coroutine"}),
    ]
    results = [future.result(300) for future in futures]
    assert (results[0]["twice"], results[1]["sum"], results[2]["calls"]) == (8, 16, 1)
    assert (results[3]["task"], results[3]["context"]) == ("coroutine", None)
    assert counter.calls == 0  # it travelled by value


def test_a_function_travels_as_it_is_when_it_is_submitted(manager: ConcurrentTaskManager) -> None:
    """A closure travels with the values that it refers to when it is submitted, for each task anew."""
    state = {"value": 0}
    futures = []
    for value in range(5):
        state["value"] = value
        futures.append(manager.submit_task(lambda task, context: {"seen": state["value"]}, {}))
    assert [future.result(300)["seen"] for future in futures] == [0, 1, 2, 3, 4]


def test_the_result_is_the_functions_own_with_the_times(manager: ConcurrentTaskManager) -> None:
    """The record's result is what the function returned, with its times added unless it has some of its own."""
    future = manager.submit_task(lambda task, context: {"status": "success", "duration": -1}, {"id": "t"})
    result = future.result(300)
    record = manager.get_task_status("t")
    assert record["result"] == result
    assert (record["status"], result["duration"]) == ("completed", -1)
    assert (result["start_time"], result["end_time"]) == (record["start_time"], record["end_time"])
    assert record["duration"] == pytest.approx(record["end_time"] - record["start_time"])
    assert manager.submit_task(lambda task, context: [1, 2], {}).result(300) == [1, 2]


def test_an_exception_keeps_its_type(manager: ConcurrentTaskManager) -> None:
    """A future raises what the function raised; the record has failed, with a text."""

    def fail(task: Any, context: Any) -> None:
        raise Odd("not like this")

    future = manager.submit_task(fail, {"id": "bad"})
    with pytest.raises(Odd, match="not like this") as raised:
        future.result(300)
    assert "in fail" in str(raised.value.__cause__)
    record = manager.get_task_status("bad")
    assert (record["status"], record["error"]) == ("failed", "Odd: not like this")
    assert (record["result"]["status"], record["result"]["error"]) == ("error", "Odd: not like this")
    assert manager.get_metrics()["failure_rate"] == 1.0


def test_what_cannot_travel_fails_alone(manager: ConcurrentTaskManager) -> None:
    """A task that can't be pickled fails with the exception of pickling it; the others run."""
    bad = manager.submit_task(lambda task, context: 1, {"id": "lock", "lock": threading.Lock()})
    good = manager.submit_task(lambda task, context: 1, {"id": "good"})
    assert good.result(300) == 1
    assert isinstance(bad.exception(60), TypeError)
    assert "can't be sent to the workers" in manager.get_task_status("lock")["error"]


def test_an_id_may_be_any_text(manager: ConcurrentTaskManager) -> None:
    """A file's name that is no UTF-8 is as good an id as any other, and disturbs no one."""
    name = os.fsdecode(b"\xff.csv")
    futures = [manager.submit_task(lambda task, _: {"of": len(task["id"])}, {"id": one}) for one in (name, "b", name)]
    assert [future.result(300)["of"] for future in futures] == [5, 1, 5]
    assert manager.get_task_status(name)["status"] == "completed"
    assert set(manager.wait_all(30)) == {name, "b", "\\udcff.csv#2"}


def test_the_plugins_own_methods_are_tasks(manager: ConcurrentTaskManager) -> None:
    """The plugin's `execute_task` is a task function like any other, as old scripts have it."""
    plugin = create_concurrent_dfz_plugin()
    task = {"id": "m", "domain": "maze", "parameters": {"size_x": 8, "size_y": 8}}
    result = manager.submit_task(plugin.execute_task, task, {}).result(300)
    assert result["status"] == "success"
    assert result["result"]["path"] == plugin.execute_task(task)["result"]["path"]


def test_futures_cancel_and_time_out(manager: ConcurrentTaskManager, door: Path) -> None:
    """A waiting task can be cancelled, a running one can't; after a TimeoutError of its future it goes on."""
    running = [manager.submit_task(hold, {"id": f"r{n}", "door": str(door)}) for n in range(2)]
    for n in range(2):
        assert wait_for_status(manager, f"r{n}", "running")["elapsed"] >= 0
    waiting = manager.submit_task(hold, {"id": "w", "door": str(door)})
    with pytest.raises(TimeoutError):
        running[0].result(0.05)
    assert running[0].running()
    assert not running[0].cancel()
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(0)
    assert manager.get_task_status("w")["status"] == "cancelled"
    door.unlink()
    assert wait(running, 60).not_done == set()
    assert {future.result()["held"] for future in as_completed(running, 60)} == {True}
    assert manager.get_metrics()["total_tasks"] == 3


def test_all_are_waited_for(manager: ConcurrentTaskManager, door: Path) -> None:
    """`wait_all` returns the tasks that have ended at its timeout, or all of them; collecting returns each once."""
    held = manager.submit_task(hold, {"id": "held", "door": str(door)})
    quick = manager.submit_task(lambda task, context: {"quick": True}, {"id": "quick"})
    quick.result(300)
    assert list(manager.wait_all(timeout=0.05)) == ["quick"]
    assert list(manager.collect_completed_tasks()) == ["quick"]
    door.unlink()
    assert list(manager.wait_all()) == ["held", "quick"]
    assert held.done()
    assert list(manager.collect_completed_tasks()) == ["held"]
    assert manager.collect_completed_tasks() == {}


def test_thousands_of_tasks_are_sent_together(manager: ConcurrentTaskManager) -> None:
    """Tasks that are submitted one by one are sent many at a time; each has its own result and a unique id."""
    futures = [manager.submit_task(lambda task, context: {"n": task["n"]}, {"id": "same", "n": n}) for n in range(2000)]
    assert [future.result(300)["n"] for future in futures] == list(range(2000))
    records = manager.wait_all()
    assert len(records) == 2000
    assert manager.get_metrics()["successful_tasks"] == 2000


def test_after_a_shutdown_nothing_is_taken(cluster: None, door: Path) -> None:
    """Shutting down waits for what was submitted, or cancels what has not begun; then a submission is refused."""
    manager = ConcurrentTaskManager(max_workers=1)
    held = manager.submit_task(hold, {"id": "held", "door": str(door)})
    wait_for_status(manager, "held", "running")
    waiting = manager.submit_task(hold, {"id": "waits", "door": str(door)})
    manager.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        manager.submit_task(hold, {})
    door.unlink()
    manager.shutdown()
    assert held.result(0)["held"]


def test_one_worker_never_runs_two_tasks(cluster: None) -> None:
    """No more tasks than `max_workers` run at once, whatever the cluster offers."""
    with ConcurrentTaskManager(max_workers=np.int64(1)) as manager:
        for _ in range(10):
            manager.submit_task(lambda task, context: time.sleep(0.02), {})
        manager.wait_all()
        metrics = manager.get_metrics()
    assert (metrics["max_concurrency"], metrics["total_tasks"]) == (1, 10)


def meet(task: dict[str, Any], context: str) -> dict[str, Any]:
    """Wait until all of them run."""
    folder = Path(context)
    (folder / str(task["n"])).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < task["all"] and time.monotonic() < until:
        time.sleep(0.01)
    return {"met": len(list(folder.iterdir())), "pid": os.getpid()}


@pytest.mark.long
def test_tasks_that_wait_share_processes(cluster: None, tmp_path: Path) -> None:
    """With `use_processes=False` tasks run on threads of worker processes: more of them at once than there are CPUs."""
    with ConcurrentTaskManager(max_workers=12, use_processes=False) as manager:
        assert manager.use_processes is False
        futures = [manager.submit_task(meet, {"n": n, "all": 12}, str(tmp_path)) for n in range(12)]
        results = [future.result(300) for future in futures]
        assert manager.get_metrics()["max_concurrency"] == 12
    assert {result["met"] for result in results} == {12}
    assert len({result["pid"] for result in results}) < 12


@pytest.mark.parametrize("workers", [0, -1, 1.5, "4", True])
def test_a_number_of_workers_that_cannot_be_is_refused(workers: Any) -> None:
    """`max_workers` is a whole number of at least 1."""
    with pytest.raises(InvalidInput, match="max_workers"):
        ConcurrentTaskManager(max_workers=workers)


GIVEN_UP = """
import gc, sys, threading, time
from dfz_ray import ConcurrentTaskManager

def threads():
    return sum(thread.name.startswith("dfz_ray sends") for thread in threading.enumerate())

for _ in range(5):
    manager = ConcurrentTaskManager(max_workers=1)
    future = manager.submit_task(lambda task, context: 1, {})
    del manager
    gc.collect()
    assert future.result(300) == 1
until = time.monotonic() + 60
while threads() and time.monotonic() < until:
    time.sleep(0.05)
print(threads())

class Script:
    def method(self, task, context):
        return {"value": helper(task["n"])}

def helper(n):
    return n * FACTOR

FACTOR = 3
manager = ConcurrentTaskManager()
print([manager.submit_task(Script().method, {"n": n}).result(300)["value"] for n in range(3)])
"""


@pytest.mark.long
def test_a_manager_that_is_given_up_ends() -> None:
    """Without a reference to it a manager ends when its tasks have; functions of a script are sent by value."""
    done = subprocess.run([sys.executable, "-c", GIVEN_UP], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n[0, 3, 6]\n", "", 0)
