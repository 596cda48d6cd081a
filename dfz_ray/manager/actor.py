"""The Ray actor that a manager is: threads that take turns in its one event loop."""

from __future__ import annotations

import asyncio
import functools
import inspect
import selectors
import threading
from _thread import allocate_lock
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

import ray

from dfz_ray.manager.later import Later, run_later

Arguments = TypeVarTuple("Arguments")


class _Turns(selectors.DefaultSelector):
    """Ends the turn of the loop's thread while it waits, so that other threads take theirs."""

    def __init__(self, turn: threading.Lock) -> None:
        super().__init__()
        self._turn = turn

    def select(self, timeout: float | None = None) -> Any:
        """Wait for what the loop waits for."""
        self._turn.release()
        try:
            return super().select(timeout)
        finally:
            self._turn.acquire()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that notes whether it was given anything."""

    has_more = False

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        """Call something in the loop's next turn."""
        self.has_more = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call something at a time."""
        self.has_more = True
        return super().call_at(when, callback, *args, context=context)


class LoopThread(threading.Thread):
    """An event loop whose turns other threads may take: a call is a turn in the thread that makes it.

    Ray would run coroutines of an actor in a loop, too; but each of its calls goes to the loop's thread twice, and
    twice back. A chain of calls on an executor takes 0.8 of the time without that (benchmarks/RESULTS.md).
    """

    def __init__(self) -> None:
        super().__init__(name="dfz manager", daemon=True)
        self._turn = threading.Lock()
        """Is held by the thread whose turn it is: nothing of the loop runs in two threads at once."""
        self._loop = _Loop(_Turns(self._turn))

    def run(self) -> None:
        """Run the loop, in this thread, as long as the process lives."""
        asyncio.set_event_loop(self._loop)
        with self._turn:
            self._loop.run_forever()

    def stop(self) -> None:
        """Run no further call."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, and return its answer or raise its error. Other threads than the loop's call this.

        It returns the answer, or one that comes later, or a coroutine that has it, which the loop runs.
        """
        answered, loop = allocate_lock(), self._loop
        answered.acquire()
        with self._turn:
            loop.has_more = False
            asyncio._set_running_loop(loop)
            try:
                answer = _call(function, arguments)
                answer.when_set(answered.release)
            finally:
                asyncio._set_running_loop(None)
            if loop.has_more:
                loop.call_soon_threadsafe(lambda: None)  # its thread may wait for something that comes later
        answered.acquire()
        return answer.read()


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Later[Any]:
    """Call a function; its answer, or its error."""
    try:
        answer = function(*arguments)
    except BaseException as error:
        failed: Later[Any] = Later()
        failed.fail(error)
        return failed
    if isinstance(answer, Later):
        return answer
    if inspect.iscoroutine(answer):
        return run_later(answer)
    there: Later[Any] = Later()
    there.set(answer)
    return there


def make_actor(manager: type) -> type:
    """The class of an actor that has the public methods of a manager, each a turn of its event loop.

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
