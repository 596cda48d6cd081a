"""The actor of a manager: calls in threads, whose answers come from one event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

from dfz_ray.manager.actor import FILES, make_actor
from dfz_ray.manager.later import Later, run_later
from dfz_ray.manager.loop_thread import read_busy_s
from dfz_ray.manager.task_manager import TaskManager


class Door:
    """A manager whose calls wait for a door."""

    def __init__(self, name: str) -> None:
        self.opened: Later[str] = Later()
        self.name = name
        self.visitors = self.most = 0

    def __repr__(self) -> str:
        return f"door {self.name}"

    def knock(self) -> int:
        """Answer at once."""
        return 7

    def open(self) -> None:
        """Answer the one who waits."""
        self.opened.set(self.name)

    def enter(self) -> Later[str]:
        """Answer later."""
        return self.opened.then(str.upper)

    async def wait(self, seconds: float) -> int:
        """Answer later, as a coroutine does."""
        await asyncio.sleep(seconds)
        return self.stay()

    def stay(self) -> int:
        """Be there for a while, and tell the most that were ever there at once."""
        self.visitors += 1
        self.most = max(self.most, self.visitors)
        time.sleep(0.001)  # another thread may run meanwhile
        self.visitors -= 1
        return self.most

    def work(self, seconds: float) -> None:
        """Use the CPU for a while."""
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def measure(self) -> float:
        """The CPU seconds of the loop."""
        return read_busy_s()

    def break_in(self) -> None:
        """Fail at once."""
        raise PermissionError("not here")

    def wait_in_vain(self) -> Later[None]:
        """Fail later."""

        async def fail() -> None:
            raise PermissionError("nor here")

        return run_later(fail())


@pytest.fixture
def door() -> Iterator[Any]:
    """An actor's object, as Ray makes it."""
    made = make_actor(Door)("oak")
    yield made
    made.loop.stop()


def test_calls_of_all_kinds_are_answered(door: Any) -> None:
    """Whether the answer is there at once or comes later, and whatever other calls wait meanwhile."""
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(door.enter), threads.submit(door.wait, 0.01)
        assert door.knock() == 7
        assert not waiting[0].done()
        assert door.open() is None
        assert [call.result(10.0) for call in waiting] == ["OAK", 1]
    assert repr(door) == "door oak"


def test_no_two_calls_are_made_at_once(door: Any) -> None:
    """Whatever runs in the threads of calls and in the loop's own: each has its turn, as in one thread."""
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(*call) for call in [(door.stay,), (door.wait, 0.001)] * 50]
        assert {call.result(10.0) for call in calls} == {1}


def test_the_loop_has_its_turns_between_those_of_many_callers(door: Any) -> None:
    """Commits and timers are its own: they must not wait until nobody calls any more."""
    with ThreadPoolExecutor(16) as threads:
        busy = [threads.submit(door.stay) for _ in range(500)]
        door.wait(0.001)
        assert not busy[-1].done()
        for call in busy:
            call.cancel()


def test_time_in_turns_counts_as_the_loops(door: Any) -> None:
    """Whichever threads take them: so the share of the time for which the manager is busy is known."""
    before_s = door.measure()
    door.work(0.02)
    assert door.measure() - before_s > 0.015


@pytest.mark.parametrize("variable", ["PYTHONASYNCIODEBUG", "PYTHONDEVMODE"])
def test_the_debug_modes_of_python_refuse_no_turn(variable: str) -> None:
    """Workers of Ray inherit them from their driver."""
    code = """
import asyncio
from dfz_ray.manager.actor import make_actor
class Manager:
    def later(self):
        asyncio.get_running_loop().call_later(0.0, print, "later")
    async def wait(self):
        await asyncio.sleep(0.01)
        return "answer"
manager = make_actor(Manager)()
manager.later()
print(manager.wait())
"""
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, variable: "1"}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["later", "answer"]


def test_what_a_call_leaves_for_later_is_done(door: Any) -> None:
    """The loop's thread waits already when the call gives it something: it must not wait on."""
    for _ in range(20):
        assert door.wait(0.0) == 1


def test_errors_reach_their_callers(door: Any) -> None:
    """Each caller meets its own one, and the others are answered as ever."""
    with pytest.raises(PermissionError, match="not here") as found:
        door.break_in()
    assert found.traceback[-1].name == "break_in"  # a defect is told with the place where it is
    with pytest.raises(PermissionError, match="nor here") as found:
        door.wait_in_vain()
    assert found.traceback[-1].name == "fail"
    assert door.knock() == 7


def test_ray_takes_it_for_an_actor_with_threads(door: Any) -> None:
    """A single coroutine among its methods would make Ray run all of them in a loop, where each call takes longer."""
    methods = dict(inspect.getmembers(type(door), inspect.isfunction))
    assert methods.keys() >= {name for name in vars(Door) if not name.startswith("_")}
    assert not any(map(inspect.iscoroutinefunction, methods.values()))


def test_ray_shows_no_calls_of_it_and_files_have_threads_of_their_own() -> None:
    """Ray finds the options of each method; among thousands of calls nobody would find the leases."""
    found = ray.remote(make_actor(TaskManager)).__ray_metadata__.method_meta
    assert set(found.enable_task_events) >= {"exchange", "submit_and_take", "progress", "get_file"}
    assert not any(shown for name, shown in found.enable_task_events.items() if not name.startswith("__"))
    assert found.concurrency_group_for_methods == {"get_file": FILES}


def test_an_answer_is_given_once() -> None:
    """What comes after it changes nothing: a lease whose call has failed may still be answered."""
    later: Later[int] = Later()
    later.set(1)
    later.set(2)
    later.fail(ValueError())
    assert later.read() == 1
    assert later.then(lambda number: number / 0).then(str).is_set
