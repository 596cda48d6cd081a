"""The Ray actor that a manager is: threads that wait for the answers of its one event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

import ray

from dfz_ray.manager.later import Later, run_later


class LoopThread(threading.Thread):
    """An event loop in a thread of its own, for calls that other threads wait for.

    Ray would run coroutines of an actor in a loop, too; but each of its calls goes to that loop twice, and twice back,
    which takes a quarter of a millisecond longer (benchmarks/RESULTS.md).
    """

    def __init__(self) -> None:
        super().__init__(name="dfz manager", daemon=True)
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        """Run the loop, in this thread, as long as the process lives."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def stop(self) -> None:
        """Run no further call."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the loop, and return its answer or raise its error. Other threads call this.

        It returns the answer, or one that comes later, or a coroutine that has it.
        """
        waits, answers = allocate_lock(), list[Later[Any]]()
        waits.acquire()
        self._loop.call_soon_threadsafe(_answer, function, arguments, answers, waits.release)
        waits.acquire()
        return answers[0].read()


def _answer(
    function: Callable[..., Any], arguments: tuple[Any, ...], answers: list[Later[Any]], tell: Callable[[], None]
) -> None:
    answer: Any
    later: Later[Any] = Later()
    try:
        answer = function(*arguments)
    except BaseException as error:
        later.fail(error)
    else:
        if isinstance(answer, Later):
            later = answer
        elif inspect.iscoroutine(answer):
            later = run_later(answer)
        else:
            later.set(answer)
    answers.append(later)
    later.when_set(tell)


def make_actor(manager: type) -> type:
    """The class of an actor that has the public methods of a manager, each of which its event loop executes.

    Its calls are left out of Ray's dashboard, where they would hide the leases. The actor's start stays there: the
    dashboard takes it as the parent of what the actor calls, and groups no call whose parent is hidden.
    """

    def start(self: Any, *arguments: Any, **options: Any) -> None:
        self.manager, self.loop = manager(*arguments, **options), LoopThread()
        self.loop.start()

    members: dict[str, Any] = {
        name: ray.method(enable_task_events=False)(_pass_on(method))
        for name, method in inspect.getmembers(manager, inspect.isfunction)
        if not name.startswith("_")
    }
    members |= {"__init__": start, "__repr__": lambda self: repr(self.manager), "__doc__": manager.__doc__}
    return type(manager.__name__, (), members)


def _pass_on(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        return self.loop.call(method, self.manager, *arguments)

    return call
