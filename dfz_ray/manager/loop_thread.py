"""An event loop whose turns several threads take: nothing of it runs in two of them at once."""

from __future__ import annotations

import asyncio
import inspect
import selectors
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

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
    """An event loop that notes whether it was given anything, and the CPU seconds of other threads' turns."""

    has_more = False
    turns_s = 0.0

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
    twice back. A chain of calls on an executor takes a sixth less time without that (benchmarks/RESULTS.md).
    """

    def __init__(self) -> None:
        super().__init__(name="dfz manager", daemon=True)
        self._turn = threading.Lock()
        """Is held by the thread whose turn it is."""
        self._next = threading.Lock()
        """Is held by the caller whose turn is the next one: else the loop's thread would wait behind all callers."""
        self._loop = _Loop(_Turns(self._turn))
        self._loop.set_debug(False)  # as it would refuse the turns of other threads

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
        with self._next:
            self._turn.acquire()
        try:
            begun_s, loop.has_more = time.thread_time(), False
            asyncio._set_running_loop(loop)
            try:
                answer = _call(function, arguments)
                answer.when_set(answered.release)
            finally:
                asyncio._set_running_loop(None)
            if loop.has_more:
                loop.call_soon_threadsafe(lambda: None)  # its thread may wait for something that comes later
            loop.turns_s += time.thread_time() - begun_s
        finally:
            self._turn.release()
        answered.acquire()
        return answer.read()


def read_busy_s() -> float:
    """The CPU seconds that the turns of the running loop have taken so far, in its own thread and in others."""
    loop = asyncio.get_running_loop()
    return time.thread_time() + (loop.turns_s if isinstance(loop, _Loop) else 0.0)


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
